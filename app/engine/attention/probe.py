"""Trying a kind of attention on a device: whether it works, how exact, how fast, in what memory.

Not tried on a real GPU.
"""

import logging
import math

import torch

from app.core.policy import Attention
from app.engine.attention.dispatch import AttentionKernel
from app.engine.attention.ranking import USABLE_ERROR, Trial
from app.engine.attention.shape import AttentionShape
from app.engine.compute_device import ComputeDevice
from app.engine.out_of_memory import is_out_of_memory

log = logging.getLogger(__name__)

REPEATS = 3
REPEATS_S = 0.5
"""No call is repeated once the calls have taken so long."""
_CHECKED_ROWS = 128
_CHECKED_HEADS = 4
_SEED = 20_24


class Trials:
    """Tries kinds at one shape, all with the same numbers."""

    def __init__(self, device: ComputeDevice, shape: AttentionShape) -> None:
        """Make the numbers.

        Raises:
            torch.OutOfMemoryError: The device has no room for them.
        """
        self._device = device
        self._shape = shape
        dtype: torch.dtype = getattr(torch, shape.dtype)
        size = (1, shape.tokens, shape.heads, shape.head_width)
        generator = torch.Generator("cpu").manual_seed(_SEED)
        # One at a time, so that the numbers in RAM are few.
        self._inputs = tuple(
            torch.randn(size, generator=generator).to(device.torch_device, dtype) for _ in range(3)
        )
        self._exact = self._exactly()

    def run(self, kind: Attention, kernel: AttentionKernel, *, timed: bool) -> Trial:
        """Try one.

        Args:
            kind: Which.
            kernel: That computes it.
            timed: Whether to find out how long it takes.

        Raises:
            torch.OutOfMemoryError: There is no memory for it, which says nothing about next time.
        """
        try:
            return self._measure(kind, kernel, timed=timed)
        # Libraries raise whatever they meet: RuntimeError, ValueError, AssertionError, and more.
        except Exception as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            if is_out_of_memory(error):
                # As cuDNN says it, which finds no room for what it needs itself.
                raise torch.OutOfMemoryError(str(error)) from error
            log.info("attention %s does not work", kind.value, exc_info=True)
            first_line = str(error).strip().partition("\n")[0]
            problem = f"{type(error).__name__}: {first_line}"
        return Trial(kind=kind, problem=problem)

    @torch.no_grad()
    def _measure(self, kind: Attention, kernel: AttentionKernel, *, timed: bool) -> Trial:
        device = self._device
        measures_memory = device.kind != "cpu" and not device.simulated
        held_bytes = device.allocated_bytes() if measures_memory else 0
        if measures_memory:
            device.reset_peak()
        result = kernel(*self._inputs)
        device.synchronize()
        memory_bytes = device.peak_bytes() - held_bytes if measures_memory else None
        error = self._error(result)
        del result
        problem = "" if error <= USABLE_ERROR else "its results are wrong"
        seconds = self._seconds(kernel) if timed and not problem else None
        return Trial(
            kind=kind, problem=problem, error=error, seconds=seconds, memory_bytes=memory_bytes
        )

    def _seconds(self, kernel: AttentionKernel) -> float:
        device = self._device
        took: list[float] = []
        while len(took) < REPEATS and sum(took) < REPEATS_S:
            began_s = device.clock_s()
            kernel(*self._inputs)
            device.synchronize()
            took.append(device.clock_s() - began_s)
        return min(took)

    def _error(self, result: torch.Tensor) -> float:
        if result.shape != self._inputs[0].shape:
            return math.inf
        off = (self._checked(result) - self._exact).square().sum()
        error = float((off / self._exact.square().sum()).sqrt())
        return error if math.isfinite(error) else math.inf

    @torch.no_grad()
    def _exactly(self) -> torch.Tensor:
        """Attention of some queries in some heads, as it is defined, in fp32."""
        query, key, value = self._inputs
        some = self._checked(query)
        keys, values = (one[0, :, :_CHECKED_HEADS].float().permute(1, 0, 2) for one in (key, value))
        scores = some @ keys.transpose(1, 2) / math.sqrt(self._shape.head_width)
        return torch.softmax(scores, dim=-1) @ values

    def _checked(self, tensor: torch.Tensor) -> torch.Tensor:
        """(heads, rows, width) in fp32 of some rows from the first to the last."""
        rows = min(_CHECKED_ROWS, self._shape.tokens)
        chosen = torch.linspace(0, self._shape.tokens - 1, rows, device=tensor.device).long()
        return tensor[0, chosen, :_CHECKED_HEADS].float().permute(1, 0, 2)
