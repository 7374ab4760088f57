"""Copies to a GPU of torch.cuda (NVIDIA, AMD) or torch.xpu (Intel). Not tried on a real GPU."""

import logging
from dataclasses import dataclass
from typing import Any

import psutil
import torch

from app.core.units import format_bytes
from app.engine.residency.host_block import HostTier
from app.engine.residency.host_network import HostBuffer, ram_buffer
from app.engine.residency.pinning import MIN_RAM_LEFT_BYTES, power_of_two
from app.engine.residency.transfers import Times

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaMark:
    """An event of torch, and for a copy the one before it; events have no full types."""

    event: Any
    began: Any = None
    size_bytes: int = 0


class CudaTransfers:
    """Copies on a stream of their own; only `wait_on_host` and `settle` wait, for events."""

    in_place = False
    needs_pinned = True

    def __init__(self, device: torch.device) -> None:
        """Take a GPU."""
        self._device = device
        # They look alike, and neither has full types.
        self._backend: Any = torch.cuda if device.type == "cuda" else torch.xpu
        self._stream: Any = self._backend.Stream(device)
        self._pins = True
        self._copies: list[CudaMark] = []
        self._waits: list[CudaMark] = []

    def host_buffer(self, size_bytes: int) -> HostBuffer:
        """Pinned RAM, until RAM gets short or the driver refuses."""
        # As torch's allocator of locked memory rounds it.
        wanted = power_of_two(size_bytes)
        if self._pins and psutil.virtual_memory().available - wanted < MIN_RAM_LEFT_BYTES:
            log.info("RAM is short: no more is pinned")
            self._pins = False
        if self._pins:
            try:
                return torch.empty(size_bytes, dtype=torch.uint8, pin_memory=True), HostTier.PINNED
            except RuntimeError as error:
                # A failed attempt makes later ones fail too on some Windows drivers.
                self._pins = False
                log.info("%s cannot be pinned (%s)", format_bytes(size_bytes), error)
        return ram_buffer(size_bytes)

    def keep_off(self, weights: torch.Tensor) -> None:
        """Torch itself refuses to compute with what is in RAM."""

    def allocate(self, size_bytes: int) -> torch.Tensor:
        """Memory of torch's allocator."""
        buffer = torch.empty(size_bytes, dtype=torch.uint8, device=self._device)
        # The allocator may hand out what is still computed with, for it knows one stream only.
        self._stream.wait_stream(self._compute_stream())
        return buffer

    def release(self, buffer: torch.Tensor) -> None:
        """Freed with its last view, for work that comes after in the stream that computes.

        The allocator knows nothing of the other stream by itself.
        """
        buffer.record_stream(self._stream)

    def copy(self, target: torch.Tensor, source: torch.Tensor, after: CudaMark | None) -> CudaMark:
        """One copy; from memory that is not pinned the driver keeps the host until it is done."""
        mark = CudaMark(
            event=self._event(timing=True),
            began=self._event(timing=True),
            size_bytes=target.numel(),
        )
        stream = self._stream
        if after is not None:
            stream.wait_event(after.event)
        with self._backend.stream(stream):
            mark.began.record(stream)
            target.copy_(source, non_blocking=True)
            mark.event.record(stream)
        self._copies.append(mark)
        return mark

    def record(self) -> CudaMark:
        """An event in the stream that computes."""
        mark = CudaMark(event=self._event(timing=False))
        mark.event.record(self._compute_stream())
        return mark

    def wait(self, copied: CudaMark) -> None:
        """The stream that computes waits; two events say for how long."""
        stream = self._compute_stream()
        waited = CudaMark(event=self._event(timing=True), began=self._event(timing=True))
        waited.began.record(stream)
        stream.wait_event(copied.event)
        waited.event.record(stream)
        self._waits.append(waited)

    def is_done(self, mark: CudaMark) -> bool:
        """By the event."""
        return bool(mark.event.query())

    def wait_on_host(self, mark: CudaMark) -> None:
        """By the event."""
        mark.event.synchronize()

    def settle(self) -> None:
        """By an event: to wait for the stream would keep a core busy."""
        event = self._event(timing=False)
        event.record(self._stream)
        event.synchronize()

    def take_times(self) -> Times:
        """Of the events that have passed."""
        copied, self._copies = _passed(self._copies)
        waited, self._waits = _passed(self._waits)
        return Times(
            copied_bytes=sum(mark.size_bytes for mark in copied),
            copying_s=_seconds(copied),
            waited_s=_seconds(waited),
        )

    def _compute_stream(self) -> Any:  # noqa: ANN401 - a stream of torch
        return self._backend.current_stream(self._device)

    def _event(self, *, timing: bool) -> Any:  # noqa: ANN401 - an event of torch
        if self._device.type == "cuda":
            # While the host waits for a block it need not keep a core busy.
            return torch.cuda.Event(enable_timing=timing, blocking=True)
        return self._backend.Event(enable_timing=timing)


def _passed(marks: list[CudaMark]) -> tuple[list[CudaMark], list[CudaMark]]:
    """Those that the device is past, and the others; it passes them in order."""
    count = next((i for i, mark in enumerate(marks) if not mark.event.query()), len(marks))
    return marks[:count], marks[count:]


def _seconds(marks: list[CudaMark]) -> float:
    return sum(float(mark.began.elapsed_time(mark.event)) for mark in marks) / 1000
