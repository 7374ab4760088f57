"""A network whose blocks are in a file, for RAM that does not hold it; made block by block."""

from pathlib import Path
from typing import BinaryIO

import torch

from app.engine.residency.block_source import BlockSource
from app.engine.residency.blocks import streamable_blocks
from app.engine.residency.host_block import HostTier
from app.engine.residency.host_network import HostNetwork
from app.engine.residency.leaves import ModuleTensors
from app.engine.residency.readers import FileReader
from app.engine.residency.ring import BOUNCE_BUFFERS
from app.engine.residency.stored_block import StoredBlock
from app.engine.stored_weights import StoredTensor
from bench.residency_parts.networks import (
    NAME,
    Allocate,
    RandomWeights,
    blocks_of,
    meta_network,
    packed_block,
)


def stored_network(
    model: str, weights: RandomWeights, allocate: Allocate, path: Path
) -> HostNetwork:
    """The transformer as residency takes it, with all its blocks in a file as they are packed.

    What it has besides its blocks is in RAM.

    Args:
        model: Which.
        weights: To fill it with.
        allocate: Gives RAM for the rest, and for blocks on their way.
        path: Of the file, which is made.
    """
    network = meta_network(model)
    modules = streamable_blocks(NAME, network)
    blocks: list[StoredBlock] = []
    with path.open("wb") as file:
        for block, prefix in blocks_of(network):
            weights.fill(block, prefix)
            blocks.append(_written(block, file, path))
            block.to("meta")
    weights.fill(network, without=modules)
    return HostNetwork(
        name=NAME,
        network=network,
        rest=packed_block(ModuleTensors(network, without=modules), allocate),
        blocks=tuple(blocks),
        modules=modules,
        reader=_reader(allocate, max(block.layout.size_bytes for block in blocks)),
    )


def _reader(allocate: Allocate, block_bytes: int) -> FileReader:
    """With its buffers, which are locked where that is possible, as the engine has them."""
    locked: set[int] = set()

    def buffer(size_bytes: int) -> torch.Tensor:
        made, tier = allocate(size_bytes)
        if tier is HostTier.PINNED:
            locked.add(made.data_ptr())
        return made

    reader = FileReader(buffer, locked=lambda made: made.data_ptr() in locked)
    reader.reserve(block_bytes, BOUNCE_BUFFERS)
    return reader


def _written(block: torch.nn.Module, file: BinaryIO, path: Path) -> StoredBlock:
    tensors = ModuleTensors(block)
    packed = torch.zeros(tensors.layout.size_bytes, dtype=torch.uint8)
    tensors.pack_into(packed)
    begin = file.tell()
    file.write(packed.numpy().data)
    stored = {
        span.name: StoredTensor(
            path=path,
            offset_bytes=begin + span.offset_bytes,
            nbytes=span.nbytes,
            dtype=span.dtype,
            shape=span.shape,
        )
        for span in tensors.layout.spans
    }
    return StoredBlock(BlockSource(tensors.layout, stored), pinning=None)
