"""Pieces of files that are read and written beside the work on them, few at a time.

Reading, working and writing take turns only where a disk or a processor is waited for: the whole
takes as long as the slowest of the three.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar

import torch

Item = TypeVar("Item")
Made = TypeVar("Made")

AHEAD = 4
"""Pieces that are read before they are asked for, and so many that wait to be written."""
READERS = 2
FLUSH_BYTES = 256 << 20
"""Systems leave gigabytes of a written file in RAM and begin to write when it is too late: so many
bytes are sent to the disk at a time, while the next ones come."""
# Without the times of the file, where that can be left out.
_flush_file: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)


def work_ahead(
    items: Iterable[Item],
    work: Callable[[Item], Made],
    name: str,
    *,
    threads: int = READERS,
    ahead: int = AHEAD,
) -> Generator[Made]:
    """What is made of each item, in order; the next ones are worked on meanwhile.

    Each thread computes alone: torch's own threads would wait for each other in every operation,
    which on a busy computer takes many times as long as the operation itself.

    Args:
        items: What is to be worked on.
        work: Done on one, in another thread; what it raises is raised here, in its turn.
        name: Of the threads.
        threads: That work.
        ahead: How many items are worked on, or wait, besides the one that is given.
    """
    waiting: deque[Future[Made]] = deque()
    usual_threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads, name, torch.set_num_threads, (1,)) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for made in waiting:
                made.cancel()
            # Threads to come would otherwise begin as those did; ours has had this all along.
            torch.set_num_threads(usual_threads)


class WriteBehind:
    """Writes tensors into a file in another thread, and sends them to the disk in a third.

    A context: at its end all is written, or given up when an exception ends it.
    """

    def __init__(self, file: BinaryIO, *, behind: int = AHEAD) -> None:
        """Take a file that nobody else uses meanwhile.

        Args:
            file: To write into.
            behind: Tensors that may wait to be written.
        """
        self._file = file
        self._behind = behind
        self._waiting: deque[Future[None]] = deque()
        self._writer = ThreadPoolExecutor(1, "quantize-writer")
        self._flusher = ThreadPoolExecutor(1, "quantize-flusher")
        self._flushing: Future[None] | None = None
        self._unflushed_bytes = 0

    def put(self, offset_bytes: int, tensor: torch.Tensor) -> None:
        """Write a tensor at a place, soon; it must not change from now on.

        Raises:
            OSError: An earlier one could not be written.
        """
        while len(self._waiting) >= self._behind:
            self._waiting.popleft().result()
        self._waiting.append(self._writer.submit(self._write, offset_bytes, tensor))

    def __enter__(self) -> Self:
        """The writer itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write what waits; raises what could not be written."""
        try:
            while kind is None and self._waiting:
                self._waiting.popleft().result()
            if kind is None and self._flushing is not None:
                self._flushing.result()
        finally:
            self._writer.shutdown(cancel_futures=True)
            self._flusher.shutdown()

    def _write(self, offset_bytes: int, tensor: torch.Tensor) -> None:
        numbers: Any = tensor.contiguous().view(-1).view(torch.uint8).numpy()
        self._file.seek(offset_bytes)
        self._file.write(memoryview(numbers))
        self._unflushed_bytes += tensor.nbytes
        if self._unflushed_bytes < FLUSH_BYTES:
            return
        self._unflushed_bytes = 0
        self._file.flush()
        if self._flushing is not None:
            # What has not reached the disk is bounded, too.
            self._flushing.result()
        self._flushing = self._flusher.submit(_flush_file, self._file.fileno())
