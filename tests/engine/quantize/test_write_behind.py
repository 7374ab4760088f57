"""What is written behind the work: in its place, and never much of it on its way to the disk."""

import io
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest
import torch

from app.engine.quantize import piece_flow
from app.engine.quantize.piece_flow import WriteBehind

PIECE_BYTES = 30
FLUSH_BYTES = 100
PIECES = 200


class LazyDisk(io.BytesIO):
    """A disk so slow that nothing reaches it before somebody waits for it.

    Attributes:
        most_bytes: That were written and had not reached the disk, at any time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.most_bytes = 0
        self._written_bytes = 0
        self._reached_bytes = 0

    def write(self, content: Any) -> int:
        self._written_bytes += len(content)
        self.most_bytes = max(self.most_bytes, self._written_bytes - self._reached_bytes)
        return super().write(content)

    def fileno(self) -> int:
        return self._written_bytes

    def reach(self, written_bytes: int) -> None:
        """What was written when this was asked for is on the disk."""
        self._reached_bytes = max(self._reached_bytes, written_bytes)


class Later(Future[Any]):
    """Is done when it is waited for."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__()
        self._work = work

    def result(self, timeout: float | None = None) -> Any:
        if not self.done():
            self.set_result(self._work())
        return super().result(timeout)


class LazyThread:
    """A thread that works only on what is waited for."""

    def __init__(self, _threads: int, _name: str) -> None:
        pass

    def submit(self, work: Callable[..., Any], *inputs: Any) -> Later:
        return Later(lambda: work(*inputs))

    def shutdown(self, *, cancel_futures: bool = False) -> None:
        pass


def test_what_has_not_reached_the_disk_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    disk = LazyDisk()
    monkeypatch.setattr(piece_flow, "FLUSH_BYTES", FLUSH_BYTES)
    monkeypatch.setattr(piece_flow, "_flush_file", disk.reach)
    monkeypatch.setattr(piece_flow, "ThreadPoolExecutor", LazyThread)
    pieces = torch.arange(PIECES * PIECE_BYTES).to(torch.uint8).split(PIECE_BYTES)
    with WriteBehind(disk) as writer:
        for number, piece in enumerate(pieces):
            writer.put(number * PIECE_BYTES, piece)
    assert disk.getvalue() == bytes(torch.cat(pieces).tolist())
    # One lot is on its way while the next one comes, each with the piece that filled it.
    assert FLUSH_BYTES < disk.most_bytes <= 2 * (FLUSH_BYTES + PIECE_BYTES)


def test_pieces_that_wait_to_be_written_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: list[Later] = []

    class Noted(LazyThread):
        def submit(self, work: Callable[..., Any], *inputs: Any) -> Later:
            waiting.append(super().submit(work, *inputs))
            return waiting[-1]

    monkeypatch.setattr(piece_flow, "ThreadPoolExecutor", Noted)
    with WriteBehind(LazyDisk(), behind=3) as writer:
        for number in range(PIECES):
            writer.put(number, torch.zeros(1))
            assert sum(not one.done() for one in waiting) <= 3
