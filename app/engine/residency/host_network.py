"""A network with its weights packed block by block in RAM, ready to be lent to a device."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from app.engine.residency.blocks import streamable_blocks
from app.engine.residency.host_block import BlockReader, HostBlock, HostTier
from app.engine.residency.layout import ALIGNMENT_BYTES, BlockLayout
from app.engine.residency.leaves import ModuleTensors
from app.engine.residency.mapped_checks import MappedChecks
from app.engine.residency.stored_block import StoredBlock

HostBuffer = tuple[torch.Tensor, HostTier]
"""(size,) uint8 in RAM, and whether it is pinned."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class HostNetwork:
    """One component as residency takes it.

    Attributes:
        name: "text_encoder", "transformer" or "autoencoder".
        network: Its parameters may be on the meta device; what is in a layout is re-pointed.
        rest: What it has besides its blocks, in RAM. What is not in its layout, such as an
            embedding table that is looked up on the host, is left as it is.
        blocks: In the order they run.
        modules: The same blocks as modules of the network.
        reader: Fills bounce buffers; None where no block is of the tier FILE.
        unpacked_bytes: RAM of weights that are in no packed buffer and no mapped file.
        mapped: To be compared with their checksums before the first use of the weights.
    """

    name: str
    network: torch.nn.Module
    rest: HostBlock
    blocks: tuple[HostBlock, ...]
    modules: tuple[torch.nn.Module, ...]
    reader: BlockReader | None = None
    unpacked_bytes: int = 0
    mapped: MappedChecks | None = None

    @property
    def size_bytes(self) -> int:
        """Of all packed weights, wherever they are."""
        return sum(block.layout.size_bytes for block in (self.rest, *self.blocks))

    @property
    def ram_bytes(self) -> int:
        """That the weights take in RAM; what is only in files, mapped or not, takes none."""
        blocks = (self.rest, *self.blocks)
        return self.unpacked_bytes + sum(_ram_bytes(block) for block in blocks)


def _ram_bytes(block: HostBlock) -> int:
    if isinstance(block, StoredBlock):
        return block.ram_bytes
    return 0 if block.tier is HostTier.FILE else block.layout.size_bytes


class RamBlock:
    """A block that is packed in RAM."""

    def __init__(self, layout: BlockLayout, buffer: torch.Tensor, tier: HostTier) -> None:
        """Take a filled buffer."""
        self.layout = layout
        self.tier = tier
        self._buffer = buffer

    def packed(self) -> torch.Tensor:
        """The buffer itself."""
        return self._buffer

    def read_into(self, out: torch.Tensor) -> None:
        """Copy the buffer."""
        out.copy_(self._buffer)


class UnpackedBlock:
    """A block whose tensors are in RAM as they were loaded, for a device that uses them there."""

    tier = HostTier.PAGEABLE

    def __init__(self, tensors: ModuleTensors) -> None:
        """Take a block whose weights are real."""
        self.layout = tensors.layout
        self._tensors = tensors

    def packed(self) -> None:
        """Not packed."""

    def read_into(self, out: torch.Tensor) -> None:
        """Pack into a buffer."""
        self._tensors.pack_into(out)


def unpacked_network(name: str, network: torch.nn.Module) -> HostNetwork:
    """A network for a device that computes with weights where they are: nothing is copied."""
    modules = streamable_blocks(name, network)
    return HostNetwork(
        name=name,
        network=network,
        rest=UnpackedBlock(ModuleTensors(network, without=modules)),
        blocks=tuple(UnpackedBlock(ModuleTensors(module)) for module in modules),
        modules=modules,
    )


def ram_buffer(size_bytes: int) -> HostBuffer:
    """Ordinary RAM, aligned as on a device."""
    whole = torch.empty(size_bytes + ALIGNMENT_BYTES, dtype=torch.uint8)
    begin = -whole.data_ptr() % ALIGNMENT_BYTES
    return whole[begin : begin + size_bytes], HostTier.PAGEABLE


def packed_network(
    name: str,
    network: torch.nn.Module,
    *,
    on_host: Iterable[torch.nn.Module] = (),
    allocate: Callable[[int], HostBuffer] = ram_buffer,
) -> HostNetwork:
    """Pack a network whose weights are in RAM, one block after the other.

    Each block's own tensors are let go when it is packed, so that never more than one block is in
    RAM twice.

    Args:
        name: Of the component.
        network: Its weights are views of the packed buffers afterwards.
        on_host: Modules of it that stay in RAM as they are.
        allocate: Gives RAM to pack into, (size,) uint8.
    """
    modules = streamable_blocks(name, network)
    rest = _packed(ModuleTensors(network, without=(*modules, *on_host)), allocate)
    blocks = tuple(_packed(ModuleTensors(module), allocate) for module in modules)
    return HostNetwork(name=name, network=network, rest=rest, blocks=blocks, modules=modules)


def _packed(tensors: ModuleTensors, allocate: Callable[[int], HostBuffer]) -> RamBlock:
    buffer, tier = allocate(tensors.layout.size_bytes)
    tensors.pack_into(buffer)
    tensors.bind(buffer).apply()
    return RamBlock(tensors.layout, buffer, tier)
