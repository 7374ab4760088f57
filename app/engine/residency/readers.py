"""Blocks read ahead of their use, from the disk or RAM: a few threads fill a few buffers."""

import threading
from collections import deque
from collections.abc import Callable, Sequence

import torch

from app.core.errors import AppError
from app.engine.residency.block_source import ReadPart
from app.engine.residency.host_block import HostBlock
from app.engine.residency.ring import BOUNCE_BUFFERS
from app.engine.residency.stored_block import StoredBlock, ram_parts

READER_THREADS = 3
"""A disk gives more when it is asked for several stretches at once, RAM when several cores copy. An
assumption."""
LEAST_BUFFERS = 2
"""Locked ones with which the device need not wait for the host: one is copied, one filled."""
LINGER_S = 0.2
"""A thread without work waits this long for more, and then ends: between jobs there are none."""
Allocate = Callable[[int], torch.Tensor]


class FileReading:
    """A block that is on its way into a buffer; see `host_block.Reading`."""

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
        error = self._error
        if error is None:
            return self._packed
        # Kept here, it would keep the frames that it comes through, and with them weights.
        self._error = RuntimeError("the block could not be read")
        try:
            raise error
        finally:
            del error

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
        try:
            if self._goes_on():
                part(self._packed, self._goes_on)
        except (AppError, OSError, RuntimeError, ValueError, MemoryError) as error:
            with self._lock:
                self._error = self._error or error
        with self._lock:
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
    """Reads blocks ahead, in the order it is asked; see `host_block.BlockReader`."""

    def __init__(
        self,
        allocate: Allocate,
        *,
        free: Callable[[torch.Tensor], None] = lambda _buffer: None,
        locked: Callable[[torch.Tensor], bool] = lambda _buffer: False,
        threads: int = READER_THREADS,
        buffers: int = BOUNCE_BUFFERS,
        linger_s: float = LINGER_S,
    ) -> None:
        """Begin without buffers and threads.

        Args:
            allocate: Gives RAM of some bytes, locked where that is possible.
            free: Told of each buffer before it is dropped.
            locked: Whether a buffer that `allocate` gave is locked.
            threads: At most.
            buffers: At most.
            linger_s: How long a thread waits for more work.
        """
        self._allocate = allocate
        self._free_buffer = free
        self._locked = locked
        self._most_threads = threads
        self._most_buffers = buffers
        self._linger_s = linger_s
        self._work: deque[tuple[FileReading, ReadPart]] = deque()
        self._changed = threading.Condition()
        self._threads = 0
        self._waiting = 0
        self._free: list[torch.Tensor] = []
        self._buffers: list[torch.Tensor] = []

    @property
    def all_bytes(self) -> int:
        """RAM of all buffers."""
        with self._changed:
            return sum(buffer.nbytes for buffer in self._buffers)

    def is_locked(self, size_bytes: int) -> bool:
        """Whether there are locked buffers for blocks of this size, one to fill and one to copy."""
        return self.locked_count(size_bytes) >= LEAST_BUFFERS

    def locked_count(self, size_bytes: int) -> int:
        """Of locked buffers for blocks of this size."""
        with self._changed:
            return sum(one.nbytes >= size_bytes and self._locked(one) for one in self._buffers)

    def reserve(
        self, size_bytes: int, buffers: int, check: Callable[[], None] = lambda: None
    ) -> None:
        """Have as many locked buffers for blocks of this size as can be had, and no others.

        Args:
            size_bytes: Of the largest block.
            buffers: At most.
            check: Called before each is made; may raise to stop.

        Raises:
            RuntimeError: There is no RAM for a buffer (as torch says it).
        """
        with self._changed:
            for buffer in tuple(self._free):
                if buffer.nbytes < size_bytes or not self._locked(buffer):
                    self._drop(buffer)
            while len(self._buffers) < buffers:
                check()
                buffer = self._allocate(size_bytes)
                self._buffers.append(buffer)
                self._free.append(buffer)
                if not self._locked(buffer):
                    self._drop(buffer)
                    return

    def start(self, block: HostBlock, *, due: bool = False) -> FileReading | None:
        """Begin to read a block from where it is; None when all buffers are taken.

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
            for buffer in tuple(self._free):
                self._drop(buffer)

    def _take(self, size_bytes: int, *, due: bool) -> torch.Tensor | None:
        with self._changed:
            found = next((one for one in self._free if one.nbytes >= size_bytes), None)
            if found is not None:
                self._free = _without(self._free, found)
                return found
            if len(self._buffers) >= self._most_buffers:
                if self._free:
                    # All that are free are too small.
                    self._drop(self._free[-1])
                elif not due:
                    return None
            buffer = self._allocate(size_bytes)
            self._buffers.append(buffer)
            return buffer

    def _drop(self, buffer: torch.Tensor) -> None:
        self._free_buffer(buffer)
        self._free = _without(self._free, buffer)
        self._buffers = _without(self._buffers, buffer)

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
    packed = block.packed()
    if packed is not None:
        return ram_parts(packed)
    return (lambda out, _goes_on: block.read_into(out),)


def _without(buffers: list[torch.Tensor], left_out: torch.Tensor) -> list[torch.Tensor]:
    # By identity: tensors compare their elements.
    return [one for one in buffers if one is not left_out]
