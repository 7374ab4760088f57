"""Memory of tensors, to the byte: every storage that operations make, until its last use ends.

Works on real and on fake tensors. A storage is counted like a GPU's allocator hands it out, in
blocks of 512 bytes.
"""

import functools
import weakref
from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from torch.utils._python_dispatch import TorchDispatchMode

BLOCK_BYTES = 512
"""Smallest unit of torch's caching allocator (kMinBlockSize in CUDACachingAllocator)."""
Operator = Any
"""One of torch's, an OpOverload, which comes without types."""
Args = tuple[Any, ...]
Named = dict[str, Any]
OpResult = Any
"""Whatever an operation gives: a tensor, several, a number."""


def block_bytes(size_bytes: int) -> int:
    """What an allocation takes of the device."""
    return -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES


def tensors_in(values: Any) -> list[torch.Tensor]:  # noqa: ANN401 - arguments or results
    """The tensors among an operation's arguments or results, in order.

    `tree_leaves` of torch does the same for all kinds of trees and takes longer than the operation.
    """
    if isinstance(values, torch.Tensor):
        return [values]
    if not isinstance(values, list | tuple | dict):
        return []
    found: list[torch.Tensor] = []
    items = cast("Iterable[Any]", values.values() if isinstance(values, dict) else values)
    for value in items:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, list | tuple | dict):
            found += tensors_in(value)
    return found


@functools.cache
def is_view(func: Operator) -> bool:
    """Whether its result is another look at what it is given: no kernel runs for it."""
    aliases = [result.alias_info for result in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)


class LiveStorages(TorchDispatchMode):
    """Counts what is made while the mode is on; what ends later is still taken off.

    Storages that were there before, such as those of weights, are not counted, nor are views of
    them or what is written into them.

    Attributes:
        held_bytes: Alive now.
        peak_bytes: The most that was alive at once since `reset_peak`.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        # Untyped on its way in: the base class's only argument has no type.
        base: Any = super()
        base.__init__()
        self.held_bytes = 0
        self.peak_bytes = 0
        self._alive: dict[int, tuple[weakref.ref[torch.UntypedStorage], int]] = {}

    def __torch_dispatch__(
        self, func: Operator, types: Sequence[type], args: Args = (), kwargs: Named | None = None
    ) -> OpResult:
        """Run an operation and count what it made."""
        del types
        return self.run_counted(func, args, kwargs or {})

    def run_counted(self, func: Operator, args: Args, kwargs: Named) -> OpResult:
        """Run an operation and count what it made.

        Subclasses call this and not their parent's `__torch_dispatch__`, which torch wraps at each
        level in what takes as long as many an operation.
        """
        result = self.run(func, args, kwargs)
        made = [] if is_view(func) else self._new_storages(tensors_in((args, kwargs)), result)
        self.before_result(
            func, args, kwargs, result, sum(block_bytes(storage.nbytes()) for storage in made)
        )
        for storage in made:
            self._count(storage)
        return result

    def run(self, func: Operator, args: Args, kwargs: Named) -> OpResult:
        """The operation alone, for those who know what it gives."""
        return func(*args, **kwargs)

    def before_result(
        self, func: Operator, args: Args, kwargs: Named, result: OpResult, new_bytes: int
    ) -> None:
        """Called before an operation's result is handed out and counted; here it does nothing.

        What it raises reaches the caller of the operation, and the result is dropped.

        Args:
            func: The operation.
            args: Its arguments.
            kwargs: Its arguments by name.
            result: Of the operation.
            new_bytes: Of the storages that it made.
        """

    def reset_peak(self) -> None:
        """Let the peak begin at what is alive now."""
        self.peak_bytes = self.held_bytes

    def counts(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor is counted, or a view of one that is."""
        return id(tensor.untyped_storage()) in self._alive

    def count(self, tensor: torch.Tensor) -> None:
        """Count a tensor that was made otherwise, unless it is counted."""
        if not self.counts(tensor):
            self._count(tensor.untyped_storage())

    def forget(self, tensor: torch.Tensor) -> None:
        """Count a tensor no longer, though it is alive."""
        entry = self._alive.pop(id(tensor.untyped_storage()), None)
        if entry is not None:
            self.held_bytes -= entry[1]

    def _new_storages(
        self, inputs: Sequence[torch.Tensor], result: OpResult
    ) -> list[torch.UntypedStorage]:
        known: list[torch.UntypedStorage] | None = None
        made: list[torch.UntypedStorage] = []
        for tensor in tensors_in(result):
            storage = tensor.untyped_storage()
            if id(storage) in self._alive:
                continue
            if known is None:
                known = [one.untyped_storage() for one in inputs]
            if not any(storage is one for one in known):
                known.append(storage)
                made.append(storage)
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        size_bytes = block_bytes(storage.nbytes())
        # Torch keeps one Python object for a storage as long as the storage lives.
        key = id(storage)

        def ended(reference: weakref.ref[torch.UntypedStorage]) -> None:
            # Not when it was forgotten before, and the number went to another storage.
            entry = self._alive.get(key)
            if entry is not None and entry[0] is reference:
                del self._alive[key]
                self.held_bytes -= size_bytes

        self._alive[key] = (weakref.ref(storage, ended), size_bytes)
        self.held_bytes += size_bytes
        self.peak_bytes = max(self.peak_bytes, self.held_bytes)
