"""A picture's precision, memory mode and attention, brought back into the choices about memory."""

import enum
from dataclasses import dataclass, replace
from typing import TypeVar

from PySide6.QtCore import QCoreApplication

from app.core.plan import GenerationPlan
from app.core.policy import (
    AUTOENCODER_PRECISIONS,
    Attention,
    MemoryMode,
    MemoryPolicy,
    Precision,
    Precisions,
)
from app.ui.models.memory_choices import attention_word, mode_word, precision_word
from app.ui.models.picture_memory import PictureMemory

_COMPONENTS = ("transformer", "text_encoder", "autoencoder")
_GGUF = "gguf "
"""How the words for such files begin, as in "gguf Q8_0"."""
_WHOLE = frozenset({Precision.FP32, Precision.BF16})
_MAX_TILE_PX = 8192
_Word = TypeVar("_Word", bound=enum.Enum)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReusedMemory:
    """What the choices become.

    Attributes:
        policy: The choices with the picture's; what is left to others on the GPU stays the user's.
        changes: What is another choice than before, in a few words each.
        unknown: What cannot be taken, in a few words each.
        untold: Whether the picture says neither precision nor memory mode.
    """

    policy: MemoryPolicy
    changes: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    untold: bool = False

    def sentences(self) -> tuple[str, ...]:
        """What is to be said; nothing where all is as before."""
        said: list[str] = []
        if self.changes:
            said.append(_tr("Changed under Memory: {what}.").format(what=", ".join(self.changes)))
        if self.unknown:
            text = _tr("Unknown here, and left as it was: {what}.")
            said.append(text.format(what=", ".join(self.unknown)))
        if self.untold:
            said.append(_tr("The picture does not tell its precision; yours is left as it was."))
        return tuple(said)


def reused_memory(
    picture: PictureMemory, now: MemoryPolicy, automatic: GenerationPlan | None
) -> ReusedMemory:
    """The choices about memory with which the picture comes out the same.

    Args:
        picture: How it was made.
        now: The choices as they are.
        automatic: What automatic precisions come to here for the picture's request; None where
            that cannot be told yet.
    """
    unknown: list[str] = []
    policy = now
    if picture.ran_in or picture.asked:
        found = {name: _precision(picture, name, automatic, unknown) for name in _COMPONENTS}
        known = {name: one for name, one in found.items() if one is not None}
        policy = replace(policy, precisions=replace(policy.precisions, **known))
    mode = _known(MemoryMode, picture.mode, _tr("memory mode"), unknown)
    if mode is not None:
        policy = replace(policy, mode=mode)
    attention = _known(Attention, picture.attention, _tr("attention"), unknown)
    if attention is not None:
        policy = replace(policy, attention=attention)
    if picture.compiled is not None:
        policy = replace(policy, compile=picture.compiled)
    if picture.tells_tiles and _is_tile(picture.tile_px):
        policy = replace(policy, tile_px=picture.tile_px)
    return ReusedMemory(
        policy=policy,
        changes=_changes(now, policy),
        unknown=tuple(dict.fromkeys(unknown)),
        untold=not (picture.ran_in or picture.asked or picture.mode),
    )


def _precision(
    picture: PictureMemory, name: str, automatic: GenerationPlan | None, unknown: list[str]
) -> Precision | None:
    """What a component is to be kept in; None leaves it as it is.

    Automatic stays automatic where it comes to the same here: else the picture would be another.
    """
    what = _tr("precision")
    asked = _known(Precision, picture.asked.get(name, ""), what, unknown)
    ran_word = picture.ran_in.get(name, "")
    # What others have made runs so whatever is chosen: there is nothing to choose again.
    ran_in = None if ran_word.startswith(_GGUF) else _known(Precision, ran_word, what, unknown)
    chosen = ran_in
    if asked is not None and (asked is not Precision.AUTO or ran_in is None):
        chosen = asked
    elif ran_in is not None:
        here = _automatic(automatic, name)
        if ran_in is here or (here is None and asked is Precision.AUTO):
            chosen = Precision.AUTO
        elif ran_in in _WHOLE and here in _WHOLE:
            # A CPU's fp32 is a GPU's bf16: nobody wants twice the memory for it.
            chosen = Precision.AUTO
    if chosen is not None and name == "autoencoder" and chosen not in AUTOENCODER_PRECISIONS:
        unknown.append(f"{what} “{chosen.value}”")
        return None
    return chosen


def _automatic(plan: GenerationPlan | None, name: str) -> Precision | None:
    parts = () if plan is None else plan.components
    return next((part.precision for part in parts if part.name == name), None)


def _known(kind: type[_Word], word: str, what: str, unknown: list[str]) -> _Word | None:
    """The member a word stands for; None for "" and for words of other versions."""
    if not word:
        return None
    try:
        return kind(word)
    except ValueError:
        shown = word if len(word) <= 20 else f"{word[:19]}…"
        unknown.append(f"{what} “{' '.join(shown.split())}”")
        return None


def _is_tile(tile_px: int | None) -> bool:
    return tile_px is None or 0 <= tile_px <= _MAX_TILE_PX


def _changes(before: MemoryPolicy, after: MemoryPolicy) -> tuple[str, ...]:
    changes: list[str] = []
    if after.precisions != before.precisions:
        changes.append(_precisions_words(after.precisions))
    if after.mode is not before.mode:
        changes.append(_tr("on the GPU: {mode}").format(mode=_lower(mode_word(after.mode))))
    if after.attention is not before.attention:
        word = attention_word(after.attention)
        changes.append(_tr("attention: {word}").format(word=_lower(word)))
    if after.compile != before.compile:
        changes.append(_tr("blocks are compiled") if after.compile else _tr("nothing is compiled"))
    if after.tile_px != before.tile_px:
        changes.append(_tiles_words(after.tile_px))
    return tuple(changes)


def _precisions_words(precisions: Precisions) -> str:
    word = _lower(precision_word(precisions.transformer))
    if precisions.text_encoder is precisions.transformer:
        return _tr("weights in: {precision}").format(precision=word)
    encoder = _lower(precision_word(precisions.text_encoder))
    return _tr("weights in: {precision}, text encoder in: {encoder}").format(
        precision=word, encoder=encoder
    )


def _tiles_words(tile_px: int | None) -> str:
    if tile_px is None:
        return _tr("decode tiles: automatic")
    if tile_px == 0:
        return _tr("decoded whole")
    return _tr("decode tiles: {edge} px").format(edge=tile_px)


def _lower(word: str) -> str:
    """Within a sentence; names like xFormers stay as they are."""
    return word[:1].lower() + word[1:] if word[1:2].islower() else word


def _tr(text: str) -> str:
    return QCoreApplication.translate("ReusedMemory", text)
