"""How many tokens a prompt has for a model, and what of it is cut: exact, without torch."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import Template
from tokenizers import AddedToken, Tokenizer

from app.core.errors import ModelError
from app.core.request import MAX_PROMPT_TOKENS
from app.engine.chat_template import compile_template, read_template, render
from app.engine.model_components import ModelFamily
from app.engine.model_folder import ModelInfo
from app.engine.model_json import convert_config, missing_file, read_json

DEV_SYSTEM_MESSAGE = (
    "You are an AI that reasons about image descriptions. You give structured responses focusing "
    "on object relationships, object\nattribution and actions without speculation."
)
"""SYSTEM_MESSAGE of diffusers' Flux2Pipeline: dev was trained with it; a test compares the two."""
# Stands where the prompt will be, to find out where that is; no template writes it.
_PLACEHOLDER = "\ue000prompt\ue000"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCount:
    """Length of a prompt for a model.

    Attributes:
        tokens: In all, with those the chat template adds.
        limit: How many the model reads.
        cut: End of the prompt that the model does not see; "" when all fits.
    """

    tokens: int
    limit: int
    cut: str


class _TokenContent(msgspec.Struct, frozen=True):
    content: str


_Token = str | _TokenContent


class _TokenizerConfig(msgspec.Struct, frozen=True, kw_only=True):
    bos_token: _Token | None = None
    eos_token: _Token | None = None
    unk_token: _Token | None = None
    sep_token: _Token | None = None
    pad_token: _Token | None = None
    cls_token: _Token | None = None
    mask_token: _Token | None = None
    additional_special_tokens: tuple[_Token, ...] | None = None
    extra_special_tokens: tuple[_Token, ...] | dict[str, _Token] | None = None

    def named_tokens(self) -> dict[str, str]:
        """Tokens with a role; templates know them by these names."""
        tokens = {
            "bos_token": self.bos_token,
            "eos_token": self.eos_token,
            "unk_token": self.unk_token,
            "sep_token": self.sep_token,
            "pad_token": self.pad_token,
            "cls_token": self.cls_token,
            "mask_token": self.mask_token,
        }
        return {name: _text(token) for name, token in tokens.items() if token is not None}

    def other_tokens(self) -> tuple[str, ...]:
        """Special tokens without a role."""
        # The newer name goes before the older one.
        tokens = self.extra_special_tokens or self.additional_special_tokens or ()
        tokens = tuple(tokens.values()) if isinstance(tokens, dict) else tokens
        return tuple(_text(token) for token in tokens)


class PromptTokenizer:
    """Counts tokens as the tokenizer of diffusers' pipeline for a model does."""

    def __init__(self, info: ModelInfo, tokenizer: Tokenizer, template: Template) -> None:
        """Use a tokenizer and a chat template; see `open`."""
        self._folder = info.folder / "tokenizer"
        self._dev = info.family is ModelFamily.DEV
        self._tokenizer = tokenizer
        self._template = template
        config = _read_config(self._folder)
        self._special_tokens = config.named_tokens()
        _add_special_tokens(tokenizer, [*self._special_tokens.values(), *config.other_tokens()])
        # What the file says about padding and truncation would change the count.
        tokenizer.no_padding()
        tokenizer.no_truncation()

    @classmethod
    def open(cls, info: ModelInfo) -> "PromptTokenizer":
        """Read the tokenizer of a model; takes up to a second for large ones.

        Raises:
            ModelError: The tokenizer or its chat template is missing or broken.
        """
        folder = info.folder / "tokenizer"
        file = folder / "tokenizer.json"
        if not file.is_file():
            raise missing_file(file)
        try:
            tokenizer = Tokenizer.from_file(str(file))
        # The library raises plain Exception for whatever it cannot read.
        except Exception as error:
            raise ModelError(
                f"The tokenizer {file} cannot be read: download it again from the model's source.",
                code="model.unknown_config",
                details=str(error),
            ) from error
        source = read_template(folder, processor=info.family is ModelFamily.DEV)
        return cls(info, tokenizer, compile_template(source, folder))

    def count(self, prompt: str) -> TokenCount:
        """Count the tokens of a prompt.

        Raises:
            ModelError: The model's chat template fails.
        """
        # Half characters, which a text field can hold, are no text.
        prompt = prompt.encode(errors="replace").decode()
        if self._dev:
            # As the pipeline does: to its processor this is the place of a picture.
            prompt = prompt.replace("[IMG]", "")
        text = self._render(prompt)
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        added = self._added_tokens(text)
        tokens = len(encoding) + added
        cut = ""
        if tokens > MAX_PROMPT_TOKENS:
            first_cut = encoding.offsets[MAX_PROMPT_TOKENS - added][0]
            cut = prompt[max(0, first_cut - self._prompt_start(text, prompt)) :]
        return TokenCount(tokens=tokens, limit=MAX_PROMPT_TOKENS, cut=cut)

    def _render(self, prompt: str) -> str:
        if self._dev:
            messages = [_message("system", DEV_SYSTEM_MESSAGE), _message("user", prompt)]
            options = {"add_generation_prompt": False}
        else:
            messages = [{"role": "user", "content": prompt}]
            options = {"add_generation_prompt": True, "enable_thinking": False}
        variables = {"tools": None, "documents": None, **options}
        return render(
            self._template,
            self._folder,
            messages=messages,
            **{**variables, **self._special_tokens},
        )

    def _prompt_start(self, text: str, prompt: str) -> int:
        """Where in the rendered text the prompt begins; templates may trim it."""
        start = self._render(_PLACEHOLDER).find(_PLACEHOLDER)
        if start >= 0 and text.startswith(prompt, start):
            return start
        trimmed = prompt.strip()
        return text.rfind(trimmed) - prompt.find(trimmed)

    def _added_tokens(self, text: str) -> int:
        """How many tokens the tokenizer puts around a text by itself."""
        begin = self._special_tokens.get("bos_token")
        # A processor, unlike a tokenizer, looks whether the template has begun the text already.
        if self._dev and begin is not None and text.startswith(begin):
            return 0
        return self._tokenizer.num_special_tokens_to_add(is_pair=False)


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}


def _read_config(folder: Path) -> _TokenizerConfig:
    """tokenizer_config.json; in older folders special_tokens_map.json has the last word."""
    path, older = folder / "tokenizer_config.json", folder / "special_tokens_map.json"
    values = read_json(path)
    if values.get("added_tokens_decoder") is None and older.is_file():
        values |= read_json(older)
    return convert_config(values, _TokenizerConfig, path)


def _text(token: _Token) -> str:
    return token if isinstance(token, str) else token.content


def _add_special_tokens(tokenizer: Any, tokens: Iterable[str]) -> None:  # noqa: ANN401 - a Tokenizer; stubs say list[Unknown]
    """Make tokens that only the config calls special whole, as transformers does."""
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    missing = dict.fromkeys(token for token in tokens if token not in known)
    tokenizer.add_tokens([AddedToken(token, special=True) for token in missing])
