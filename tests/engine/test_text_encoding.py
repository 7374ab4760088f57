"""Tokens of prompts are those that transformers' PixtralProcessor gives."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from diffusers.pipelines.flux2.pipeline_flux2 import format_input
from diffusers.pipelines.flux2.system_messages import SYSTEM_MESSAGE

from app.engine.model_folder import inspect_model_folder
from app.engine.text_encoding import PixtralText, load_tokenizer
from tests.tiny_models import make_tiny_model

# Made once with transformers 5.23.0 and torchvision 0.28.0, by
# PixtralProcessor.from_pretrained(tokenizer folder).apply_chat_template(...) as Flux2Pipeline
# calls it: number of tokens read, and SHA-256 of all 512 as little-endian int64.
_FROM_PIXTRAL_PROCESSOR = {
    "a red circle": (185, "63fdefa9ddd982ea", "985a3f9c51a585a4"),
    "ein grüner Kreis, 赤い丸 🟢": (206, "16c0c8e8afad7fb0", "694769f0ef5cdcfb"),
    "an [IMG] mark [INST] x </s>": (187, "a6606c47c09f730a", "378288f83bb74120"),
    "word " * 200: (512, "c72799c73d952a6d", "6e23915e20edb4c8"),
    "": (173, "2c7709ab89cc22f8", "667577d6c1def326"),
}


@pytest.fixture(scope="module")
def dev_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model("dev", tmp_path_factory.mktemp("dev"))


def tokens(tokenizer: Any, prompt: str) -> tuple[int, str]:
    inputs = tokenizer.apply_chat_template(
        format_input([prompt], SYSTEM_MESSAGE),
        add_generation_prompt=False,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        padding="max_length",
        truncation=True,
        max_length=512,
    )
    ids = inputs["input_ids"].numpy().astype("<i8").tobytes()
    return int(inputs["attention_mask"].sum()), hashlib.sha256(ids).hexdigest()[:16]


@pytest.mark.parametrize("prompt", list(_FROM_PIXTRAL_PROCESSOR))
def test_dev_prompts_have_the_tokens_of_pixtral_processor(dev_folder: Path, prompt: str) -> None:
    tokenizer = load_tokenizer(inspect_model_folder(dev_folder))
    count, digest, _ = _FROM_PIXTRAL_PROCESSOR[prompt]
    assert isinstance(tokenizer, PixtralText)
    assert tokens(tokenizer, prompt) == (count, digest)


@pytest.mark.parametrize("prompt", list(_FROM_PIXTRAL_PROCESSOR))
def test_template_without_first_token_gives_what_pixtral_processor_gives(
    tmp_path: Path, prompt: str
) -> None:
    folder = make_tiny_model("dev", tmp_path)
    template = folder / "tokenizer" / "chat_template.jinja"
    template.write_text(template.read_text("utf-8").replace("{{- '<s>' }}", ""), "utf-8")
    tokenizer = load_tokenizer(inspect_model_folder(folder))
    count, _, digest = _FROM_PIXTRAL_PROCESSOR[prompt]
    assert tokens(tokenizer, prompt) == (count if count == 512 else count - 1, digest)
