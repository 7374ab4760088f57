"""Sizes and times as numbers in base units, and the one place that turns them into text."""

KIB = 1024
MIB = 1024**2
GIB = 1024**3


def format_bytes(size_bytes: int) -> str:
    """A size for people, in binary units: "512 B", "3.4 MiB", "11.8 GiB"."""
    if abs(size_bytes) < KIB:
        return f"{size_bytes} B"
    unit, name = KIB, "KiB"
    for larger, larger_name in ((MIB, "MiB"), (GIB, "GiB")):
        # After rounding: a byte short of 1 MiB is "1.0 MiB", not "1024 KiB".
        if round(abs(size_bytes) / unit) >= 1024:
            unit, name = larger, larger_name
    value = size_bytes / unit
    return f"{value:.0f} {name}" if round(abs(value), 1) >= 100 else f"{value:.1f} {name}"


def format_seconds(seconds: float) -> str:
    """A duration for people: "0.42 s", "12 s", "3 min 05 s", "2 h 10 min"."""
    # Limits are of the rounded number: 59.6 s is "1 min 00 s", not "60 s".
    if round(seconds, 2) < 10:
        return f"{seconds:.2f} s"
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def format_rate(seconds_per_step: float) -> str:
    """Speed of denoising: "1.8 s/it", or "2.4 it/s" when a step takes under a second."""
    if seconds_per_step <= 0:
        return "–"
    if seconds_per_step < 1:
        return f"{1 / seconds_per_step:.1f} it/s"
    return f"{seconds_per_step:.1f} s/it"
