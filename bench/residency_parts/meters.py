"""What a case takes: RAM, seconds, and the bits that come out."""

import hashlib
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
import torch

from bench.residency_parts.places import Place
from bench.residency_parts.rows import OUT_OF_RAM_CODE

WARM_UP_STEPS = 2
"""Diffusers' group offload copies without a stream in its first step, to learn the order."""
LEAST_RAM_BYTES = 1 << 30
"""Below this a case ends itself, before the system ends something else."""
_SAMPLE_S = 0.05


class RamMeter:
    """How much RAM the process takes above what it had, at most; ends it before RAM runs out."""

    def __init__(self, device: torch.device) -> None:
        """Take what is there now as nothing.

        Args:
            device: Of the case. Beside a GPU the RAM that is gone from the system counts, too: what
                a driver pins need not count for the process.
        """
        self._process = psutil.Process()
        self._counts_system = device.type != "cpu"
        self._began, self._available = self._now(), self._available_now()
        self._peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="ram-meter", daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """The most in bytes."""
        self._note()
        self._ended.set()
        self._thread.join()
        return self._peak

    def _watch(self) -> None:
        while not self._ended.wait(_SAMPLE_S):
            self._note()
            if self._available_now() < LEAST_RAM_BYTES:
                os._exit(OUT_OF_RAM_CODE)

    def _note(self) -> None:
        taken = self._now() - self._began
        if self._counts_system:
            taken = max(taken, self._available - self._available_now())
        self._peak = max(self._peak, taken)

    def _available_now(self) -> int:
        return int(psutil.virtual_memory().available)

    def _now(self) -> int:
        return int(self._process.memory_info().rss)


def timed_steps(step: Callable[[], torch.Tensor], place: Place, steps: int) -> dict[str, Any]:
    """Seconds of the first step and of a row of them, what came out, and what residency copied.

    Args:
        step: Computes one, given nothing.
        place: Where.
        steps: In the row, after some that are not timed.
    """
    with torch.no_grad():
        began_s = time.perf_counter()
        result = step()
        place.synchronize()
        bring_s = time.perf_counter() - began_s
        for _ in range(WARM_UP_STEPS - 1):
            step()
        place.synchronize()
        # What is on its way ahead of the row was waited for, and so is what is ahead of its end.
        place.transfers.take_times()
        began_s = time.perf_counter()
        for _ in range(steps):
            result = step()
        place.synchronize()
        step_s = (time.perf_counter() - began_s) / steps
        copied_bytes = place.transfers.take_times().copied_bytes
    return {
        "step_s": step_s,
        "bring_s": bring_s,
        "streamed_bytes": copied_bytes // steps,
        "digest": digest_of(result),
    }


def digest_of(result: torch.Tensor) -> str:
    """Of the bits, so that two modes can be compared.

    Raises:
        ValueError: There is something in it that is no number.
    """
    values = result.detach().float().cpu().contiguous()
    if not bool(torch.isfinite(values).all()):
        raise ValueError("the step's result has values that are no numbers")
    return hashlib.sha256(values.numpy().tobytes()).hexdigest()[:16]
