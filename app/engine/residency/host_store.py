"""Which weights of a model are in RAM, locked or not, and which are read from the disk."""

import itertools
import logging
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import torch

from app.core.units import format_bytes
from app.engine.residency.block_source import BlockSource
from app.engine.residency.blocks import streamable_blocks
from app.engine.residency.bounce_buffers import BounceBuffers
from app.engine.residency.host_block import HostTier
from app.engine.residency.host_network import HostNetwork
from app.engine.residency.in_place import fill_in_place
from app.engine.residency.leaves import ModuleTensors
from app.engine.residency.mapped_checks import MappedChecks
from app.engine.residency.pinning import MIN_RAM_LEFT_BYTES, Pinning, spread_order
from app.engine.residency.stored_block import StoredBlock
from app.engine.stored_weights import MappedFiles, Stored, StoredTensor

log = logging.getLogger(__name__)

COMEBACK_BYTES = 1 << 30
"""RAM that is left over where a block comes back to it that had none: else it would come and go."""

Check = Callable[[], None]
"""May raise to stop."""
Progress = Callable[[int], None]
"""Told how many bytes more are loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """What a network needs and its files do not have.

    Attributes:
        absent: Names of tensors.
        of_another_shape: Names of tensors.
    """

    absent: tuple[str, ...]
    of_another_shape: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Everything:
    """All tensors of a network by name: those in files, and those that were made."""

    made: Mapping[str, torch.Tensor]
    stored: Stored

    def source(self, tensors: ModuleTensors, prefix: str) -> BlockSource:
        """Where the tensors of a module come from, whose names all begin with a prefix."""
        made: dict[str, torch.Tensor] = {}
        found: dict[str, StoredTensor] = {}
        for span in tensors.layout.spans:
            whole = f"{prefix}{span.name}"
            if whole not in self.stored and whole in self.made:
                made[span.name] = self.made[whole]
            else:
                found[span.name] = self.stored[whole]
        return BlockSource(tensors.layout, found, made)


def find_missing(network: torch.nn.Module, stored: Stored) -> Missing:
    """What a network on "meta" needs and is not stored, or not so."""
    absent: list[str] = []
    wrong: list[str] = []
    made = _made(network)
    for span in ModuleTensors(network).layout.spans:
        found = stored.get(span.name)
        if found is None:
            if span.name not in made:
                absent.append(span.name)
        elif found.shape != span.shape:
            wrong.append(span.name)
    return Missing(absent=tuple(sorted(absent)), of_another_shape=tuple(sorted(wrong)))


class HostStore:
    """The computer's side of the weights that one device is lent.

    Attributes:
        in_place: Whether the device computes with what is in RAM: the CPU.
    """

    def __init__(
        self,
        pinning: Pinning | None = None,
        *,
        in_place: bool = False,
        room_bytes: Callable[[], int] | None = None,
    ) -> None:
        """Hold nothing yet.

        Args:
            pinning: Locks RAM; None where no device copies from it.
            in_place: Whether the device computes with what is in RAM.
            room_bytes: RAM that more weights may take now; None leaves the system some.
        """
        self.in_place = in_place
        self._pinning = pinning
        self._room_bytes = room_bytes or _room_bytes
        self._bounces = BounceBuffers(pinning, self._room_bytes)
        self._hosts: weakref.WeakSet[HostNetwork] = weakref.WeakSet()
        # For which there was no RAM.
        self._left_out: weakref.WeakSet[StoredBlock] = weakref.WeakSet()

    def open(
        self,
        name: str,
        network: torch.nn.Module,
        stored: Stored,
        *,
        file_blocks: Iterable[int] = (),
        check: Check = lambda: None,
        progress: Progress = lambda _bytes: None,
    ) -> HostNetwork:
        """Read a network's weights into RAM, each once, as far as there is room for them.

        Nothing is locked yet; see `pin`.

        Args:
            name: Of the component.
            network: On "meta", but for what no file has. It stays so, for the device to point it
                to weights there; or it gets its weights here when the device computes in place,
                from the mapped files where they are stored as they are needed.
            stored: By the names of the network's tensors, with their shapes.
            file_blocks: Indices of blocks that stay in the files.
            check: Called between pieces of a block.
            progress: Told how many bytes more are loaded, block by block.

        Raises:
            KeyError: A tensor is not stored.
            ValueError: A tensor is stored with another number of elements.
            ModelError: A file cannot be read.
        """
        modules = streamable_blocks(name, network)
        of_rest = ModuleTensors(network, without=modules)
        of_blocks = [ModuleTensors(module) for module in modules]
        everything = _Everything(made=_made(network), stored=stored)
        rest = StoredBlock(everything.source(of_rest, ""), pinning=self._pinning)
        # Torch has no whole types for the names of modules.
        untyped: Any = network
        prefixes = {id(module): f"{prefix}." for prefix, module in untyped.named_modules()}
        blocks = [
            StoredBlock(
                everything.source(tensors, prefixes[id(module)]),
                pinning=self._pinning,
            )
            for tensors, module in zip(of_blocks, modules, strict=True)
        ]
        unpacked_bytes = 0
        mapped: MappedChecks | None = None
        if self.in_place:
            groups = zip([of_rest, *of_blocks], [rest, *blocks], strict=True)
            files = MappedFiles()
            unpacked_bytes = fill_in_place(network, stored, groups, check, progress, files=files)
            mapped = MappedChecks(stored.values(), files)
        else:
            rest.keep(check)
            progress(rest.layout.size_bytes)
            self._arrange(blocks, frozenset(file_blocks), check, progress)
        host = HostNetwork(
            name=name,
            network=network,
            rest=rest,
            blocks=tuple(blocks),
            modules=modules,
            reader=self._bounces.reader,
            unpacked_bytes=unpacked_bytes,
            mapped=mapped,
        )
        self._hosts.add(host)
        # Or buffers would stay for a network that is gone.
        weakref.finalize(host, _tidy, weakref.ref(self)).atexit = False
        return host

    def would_move(self, host: HostNetwork, file_blocks: Iterable[int]) -> bool:
        """Whether `follow` would bring any block somewhere else now; cheap, and changes nothing.

        Args:
            host: From `open`.
            file_blocks: Indices of blocks.
        """
        blocks, on_disk = _stored_blocks(host), frozenset(file_blocks)
        leaving = any(blocks[index].packed() is not None for index in on_disk)
        return not self.in_place and (leaving or bool(self._coming(blocks, on_disk)))

    def follow(
        self, host: HostNetwork, file_blocks: Iterable[int], check: Check = lambda: None
    ) -> bool:
        """Have other blocks in the files only; nothing copies from the network's RAM now.

        Blocks for which there is no RAM stay in the files as well, and come back at a later call
        when there is more than enough. What is locked is no more than what `pin` has locked: the
        device may be full by now. Doing it again changes nothing.

        Args:
            host: From `open`.
            file_blocks: Indices of blocks.
            check: Called between pieces of blocks; may raise to stop, and the rest stays as it is.

        Returns:
            Whether any block is somewhere else than before.
        """
        blocks = _stored_blocks(host)
        before = [block.tier for block in blocks]
        self._arrange(blocks, frozenset(file_blocks), check)
        # First, so that the blocks can have what was locked for the buffers.
        self.tidy()
        _pin_blocks(blocks, check, again=True)
        self._arrange_bounces([host], check)
        return before != [block.tier for block in blocks]

    def pin(self, hosts: Sequence[HostNetwork], check: Check = lambda: None) -> None:
        """Lock what is in RAM, the first networks first, as far as the driver lets us.

        Before weights fill the device: some drivers allow less afterwards. The RAM between locked
        blocks is spread evenly. For blocks that are not locked there are buffers that are.

        Args:
            hosts: From `open`; nothing copies from their RAM now.
            check: Called between blocks: to lock a large model takes seconds.
        """
        for host in hosts:
            _pin_blocks(_stored_blocks(host), check)
        self._arrange_bounces(hosts, check)

    def tidy(self) -> None:
        """Give back the RAM of buffers when no network needs any."""
        self._bounces.tidy(self._blocks())

    def _arrange(
        self,
        blocks: Sequence[StoredBlock],
        file_blocks: frozenset[int],
        check: Check = lambda: None,
        progress: Progress = lambda _bytes: None,
    ) -> None:
        """First make room, then fill it."""
        for index in file_blocks:
            blocks[index].let_go()
        for block in self._coming(blocks, file_blocks):
            check()
            block.keep(check)
            progress(block.layout.size_bytes)
        left_out = [block for block in _wanted(blocks, file_blocks) if block.packed() is None]
        self._left_out.difference_update(blocks)
        self._left_out.update(left_out)
        if left_out:
            left_bytes = sum(block.layout.size_bytes for block in left_out)
            log.info("%s of weights stay on the disk: RAM is short", format_bytes(left_bytes))

    def _coming(
        self, blocks: Sequence[StoredBlock], file_blocks: frozenset[int]
    ) -> list[StoredBlock]:
        """Those that are to be in RAM, are not, and for which there is room now."""
        wanted = [block for block in _wanted(blocks, file_blocks) if block.packed() is None]
        room_bytes = self._room_bytes()
        if file_blocks or sum(block.layout.size_bytes for block in wanted) > room_bytes:
            room_bytes -= self._bounces.missing_bytes(blocks)
        coming: list[StoredBlock] = []
        for block in (wanted[index] for index in spread_order(len(wanted))):
            spare_bytes = COMEBACK_BYTES if block in self._left_out else 0
            if block.layout.size_bytes + spare_bytes <= room_bytes:
                coming.append(block)
                room_bytes -= block.layout.size_bytes
        return coming

    def _arrange_bounces(self, hosts: Sequence[HostNetwork], check: Check = lambda: None) -> None:
        self._bounces.arrange(self._blocks(), _locked_last_first(hosts), check)
        for host in hosts:
            # What was unlocked may be more than the buffers took.
            _pin_blocks(_stored_blocks(host), check, again=True)

    def _blocks(self) -> list[StoredBlock]:
        return [block for host in self._hosts for block in _stored_blocks(host)]


def _made(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What a network on "meta" has in RAM already, by name."""
    everything = itertools.chain(network.named_parameters(), network.named_buffers())
    return {name: tensor.detach() for name, tensor in everything if not tensor.is_meta}


def _wanted(blocks: Sequence[StoredBlock], file_blocks: frozenset[int]) -> list[StoredBlock]:
    """That are to be in RAM if there is room."""
    return [block for index, block in enumerate(blocks) if index not in file_blocks]


def _pin_blocks(
    blocks: Sequence[StoredBlock], check: Check = lambda: None, *, again: bool = False
) -> None:
    for index in spread_order(len(blocks)):
        check()
        blocks[index].pin(again=again)


def _locked_last_first(hosts: Sequence[HostNetwork]) -> list[StoredBlock]:
    """Locked blocks, so that those which stay locked are spread evenly when some at first leave."""
    found: list[StoredBlock] = []
    for host in reversed(hosts):
        blocks = _stored_blocks(host)
        order = [blocks[index] for index in reversed(spread_order(len(blocks)))]
        found += [block for block in order if block.tier is HostTier.PINNED]
    return found


def _tidy(store: "weakref.ref[HostStore]") -> None:
    found = store()
    if found is not None:
        found.tidy()


def _stored_blocks(host: HostNetwork) -> list[StoredBlock]:
    return [block for block in host.blocks if isinstance(block, StoredBlock)]


def _room_bytes() -> int:
    return int(psutil.virtual_memory().available) - MIN_RAM_LEFT_BYTES
