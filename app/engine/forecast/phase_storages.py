"""What lives at each operation of a phase, and how much is computed."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import flop_registry

from app.engine.forecast.remembered_shapes import RememberedShapes
from app.engine.live_storages import Args, LiveStorages, Named, Operator, OpResult


class PhaseStorages(LiveStorages):
    """Counts what operations make on torch's "meta" device, with the course of it.

    Attributes:
        history: Bytes alive after each operation.
        flops: Of matrix products, convolutions and attention.
    """

    def __init__(self, shapes: RememberedShapes | None = None) -> None:
        """Count nothing yet.

        Args:
            shapes: Answers operations that were asked before.
        """
        super().__init__()
        self.history: list[int] = []
        self.flops = 0
        self._shapes = shapes

    def run_counted(self, func: Operator, args: Args, kwargs: Named) -> OpResult:
        """Run an operation and note what lives after it."""
        result = super().run_counted(func, args, kwargs)
        self.history.append(self.held_bytes)
        return result

    def run(self, func: Operator, args: Args, kwargs: Named) -> OpResult:
        """The operation, unless its result's form is known."""
        if self._shapes is None:
            return func(*args, **kwargs)
        return self._shapes.run(func, args, kwargs)

    def before_result(
        self, func: Operator, args: Args, kwargs: Named, result: OpResult, new_bytes: int
    ) -> None:
        """See how much was computed."""
        del new_bytes
        count: Any = flop_registry.get(func.overloadpacket)
        if count is not None:
            self.flops += int(count(*args, **kwargs, out_val=result))

    def _new_storages(
        self, inputs: Sequence[torch.Tensor], result: OpResult
    ) -> list[torch.UntypedStorage]:
        made = super()._new_storages(inputs, result)
        return [storage for storage in made if storage.device.type == "meta"]
