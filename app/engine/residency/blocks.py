"""Which parts of a network run one after the other, and can be streamed."""

from typing import Any

import torch


def streamable_blocks(component: str, network: Any) -> tuple[torch.nn.Module, ...]:  # noqa: ANN401
    """Parts of a network that run one after the other, in the order that plans number them.

    Args:
        component: "text_encoder", "transformer" or "autoencoder".
        network: Of diffusers or transformers.
    """
    if component == "transformer":
        return (*network.transformer_blocks, *network.single_transformer_blocks)
    if component == "text_encoder":
        model = network.model
        # Encoders that can see keep their text part one level down.
        return tuple(getattr(model, "language_model", model).layers)
    return ()
