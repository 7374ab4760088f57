"""The tokenizers of the pipelines, and prompts turned into embeddings."""

from pathlib import Path
from typing import Any

import msgspec
import torch

from app.engine.chat_template import read_template
from app.engine.libraries import transformers_class
from app.engine.model_components import ModelFamily
from app.engine.model_folder import ModelInfo


class PixtralText:
    """What Flux2Pipeline asks of its PixtralProcessor when there are no pictures.

    transformers' own PixtralProcessor cannot be imported without torchvision, which must match
    torch to the build, and which nothing else here needs.
    """

    def __init__(self, tokenizer: Any, chat_template: str) -> None:  # noqa: ANN401 - untyped library
        self.tokenizer = tokenizer
        self._chat_template = chat_template

    def apply_chat_template(
        self,
        conversations: list[list[dict[str, Any]]],
        *,
        add_generation_prompt: bool,
        return_tensors: str,
        padding: str,
        truncation: bool,
        max_length: int,
        **_always_so: bool,
    ) -> Any:  # noqa: ANN401 - a BatchEncoding
        """Token ids and attention mask, (conversations, max_length) each.

        Args:
            conversations: Messages with a list of texts as content.
            add_generation_prompt: Passed to the template.
            return_tensors: As for any tokenizer.
            padding: As for any tokenizer.
            truncation: As for any tokenizer.
            max_length: As for any tokenizer.
            _always_so: `tokenize` and `return_dict`, which the pipeline sets.
        """
        tokenizer = self.tokenizer
        texts: list[str] = tokenizer.apply_chat_template(
            conversations,
            chat_template=self._chat_template,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
        )
        # As ProcessorMixin does: the template may write the first token itself.
        begins = tokenizer.bos_token is not None and texts[0].startswith(tokenizer.bos_token)
        return tokenizer(
            texts,
            add_special_tokens=not begins,
            return_tensors=return_tensors,
            padding=padding,
            truncation=truncation,
            max_length=max_length,
        )


class _Index(msgspec.Struct, frozen=True):
    tokenizer: tuple[str, str]


def load_tokenizer(info: ModelInfo) -> Any:  # noqa: ANN401 - a tokenizer of transformers, or PixtralText
    """The tokenizer of a model's pipeline."""
    folder = info.folder / "tokenizer"
    if info.family is ModelFamily.DEV:
        tokenizer = _from_folder("AutoTokenizer", folder)
        return PixtralText(tokenizer, read_template(folder, processor=True))
    index = msgspec.json.decode((info.folder / "model_index.json").read_bytes(), type=_Index)
    return _from_folder(index.tokenizer[1], folder)


def _from_folder(class_name: str, folder: Path) -> Any:  # noqa: ANN401 - untyped library
    return transformers_class(class_name).from_pretrained(str(folder), local_files_only=True)


def encode_prompt(pipeline: Any, info: ModelInfo, prompt: str) -> torch.Tensor:  # noqa: ANN401
    """The embeddings (1, tokens, width) of a prompt, as the pipeline itself makes them.

    They come in the precision of the transformer, on the device the pipeline runs on.
    """
    with torch.no_grad():
        embeddings, _text_ids = pipeline.encode_prompt(
            prompt=prompt, text_encoder_out_layers=info.text_out_layers
        )
    # A no-op in the released models, whose networks are all stored alike.
    return embeddings.to(pipeline.transformer.dtype)
