"""A reader of blocks that takes time on the clock of simulated transfers, and none of ours."""

from collections.abc import Callable

import torch

from app.engine.residency.host_block import HostBlock
from app.engine.residency.ring import BOUNCE_BUFFERS
from app.engine.simulated_transfers import SimulatedTransfers


class ClockedReading:
    """Done when the host has come so far on the clock."""

    def __init__(self, block: HostBlock, reader: "ClockedReader", done_s: float) -> None:
        self._block = block
        self._reader = reader
        self._done_s = done_s
        self.buffer = torch.empty(block.layout.size_bytes, dtype=torch.uint8)

    def is_done(self) -> bool:
        return self._done_s <= self._reader.transfers.host_s

    def wait(self) -> torch.Tensor:
        self._reader.transfers.hold_host_until(self._done_s)
        self._block.read_into(self.buffer)
        return self.buffer

    def release(self) -> None:
        self._reader.free += 1


class ClockedReader:
    """Fills one buffer after the other.

    Attributes:
        transfers: Whose clock it goes by.
        free: Buffers that are.
        buffers: That blocks were read into, by their addresses.
    """

    def __init__(
        self,
        transfers: SimulatedTransfers,
        read_s: Callable[[HostBlock], float],
        *,
        locked: bool = True,
    ) -> None:
        self.transfers = transfers
        self.free = BOUNCE_BUFFERS
        self.buffers: set[int] = set()
        self._read_s = read_s
        self._locked = locked
        self._clock_s = 0.0

    def is_locked(self, size_bytes: int) -> bool:
        del size_bytes
        return self._locked

    def start(self, block: HostBlock, *, due: bool = False) -> ClockedReading | None:
        if not self.free and not due:
            return None
        self.free -= 1
        self._clock_s = max(self._clock_s, self.transfers.host_s) + self._read_s(block)
        reading = ClockedReading(block, self, self._clock_s)
        self.buffers.add(reading.buffer.data_ptr())
        return reading
