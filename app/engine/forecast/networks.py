"""A model's networks, built by the libraries' own classes on tensors without data."""

import functools
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
_WEIGHT_DEVIATION = 0.02


class Networks:
    """The networks of one model on one device, in one precision; each is built when asked for.

    Attributes:
        device: "meta" for networks without data; elsewhere they have random weights.
        dtype: Of weights and inputs.
    """

    def __init__(
        self, spec: ModelSpec, device: str, dtype: torch.dtype, *, shallow: bool = False
    ) -> None:
        """Build nothing yet.

        Args:
            spec: Of the model.
            device: A device of torch.
            dtype: Of weights and inputs.
            shallow: Whether the transformer has two blocks of each kind instead of all.
        """
        self.device = device
        self.dtype = dtype
        self._spec = spec
        self._shallow = shallow

    @functools.cached_property
    def text_encoder(self) -> Untyped:
        """Whole, as the pipeline loads it."""
        network_class: Untyped = transformers_class(self._spec.layout.text_encoder_class)
        values = dict(self._spec.configs["text_encoder"])
        config = network_class.config_class.from_dict(values)
        with torch.device("meta"):
            network = network_class._from_config(config, dtype=self.dtype)
        network = self._filled(network)
        # What has one weight on "meta" has two after it left.
        network.tie_weights()
        return network

    @functools.cached_property
    def transformer(self) -> Untyped:
        """With all blocks, or two of each kind."""
        config = dict(self._spec.configs["transformer"])
        if self._shallow:
            for name in ("num_layers", "num_single_layers"):
                config[name] = min(_SHALLOW_BLOCKS, config[name])
        return self._of_diffusers("Flux2Transformer2DModel", config)

    @functools.cached_property
    def autoencoder(self) -> Untyped:
        """Encoder and decoder."""
        return self._of_diffusers("AutoencoderKLFlux2", self._spec.configs["autoencoder"])

    def _of_diffusers(self, class_name: str, config: Mapping[str, Any]) -> Untyped:
        values = {name: value for name, value in config.items() if not name.startswith("_")}
        with torch.device("meta"):
            network = diffusers_class(class_name).from_config(values)
        # Not the network's own `to`, which warns about casting.
        return self._filled(torch.nn.Module.to(network, self.dtype))

    def _filled(self, network: Untyped) -> Untyped:
        """The same on the device, with weights that keep numbers small."""
        if self.device != "meta":
            network = network.to_empty(device=self.device)
            for tensor in tensors_of(network):
                if tensor.is_floating_point():
                    tensor.data.normal_(0.0, _WEIGHT_DEVIATION)
        return network.eval()


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
