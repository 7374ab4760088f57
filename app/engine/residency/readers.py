"""Blocks read from the disk ahead of their use: a few threads fill a few buffers."""

import threading
from collections import deque
from collections.abc import Callable, Sequence

import torch

from app.core.errors import AppError
from app.engine.residency.block_source import ReadPart
from app.engine.residency.host_block import HostBlock
from app.engine.residency.ring import BOUNCE_BUFFERS
from app.engine.residency.stored_block import StoredBlock

READER_THREADS = 3
"""A disk gives more when it is asked for several stretches at once. An assumption."""
LINGER_S = 0.2
"""A thread without work waits this long for more, and then ends: between jobs there are none."""
Allocate = Callable[[int], torch.Tensor]


class FileReading:
    """A block that is on its way from the disk; see `host_block.Reading`."""

    def __init__(
        self, buffer: torch.Tensor, size_bytes: int, give_back: Callable[[torch.Tensor], None]
    ) -> None:
        """Take a buffer that is at least as large as the block."""
        self._whole = buffer
        self._packed = buffer[:size_bytes]
        self._give_back = give_back
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._parts_left = 0
        self._error: BaseException | None = None
        self._wanted = True

    def is_done(self) -> bool:
        """Whether it was read, or failed."""
        return self._done.is_set()

    def wait(self) -> torch.Tensor:
        """The packed buffer, once it is filled.

        Raises:
            ModelError: The file cannot be read.
        """
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._packed

    def release(self) -> None:
        """The buffer may be filled anew, once nothing more is read into it."""
        with self._lock:
            if not self._wanted:
                return
            self._wanted = False
            finished = self._done.is_set()
        if finished:
            self._give_back(self._whole)

    def expect(self, parts: int) -> None:
        """So many parts will be read."""
        self._parts_left = parts
        if not parts:
            self._done.set()

    def read(self, part: ReadPart) -> None:
        """Read one part, in any thread; nothing is read that nobody wants any more."""
        error: BaseException | None = None
        try:
            if self._goes_on():
                part(self._packed, self._goes_on)
        except (AppError, OSError, RuntimeError, ValueError, MemoryError) as caught:
            error = caught
        with self._lock:
            self._error = self._error or error
            self._parts_left -= 1
            if self._parts_left:
                return
            self._done.set()
            wanted = self._wanted
        if not wanted:
            self._give_back(self._whole)

    def _goes_on(self) -> bool:
        return self._wanted and self._error is None


class FileReader:
    """Reads FILE blocks ahead, in the order it is asked; see `host_block.BlockReader`."""

    def __init__(
        self,
        allocate: Allocate,
        *,
        free: Callable[[torch.Tensor], None] = lambda _buffer: None,
        threads: int = READER_THREADS,
        buffers: int = BOUNCE_BUFFERS,
        linger_s: float = LINGER_S,
    ) -> None:
        """Begin without buffers and threads.

        Args:
            allocate: Gives RAM of some bytes, locked where that is possible.
            free: Told of each buffer before it is dropped.
            threads: At most.
            buffers: At most.
            linger_s: How long a thread waits for more work.
        """
        self._allocate = allocate
        self._free_buffer = free
        self._most_threads = threads
        self._most_buffers = buffers
        self._linger_s = linger_s
        self._work: deque[tuple[FileReading, ReadPart]] = deque()
        self._changed = threading.Condition()
        self._threads = 0
        self._waiting = 0
        self._free: list[torch.Tensor] = []
        self._buffers = 0

    @property
    def buffer_bytes(self) -> int:
        """RAM of the buffers that nobody uses now."""
        with self._changed:
            return sum(buffer.nbytes for buffer in self._free)

    def start(self, block: HostBlock, *, due: bool = False) -> FileReading | None:
        """Begin to read a block; None when all buffers are taken.

        Args:
            block: To read.
            due: Whether nothing goes on without it: then there is one buffer more, from now on.

        Raises:
            MemoryError: There is no RAM for a buffer.
        """
        size_bytes = block.layout.size_bytes
        buffer = self._take(size_bytes, due=due)
        if buffer is None:
            return None
        reading = FileReading(buffer, size_bytes, self._give_back)
        parts = _parts_of(block)
        reading.expect(len(parts))
        with self._changed:
            self._work.extend((reading, part) for part in parts)
            self._changed.notify(len(parts))
            missing = min(self._most_threads - self._threads, len(self._work) - self._waiting)
            for _ in range(max(0, missing)):
                self._threads += 1
                threading.Thread(target=self._run, name="weights-reader", daemon=True).start()
        return reading

    def let_go(self) -> None:
        """Give back the RAM of buffers that nobody uses."""
        with self._changed:
            while self._free:
                self._drop_one()

    def _take(self, size_bytes: int, *, due: bool) -> torch.Tensor | None:
        with self._changed:
            found = next((one for one in self._free if one.nbytes >= size_bytes), None)
            if found is not None:
                # By identity: tensors compare their elements.
                self._free = [one for one in self._free if one is not found]
                return found
            if self._buffers >= self._most_buffers:
                if self._free:
                    # All that are free are too small.
                    self._drop_one()
                elif not due:
                    return None
            buffer = self._allocate(size_bytes)
            self._buffers += 1
            return buffer

    def _drop_one(self) -> None:
        self._free_buffer(self._free.pop())
        self._buffers -= 1

    def _give_back(self, buffer: torch.Tensor) -> None:
        with self._changed:
            self._free.append(buffer)

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._work:
                    self._waiting += 1
                    self._changed.wait(self._linger_s)
                    self._waiting -= 1
                if not self._work:
                    self._threads -= 1
                    return
                reading, part = self._work.popleft()
            reading.read(part)


def _parts_of(block: HostBlock) -> Sequence[ReadPart]:
    if isinstance(block, StoredBlock):
        return block.read_parts()
    return (lambda out, _goes_on: block.read_into(out),)
