"""Telling what of a long prompt the model does not see."""

from app.engine.model_folder import ModelInfo
from app.engine.prompt_tokens import PromptTokenizer

_SURELY_SHORT_BYTES = 240
"""A token has at least one byte, and no chat template of FLUX.2 adds 270: all of this is read."""
_SHOWN_CHARACTERS = 300


def prompt_cut_message(info: ModelInfo, prompt: str) -> str | None:
    """One sentence with the part of a prompt that is cut; None when all of it is read.

    Raises:
        ModelError: The model's tokenizer cannot be read.
    """
    if len(prompt.encode("utf-8", "replace")) <= _SURELY_SHORT_BYTES:
        return None
    count = PromptTokenizer.open(info).count(prompt)
    if not count.cut:
        return None
    cut = count.cut.strip()
    shown = cut if len(cut) <= _SHOWN_CHARACTERS else cut[:_SHOWN_CHARACTERS] + "…"
    return (
        f"The prompt has {count.tokens} tokens and the model reads {count.limit}: "
        f"shorten it, or this end of it has no effect: “{shown}”"
    )
