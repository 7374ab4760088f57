"""A model's networks, built by the libraries' own classes on tensors without data."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from app.core.policy import Precision
from app.engine.coefficients import NetworkCoefficients, ParameterCounts
from app.engine.forecast.model_spec import ModelSpec
from app.engine.libraries import diffusers_class, transformers_class

Untyped = Any
"""A network or a pipeline of diffusers or transformers, or a class of them."""
DTYPES = {Precision.BF16: torch.bfloat16, Precision.FP32: torch.float32}
_SHALLOW_BLOCKS = 2


def build_transformer(spec: ModelSpec, dtype: torch.dtype, *, shallow: bool = False) -> Untyped:
    """The transformer.

    Args:
        spec: Of the model.
        dtype: Of the weights.
        shallow: With two blocks of each kind instead of all: the same peak, in less time.
    """
    config = dict(spec.configs["transformer"])
    if shallow:
        for name in ("num_layers", "num_single_layers"):
            config[name] = min(_SHALLOW_BLOCKS, config[name])
    return _build(diffusers_class("Flux2Transformer2DModel"), config, dtype)


def build_autoencoder(spec: ModelSpec, dtype: torch.dtype) -> Untyped:
    """The autoencoder."""
    return _build(diffusers_class("AutoencoderKLFlux2"), spec.configs["autoencoder"], dtype)


def build_text_encoder(spec: ModelSpec, dtype: torch.dtype) -> Untyped:
    """The text encoder, whole, as the pipeline loads it."""
    network_class: Untyped = transformers_class(spec.layout.text_encoder_class)
    config = network_class.config_class.from_dict(dict(spec.configs["text_encoder"]))
    with torch.device("meta"):
        return network_class._from_config(config, dtype=dtype).eval()


def tensors_of(network: Untyped) -> list[torch.Tensor]:
    """Its weights and buffers; shared ones once."""
    found: list[torch.Tensor] = [*network.parameters(), *network.buffers()]
    return found


def count_parameters(component: str, network: Untyped) -> NetworkCoefficients:
    """Parameters of a network and of its blocks.

    Args:
        component: "text_encoder", "transformer" or "autoencoder".
        network: With all its blocks.
    """
    blocks = tuple(_count(block) for block in _blocks(component, network))
    total = sum(tensor.numel() for tensor in tensors_of(network))
    inside = sum(block.matrices + block.others for block in blocks)
    matrices = [
        layer.weight.numel()
        for block in _blocks(component, network)
        for layer in block.modules()
        if isinstance(layer, torch.nn.Linear)
    ]
    return NetworkCoefficients(
        outside=total - inside, blocks=blocks, largest_matrix=max(matrices, default=0)
    )


def _build(network_class: Untyped, config: Mapping[str, Any], dtype: torch.dtype) -> Untyped:
    values = {name: value for name, value in config.items() if not name.startswith("_")}
    with torch.device("meta"):
        network = network_class.from_config(values)
    # Not the network's own `to`, which warns about casting.
    return torch.nn.Module.to(network, dtype).eval()


def _blocks(component: str, network: Untyped) -> Iterator[torch.nn.Module]:
    if component == "transformer":
        yield from network.transformer_blocks
        yield from network.single_transformer_blocks
    elif component == "text_encoder":
        yield from network.get_decoder().layers


def _count(block: torch.nn.Module) -> ParameterCounts:
    matrices = sum(
        layer.weight.numel() for layer in block.modules() if isinstance(layer, torch.nn.Linear)
    )
    total = sum(tensor.numel() for tensor in tensors_of(block))
    return ParameterCounts(matrices=matrices, others=total - matrices)
