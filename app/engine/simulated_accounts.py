"""What operations on a simulated device take: memory, time, and weights that must be there."""

import contextlib
import weakref
from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol

import torch
from torch.utils.flop_counter import flop_registry
from torch.utils.weak import WeakIdKeyDictionary

from app.engine.live_storages import LiveStorages, block_bytes, tensors_in
from app.engine.module_weights import ModuleWeights


class Operations(Protocol):
    """Who is told of operations, and may stop them by raising."""

    def begin(self) -> None:
        """An operation is about to run."""
        ...

    def finish(self, new_bytes: int, flops: int) -> None:
        """It ran; its result takes `new_bytes` and is not handed out or counted yet."""
        ...


class Accounts(LiveStorages):
    """Counts working memory, and refuses to compute with weights that are not on the device."""

    def __init__(self, operations: Operations) -> None:
        """Begin with nothing."""
        super().__init__()
        self._operations = operations
        self._off = False
        self._inside_one = False
        # From a parameter in RAM to the weights it belongs to. Its class has no types.
        self._owners: Any = WeakIdKeyDictionary()

    def know(self, weights: ModuleWeights) -> None:
        """Watch over parameters; buffers may be read by the CPU at any time."""
        reference = weakref.ref(weights)
        for tensor in weights.host:
            if isinstance(tensor, torch.nn.Parameter):
                self._owners[tensor] = reference

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
        self,
        func: Any,  # noqa: ANN401 - an OpOverload
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the operation gives
        """Run one operation."""
        named = kwargs or {}
        if self._off:
            return func(*args, **named)
        self._check_place(tensors_in((args, named)))
        if self._inside_one:
            return func(*args, **named)
        # Before it runs: an operation that fails must not have changed its inputs.
        self._operations.begin()
        return super().__torch_dispatch__(func, types, args, named)

    def before_result(
        self,
        func: Any,  # noqa: ANN401 - an OpOverload
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        result: Any,  # noqa: ANN401 - whatever the operation gives
        new_bytes: int,
    ) -> None:
        """See whether the result has room."""
        count: Any = flop_registry.get(func.overloadpacket)
        flops = 0 if count is None else int(count(*args, **kwargs, out_val=result))
        self._operations.finish(new_bytes, flops)

    def _check_place(self, inputs: Sequence[torch.Tensor]) -> None:
        for leaf in inputs:
            if not isinstance(leaf, torch.nn.Parameter):
                continue
            reference = self._owners.get(leaf)
            weights = None if reference is None else reference()
            if weights is not None and not weights.on_device:
                raise RuntimeError(
                    "Expected all tensors to be on the same device, but found at least two "
                    f"devices: weights of shape {tuple(leaf.shape)} are not on the simulated one"
                )
