"""What operations on a simulated device take: memory, time, and weights that must be there."""

import contextlib
from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol

import torch
from torch.utils.flop_counter import flop_registry
from torch.utils.weak import WeakIdKeyDictionary

from app.engine.live_storages import (
    Args,
    LiveStorages,
    Named,
    Operator,
    OpResult,
    block_bytes,
    is_view,
    tensors_in,
)


class Operations(Protocol):
    """Who is told of operations, and may stop them by raising."""

    def begin(self) -> None:
        """An operation is about to run."""
        ...

    def finish(self, new_bytes: int, flops: int) -> None:
        """It ran; its result takes `new_bytes` and is not handed out or counted yet."""
        ...

    def is_missing(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor lies where a copy has not ended."""
        ...


class Accounts(LiveStorages):
    """Counts working memory, and refuses to compute with weights that are not on the device."""

    def __init__(self, operations: Operations) -> None:
        """Begin with nothing."""
        super().__init__()
        self._operations = operations
        self._off = False
        self._inside_one = False
        # Parameters in RAM. Its class has no types.
        self._kept_off: Any = WeakIdKeyDictionary()

    def keep_off(self, weights: torch.Tensor) -> None:
        """Watch over a parameter; buffers may be read by the CPU at any time."""
        if isinstance(weights, torch.nn.Parameter):
            self._kept_off[weights] = True

    @contextlib.contextmanager
    def off(self) -> Generator[None]:
        """Count and refuse nothing."""
        before = self._off
        self._off = True
        try:
            yield
        finally:
            self._off = before

    def run_as_one(self, call: Callable[[], Any], flops: int) -> Any:  # noqa: ANN401
        """Run several operations as one, of which only the result is counted."""
        if self._off or self._inside_one:
            return call()
        self._operations.begin()
        self._inside_one = True
        try:
            result = call()
        finally:
            self._inside_one = False
        made = [tensor for tensor in tensors_in(result) if not self.counts(tensor)]
        new_bytes = sum(block_bytes(tensor.untyped_storage().nbytes()) for tensor in made)
        self._operations.finish(new_bytes, flops)
        for tensor in made:
            self.count(tensor)
        return result

    def __torch_dispatch__(
        self, func: Operator, types: Sequence[type], args: Args = (), kwargs: Named | None = None
    ) -> OpResult:
        """Run one operation."""
        del types
        named = kwargs or {}
        if self._off:
            return func(*args, **named)
        self._check_place(func, tensors_in((args, named)))
        if self._inside_one:
            return func(*args, **named)
        # Before it runs: an operation that fails must not have changed its inputs.
        self._operations.begin()
        return self.run_counted(func, args, named)

    def before_result(
        self, func: Operator, args: Args, kwargs: Named, result: OpResult, new_bytes: int
    ) -> None:
        """See whether the result has room."""
        count: Any = flop_registry.get(func.overloadpacket)
        flops = 0 if count is None else int(count(*args, **kwargs, out_val=result))
        self._operations.finish(new_bytes, flops)

    def _check_place(self, func: Operator, inputs: Sequence[torch.Tensor]) -> None:
        if is_view(func):
            return
        for leaf in inputs:
            if isinstance(leaf, torch.nn.Parameter) and leaf in self._kept_off:
                raise RuntimeError(
                    "Expected all tensors to be on the same device, but found at least two "
                    f"devices: weights of shape {tuple(leaf.shape)} are not on the simulated one"
                )
            if self._operations.is_missing(leaf):
                raise RuntimeError(
                    f"weights of shape {tuple(leaf.shape)} are computed with before they have come"
                )
