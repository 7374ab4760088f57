"""The icon of each verdict: told apart by shape, not by colour alone."""

from app.core.plan import Verdict

_LOOKS: dict[Verdict | None, tuple[str, str]] = {
    Verdict.FITS: ("verdict-fits", "good"),
    Verdict.STREAMS: ("verdict-streams", "accent"),
    Verdict.SMALLER: ("verdict-smaller", "warning"),
    Verdict.DOES_NOT_FIT: ("verdict-no", "danger"),
    None: ("verdict-unknown", "muted"),
}


def verdict_icon(verdict: Verdict | None) -> tuple[str, str]:
    """Name of a verdict's icon and its colour's role; None is no verdict yet."""
    return _LOOKS[verdict]
