"""A model's networks, built by the libraries' own classes on tensors without data."""

import functools
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from app.core.policy import Precision
from app.engine.forecast.model_spec import ModelSpec
from app.engine.libraries import diffusers_class
from app.engine.quantize.recipe import Recipe
from app.engine.quantize.skeleton import quantized_skeleton
from app.engine.truncated_encoder import build_text_encoder
from app.engine.weight_sizes import NetworkCoefficients, ParameterCounts, Tensors

Untyped = Any
"""A network or a pipeline of diffusers or transformers, or a class of them."""
DTYPES = {Precision.BF16: torch.bfloat16, Precision.FP32: torch.float32}
_SHALLOW_BLOCKS = 2
_WEIGHT_DEVIATION = 0.02
_BY_NAME = Recipe(precision=Precision.FP8)


class Networks:
    """The networks of one model on one device, in one precision; each is built when asked for.

    Attributes:
        device: "meta" for networks without data; elsewhere they have random weights.
        dtype: Of weights and inputs.
    """

    def __init__(
        self,
        spec: ModelSpec,
        device: str,
        dtype: torch.dtype,
        *,
        shallow: bool = False,
        recipe: Recipe | None = None,
    ) -> None:
        """Build nothing yet.

        Args:
            spec: Of the model.
            device: A device of torch.
            dtype: Of weights and inputs.
            shallow: Whether the transformer has two blocks of each kind instead of all.
            recipe: Of quantized layers in text encoder and transformer; only on "meta".
        """
        self.device = device
        self.dtype = dtype
        self._spec = spec
        self._shallow = shallow
        self._recipe = recipe

    @functools.cached_property
    def text_encoder(self) -> Untyped:
        """The part of it that is read; the table of embeddings stays in RAM."""
        spec = self._spec
        values = spec.configs["text_encoder"]
        encoder: Untyped = self._filled(
            build_text_encoder(
                spec.layout.text_encoder_class, values, spec.text_out_layers, self.dtype
            )
        )
        config = encoder.model.config
        # What is looked up is copied to the device: on "meta" it must be there from the start.
        place = "meta" if self.device == "meta" else "cpu"
        encoder.table = torch.zeros(
            config.vocab_size, config.hidden_size, dtype=self.dtype, device=place
        )
        return self._quantized(encoder)

    @functools.cached_property
    def transformer(self) -> Untyped:
        """With all blocks, or two of each kind."""
        config = dict(self._spec.configs["transformer"])
        if self._shallow:
            for name in ("num_layers", "num_single_layers"):
                config[name] = min(_SHALLOW_BLOCKS, config[name])
        return self._quantized(self._of_diffusers("Flux2Transformer2DModel", config))

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

    def _quantized(self, network: Untyped) -> Untyped:
        if self._recipe is not None:
            quantized_skeleton(network, self._recipe)
        return network

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
    """The tensors of a network and of its blocks.

    Args:
        component: "text_encoder", "transformer" or "autoencoder".
        network: With all its blocks.
    """
    blocks = _blocks(component, network)
    counted = [_count(name, block) for name, block in blocks.items()]
    kinds = tuple(dict.fromkeys(counted))
    inside = {id(tensor) for block in blocks.values() for tensor in tensors_of(block)}
    outside = [tensor for tensor in tensors_of(network) if id(tensor) not in inside]
    table: torch.Tensor | None = getattr(network, "table", None)
    return NetworkCoefficients(
        outside=ParameterCounts(others=_sizes(outside)),
        ram_only=ParameterCounts(others=() if table is None else _sizes([table])),
        kinds=kinds,
        blocks=tuple(kinds.index(block) for block in counted),
    )


def _blocks(component: str, network: Untyped) -> dict[str, torch.nn.Module]:
    """The blocks by their names in the network, in the order they run."""
    stacks = {
        "transformer": ("transformer_blocks", "single_transformer_blocks"),
        "text_encoder": ("model.layers",),
    }
    return {
        f"{stack}.{index}": block
        for stack in stacks.get(component, ())
        for index, block in enumerate(network.get_submodule(stack))
    }


def _count(name: str, block: Untyped) -> ParameterCounts:
    weights = [
        layer.weight
        for inner, layer in block.named_modules()
        # Whether its size suits, depends on the precision; here the name is what counts.
        if isinstance(layer, torch.nn.Linear) and _BY_NAME.covers(f"{name}.{inner}", 64, 64)
    ]
    matrices = Counter((weight.shape[0], weight.shape[1]) for weight in weights)
    quantizable = {id(weight) for weight in weights}
    return ParameterCounts(
        matrices=tuple((*shape, count) for shape, count in sorted(matrices.items())),
        others=_sizes(tensor for tensor in tensors_of(block) if id(tensor) not in quantizable),
    )


def _sizes(tensors: Iterable[torch.Tensor]) -> Tensors:
    return tuple(sorted(Counter(tensor.numel() for tensor in tensors).items()))
