"""Blocks that are read into bounce buffers ahead of the turns they compute in."""

from collections import deque
from collections.abc import Iterable

import torch

from app.engine.residency.host_block import BlockReader, HostBlock, Reading
from app.engine.residency.transfers import Mark, Transfers


class BounceTurns:
    """Keeps the reader's few buffers busy: each is read into, copied from, and free again."""

    def __init__(self, reader: BlockReader, transfers: Transfers) -> None:
        """Read nothing yet."""
        self._reader = reader
        self._transfers = transfers
        self._readings: dict[int, Reading] = {}
        self._copied: deque[tuple[Mark, Reading]] = deque()

    def read_ahead(self, coming: Iterable[tuple[int, HostBlock]]) -> None:
        """Begin to read as many as there are buffers for.

        Args:
            coming: Turns and their blocks, in order; those that are being read are passed over.
        """
        while self._copied and self._transfers.is_done(self._copied[0][0]):
            self._copied.popleft()[1].release()
        for turn, block in coming:
            if turn not in self._readings and not self._start(turn, block):
                return

    def take(self, turn: int, block: HostBlock, *, wait: bool) -> torch.Tensor | None:
        """A block's packed buffer once it is read; None when it is not and nobody waits.

        After an error nothing may be taken until `drop`.

        Raises:
            OSError: It cannot be read.
        """
        while turn not in self._readings and not self._start(turn, block):
            if not wait:
                return None
            if not self._copied:
                # Another component has them, read ahead for a turn that waits for this one.
                if not self._start(turn, block, due=True):
                    raise RuntimeError("the reader has no buffer for a block that is due")
                break
            mark, reading = self._copied.popleft()
            self._transfers.wait_on_host(mark)
            reading.release()
        reading = self._readings[turn]
        return reading.wait() if wait or reading.is_done() else None

    def note_copy(self, turn: int, mark: Mark) -> None:
        """A block that was taken is on its way to the device."""
        self._copied.append((mark, self._readings.pop(turn)))

    def drop_readings(self) -> None:
        """Want nothing any more of what is not on its way to the device."""
        dropped = tuple(self._readings.values())
        self._readings.clear()
        for reading in dropped:
            reading.release()

    def drop(self) -> None:
        """Want nothing any more; all copies are done."""
        self.drop_readings()
        while self._copied:
            self._copied.popleft()[1].release()

    def _start(self, turn: int, block: HostBlock, *, due: bool = False) -> bool:
        reading = self._reader.start(block, due=due)
        if reading is None:
            return False
        self._readings[turn] = reading
        return True
