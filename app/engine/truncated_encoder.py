"""The text encoder with only what is read of it: no head, no vision, no layer past the last.

The pipelines take hidden states from inside the encoder; what lies behind the last of them changes
nothing. The table of embeddings stays in the computer's memory: of its hundreds of megabytes a
prompt needs a few rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from app.engine.libraries import transformers_class
from app.engine.model_components import final_norm_read, text_layers_read


class TruncatedTextEncoder(nn.Module):
    """A text encoder as diffusers' FLUX.2 pipelines call it, bit for bit like the whole one.

    Attributes:
        model: Qwen3Model or MistralModel of transformers with the layers that are read.
        table: Embeddings (vocabulary, width) in the computer's memory, in whatever type they are
            stored; no part of the module's parameters, so nothing ever moves it. None until it is
            loaded.
        dtype: The layers compute in.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        """Take a decoder without embeddings.

        Args:
            model: See `build_text_encoder`.
            dtype: It computes in.
        """
        super().__init__()
        self.model = model
        self.dtype = dtype
        self.table: torch.Tensor | None = None

    @property
    def device(self) -> torch.device:
        """Where it computes; known from what never streams."""
        found: torch.Tensor = self.model.get_buffer("rotary_emb.inv_freq")
        return found.device

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        *,
        output_hidden_states: bool = True,
        use_cache: bool = False,
    ) -> Any:  # noqa: ANN401 - a ModelOutput of transformers
        """The output of transformers, of which only `hidden_states` is meant to be read.

        Args:
            input_ids: Tokens (prompts, tokens) on any device.
            attention_mask: Of the same shape; 0 where a prompt is padded.
            output_hidden_states: As the pipelines say it.
            use_cache: As the pipelines say it.

        Raises:
            RuntimeError: The table is not loaded.
        """
        table = self.table
        if table is None:
            raise RuntimeError("the text encoder's embeddings are not loaded")
        # Rows are converted after they are picked: the same numbers, without a second table.
        rows = nn.functional.embedding(input_ids.to(table.device), table).to(self.dtype)
        device = self.device
        return self.model(
            inputs_embeds=rows.to(device),
            attention_mask=attention_mask.to(device),
            output_hidden_states=output_hidden_states,
            use_cache=use_cache,
        )


def build_text_encoder(
    class_name: str,
    values: Mapping[str, Any],
    out_layers: Sequence[int],
    dtype: torch.dtype,
) -> TruncatedTextEncoder:
    """The network on "meta", without weights and without its table.

    Args:
        class_name: Of the whole encoder, as in model_index.json.
        values: Content of its config.json.
        out_layers: Hidden states that will be read.
        dtype: Of weights.
    """
    whole: Any = transformers_class(class_name).config_class.from_dict(dict(values))
    config = whole.get_text_config()
    keeps_norm = final_norm_read(out_layers, config.num_hidden_layers)
    layers = text_layers_read(out_layers)
    kinds: Sequence[str] | None = getattr(config, "layer_types", None)
    if kinds is not None:
        # Which attention each layer has, decided by the depth of the whole network.
        config.layer_types = list(kinds[:layers])
    config.num_hidden_layers = layers
    auto_model: Any = transformers_class("AutoModel")
    with torch.device("meta"):
        model = auto_model.from_config(config, dtype=dtype)
    # The table is looked up outside; see `TruncatedTextEncoder.table`.
    model.embed_tokens = None
    if not keeps_norm:
        model.norm = nn.Identity()
    return TruncatedTextEncoder(model, dtype).eval()


def restore_computed_buffers(encoder: TruncatedTextEncoder) -> None:
    """Give an encoder from "meta" in RAM what no file has: the frequencies of positions."""
    model: Any = encoder.model
    model.rotary_emb = type(model.rotary_emb)(config=model.config)
