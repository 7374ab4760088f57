"""Weights for a device that computes with what is in RAM: the files themselves, mapped."""

import itertools
from collections.abc import Callable, Iterable

import torch

from app.engine.residency.leaves import ModuleTensors, take_apart
from app.engine.residency.stored_block import StoredBlock
from app.engine.stored_weights import MappedFiles, Stored


def fill_in_place(
    network: torch.nn.Module,
    stored: Stored,
    groups: Iterable[tuple[ModuleTensors, StoredBlock]],
    check: Callable[[], None],
    progress: Callable[[int], None] = lambda _bytes: None,
    *,
    files: MappedFiles,
) -> int:
    """Give a network on "meta" its weights.

    A tensor that is stored as it is needed is a part of the mapped file: nothing is copied, and
    the system may forget it and read it again. What is stored otherwise is converted, and what is
    put together of several tensors is read, both once and for good.

    Args:
        network: All of it, or what is in the groups, is on "meta".
        stored: By the names of its tensors.
        groups: The tensors of its blocks and of the rest, with where they are stored.
        check: Called between tensors; may raise to stop.
        progress: Told how many bytes more are there.
        files: Maps them.

    Returns:
        Bytes of RAM that tensors take which are neither mapped nor in the groups' blocks.

    Raises:
        ModelError: A file cannot be read.
    """
    if _is_plain(network):
        return _map(network, stored, check, progress, files)
    for tensors, block in groups:
        block.keep(check)
        buffer = block.packed()
        if buffer is not None:
            tensors.bind(buffer).apply()
        progress(block.layout.size_bytes)
    return 0


def _is_plain(network: torch.nn.Module) -> bool:
    everything = itertools.chain(network.parameters(), network.buffers())
    return all(list(take_apart(tensor)[0]) == [""] for tensor in everything)


def _map(
    network: torch.nn.Module,
    stored: Stored,
    check: Callable[[], None],
    progress: Callable[[int], None],
    files: MappedFiles,
) -> int:
    own_bytes = 0

    def read(name: str, dtype: torch.dtype) -> torch.Tensor:
        nonlocal own_bytes
        check()
        weights = files.tensor(stored[name]).to(dtype)
        # A part of a file has all of it behind it.
        if weights.untyped_storage().nbytes() <= weights.nbytes:
            own_bytes += weights.nbytes
        return weights

    for name, parameter in list(network.named_parameters()):
        if name in stored:
            weights = read(name, parameter.dtype)
            _replace(network, name, torch.nn.Parameter(weights, requires_grad=False))
            progress(weights.nbytes)
    for name, buffer in list(network.named_buffers()):
        if name in stored:
            _replace(network, name, read(name, buffer.dtype))
    return own_bytes


def _replace(network: torch.nn.Module, name: str, tensor: torch.Tensor) -> None:
    prefix, _, key = name.rpartition(".")
    setattr(network.get_submodule(prefix), key, tensor)
