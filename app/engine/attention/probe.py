"""Trying a kind of attention on a device: whether it works, how exact, how fast, in what memory.

Not tried on a real GPU.
"""

import logging
import math
import warnings

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
WARM_UP_S = 0.3
"""A GPU without work runs slowly, and takes this long at most to run as fast as it can."""
UNEVEN_TOKENS = 27
"""So many fewer are tried, too: kernels work on tiles of up to 128, and pictures have any number.
Some kernels read past the last token then, or end the process."""
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
        self._is_warm = False
        dtype: torch.dtype = getattr(torch, shape.dtype)
        size = (1, shape.tokens, shape.heads, shape.head_width)
        generator = torch.Generator("cpu").manual_seed(_SEED)
        # One at a time, so that the numbers in RAM are few.
        query, key, value = (
            torch.randn(size, generator=generator).to(device.torch_device, dtype) for _ in range(3)
        )
        # In single blocks values are a part of wider rows, and no kernel is to mind that.
        wider = value.new_empty((*size[:2], 2 * shape.heads, shape.head_width))
        wider[:, :, shape.heads :] = value
        self._inputs = (query, key, wider[:, :, shape.heads :])
        uneven = max(1, shape.tokens - UNEVEN_TOKENS)
        self._exact = {tokens: self._exactly(tokens) for tokens in (shape.tokens, uneven)}

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
            with warnings.catch_warnings():
                # Torch says at length why a kernel was not used.
                warnings.simplefilter("ignore")
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
        errors = [self._error(kernel, tokens) for tokens in self._exact]
        memory_bytes = device.peak_bytes() - held_bytes if measures_memory else None
        error = max(errors)
        problem = "" if error <= USABLE_ERROR else "its results are wrong"
        seconds = self._seconds(kernel) if timed and not problem else None
        return Trial(
            kind=kind, problem=problem, error=error, seconds=seconds, memory_bytes=memory_bytes
        )

    def _seconds(self, kernel: AttentionKernel) -> float:
        if not self._is_warm:
            # Else what is tried first would seem slower than what comes after it.
            self._times(kernel, enough_s=WARM_UP_S)
            self._is_warm = True
        return min(self._times(kernel, enough_s=REPEATS_S, most=REPEATS))

    def _times(
        self, kernel: AttentionKernel, *, enough_s: float, most: int | None = None
    ) -> list[float]:
        device = self._device
        took: list[float] = []
        while len(took) != most and sum(took) < enough_s:
            began_s = device.clock_s()
            kernel(*self._inputs)
            device.synchronize()
            took.append(device.clock_s() - began_s)
        return took

    def _error(self, kernel: AttentionKernel, tokens: int) -> float:
        """Of what it computes for so many tokens, relative to exact attention."""
        query, key, value = (one[:, :tokens] for one in self._inputs)
        result = kernel(query, key, value)
        self._device.synchronize()
        if result.shape != query.shape:
            return math.inf
        exact = self._exact[tokens]
        off = (self._checked(result) - exact).square().sum()
        error = float((off / exact.square().sum()).sqrt())
        return error if math.isfinite(error) else math.inf

    @torch.no_grad()
    def _exactly(self, tokens: int) -> torch.Tensor:
        """Attention of some queries in some heads to so many keys, as it is defined, in fp32."""
        query, key, value = (one[:, :tokens] for one in self._inputs)
        some = self._checked(query)
        keys, values = (one[0, :, :_CHECKED_HEADS].float().permute(1, 0, 2) for one in (key, value))
        scores = some @ keys.transpose(1, 2) / math.sqrt(self._shape.head_width)
        return torch.softmax(scores, dim=-1) @ values

    def _checked(self, tensor: torch.Tensor) -> torch.Tensor:
        """(heads, rows, width) in fp32 of some rows from the first to the last."""
        tokens = tensor.shape[1]
        rows = min(_CHECKED_ROWS, tokens)
        chosen = torch.linspace(0, tokens - 1, rows, device=tensor.device).long()
        return tensor[0, chosen, :_CHECKED_HEADS].float().permute(1, 0, 2)
