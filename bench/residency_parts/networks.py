"""Transformers of FLUX.2 with random weights, made block by block so that RAM holds them."""

import zlib
from collections.abc import Callable, Collection
from typing import Any

import torch
from diffusers.models.transformers.transformer_flux2 import Flux2Transformer2DModel

from app.core.policy import Precision
from app.core.request import MAX_PROMPT_TOKENS
from app.engine.quantize.linear import empty_linear
from app.engine.quantize.recipe import QUANTIZED, Recipe
from app.engine.quantize.skeleton import named_modules, quantizable
from app.engine.residency.blocks import streamable_blocks
from app.engine.residency.host_network import HostBuffer, HostNetwork, RamBlock
from app.engine.residency.leaves import ModuleTensors
from bench.residency_parts.work import tokens_of, transformer_config

DTYPE = torch.bfloat16
NAME = "transformer"
POOL = 1 << 22
"""Random numbers that are made; weights are pieces of them, which takes no time."""
DEVIATION = 0.02
_PRIME = 4_294_967_291

Allocate = Callable[[int], HostBuffer]


class RandomWeights:
    """Fills networks from "meta" with the same random weights each time, by their names."""

    def __init__(self, precision: str, device: torch.device) -> None:
        """Make the pool.

        Args:
            precision: Of the blocks' linear layers.
            device: Where weights are quantized.
        """
        kept = Precision(precision)
        self._recipe = Recipe(precision=kept) if kept in QUANTIZED else None
        self._device = device
        generator = torch.Generator().manual_seed(0)
        self._pool = torch.randn(POOL, generator=generator).mul_(DEVIATION).to(DTYPE)

    def fill(
        self,
        module: torch.nn.Module,
        prefix: str = "",
        *,
        without: Collection[torch.nn.Module] = (),
    ) -> None:
        """Give a module weights in RAM, and quantize what the recipe covers, layer by layer.

        Args:
            module: On "meta"; changed.
            prefix: Of its names in the network, with the dot.
            without: Modules below it that are left as they are.
        """
        left_out = {id(below) for root in without for below in root.modules()}
        for name, below in list(named_modules(module)):
            if id(below) in left_out:
                continue
            whole = f"{prefix}{name}"
            for key, parameter in list(below.named_parameters(recurse=False)):
                data = self._weights(f"{whole}.{key}", parameter.shape)
                below.register_parameter(key, torch.nn.Parameter(data, requires_grad=False))
            recipe = self._recipe
            if recipe is None or not isinstance(below, torch.nn.Linear):
                continue
            if quantizable(whole, below, recipe):
                self._quantize(module, name, below, recipe)

    def _quantize(
        self, module: torch.nn.Module, name: str, linear: torch.nn.Linear, recipe: Recipe
    ) -> None:
        made = empty_linear(linear, recipe)
        made.codes, made.scales = made.encode_all(linear.weight, self._device)
        parent, _, attribute = name.rpartition(".")
        setattr(module.get_submodule(parent), attribute, made)

    def _weights(self, name: str, shape: torch.Size) -> torch.Tensor:
        made = torch.empty(shape, dtype=DTYPE)
        flat = made.view(-1)
        begin = zlib.crc32(name.encode()) * 2_654_435_761 % _PRIME % POOL
        done = 0
        while done < flat.numel():
            piece = self._pool[begin : begin + flat.numel() - done]
            flat[done : done + piece.numel()] = piece
            done += piece.numel()
            begin = 0
        return made


def meta_network(model: str) -> Any:  # noqa: ANN401 - untyped library
    """The transformer without weights."""
    with torch.device("meta"):
        network: Any = Flux2Transformer2DModel.from_config(transformer_config(model))
    return torch.nn.Module.to(network, DTYPE).eval().requires_grad_(requires_grad=False)


def whole_network(model: str, weights: RandomWeights) -> Any:  # noqa: ANN401 - untyped library
    """The transformer with ordinary tensors in RAM, as diffusers takes it."""
    network = meta_network(model)
    for block, prefix in blocks_of(network):
        weights.fill(block, prefix)
    weights.fill(network, without=streamable_blocks(NAME, network))
    return network


def shared_network(model: str, weights: RandomWeights) -> Any:  # noqa: ANN401 - untyped library
    """The transformer in which all blocks of a kind have one block's weights.

    It computes as much as the real one, and a card need not hold it.
    """
    network = meta_network(model)
    stacks = (network.transformer_blocks, network.single_transformer_blocks)
    for stack, kind in zip(
        stacks, ("transformer_blocks", "single_transformer_blocks"), strict=True
    ):
        weights.fill(stack[0], f"{kind}.0.")
        for index in range(1, len(stack)):
            stack[index] = stack[0]
    weights.fill(network, without=stacks)
    return network


def host_network(model: str, weights: RandomWeights, allocate: Allocate) -> HostNetwork:
    """The transformer packed block by block, as residency takes it.

    Args:
        model: Which.
        weights: To fill it with.
        allocate: Gives RAM to pack into.
    """
    network = meta_network(model)
    modules = streamable_blocks(NAME, network)
    blocks: list[RamBlock] = []
    for block, prefix in blocks_of(network):
        weights.fill(block, prefix)
        blocks.append(packed_block(ModuleTensors(block), allocate))
    weights.fill(network, without=modules)
    rest = packed_block(ModuleTensors(network, without=modules), allocate)
    return HostNetwork(name=NAME, network=network, rest=rest, blocks=tuple(blocks), modules=modules)


def step_inputs(model: str, size_px: int, device: torch.device) -> dict[str, Any]:
    """What the transformer is given in a step: one picture, one prompt."""
    config = transformer_config(model)
    generator = torch.Generator().manual_seed(1)
    tokens = tokens_of(size_px)
    side = round(tokens**0.5)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(device, DTYPE)

    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    places = torch.zeros(tokens, 4)
    places[:, 1], places[:, 2] = rows.reshape(-1), columns.reshape(-1)
    words = torch.zeros(MAX_PROMPT_TOKENS, 4)
    words[:, 3] = torch.arange(MAX_PROMPT_TOKENS)
    guidance = torch.full((1,), 4.0, device=device) if config["guidance_embeds"] else None
    return {
        "hidden_states": noise(1, tokens, int(config["in_channels"])),
        "encoder_hidden_states": noise(1, MAX_PROMPT_TOKENS, int(config["joint_attention_dim"])),
        "timestep": torch.full((1,), 0.5, device=device, dtype=DTYPE),
        "img_ids": places[None].to(device),
        "txt_ids": words[None].to(device),
        "guidance": guidance,
        "return_dict": False,
    }


def blocks_of(network: torch.nn.Module) -> list[tuple[torch.nn.Module, str]]:
    """The blocks in the order they run, with what their names begin with."""
    prefixes = {id(module): f"{name}." for name, module in named_modules(network)}
    return [(block, prefixes[id(block)]) for block in streamable_blocks(NAME, network)]


def packed_block(tensors: ModuleTensors, allocate: Allocate) -> RamBlock:
    """Weights that are in RAM, packed, and their module pointed there."""
    buffer, tier = allocate(tensors.layout.size_bytes)
    tensors.pack_into(buffer)
    tensors.bind(buffer).apply()
    return RamBlock(tensors.layout, buffer, tier)
