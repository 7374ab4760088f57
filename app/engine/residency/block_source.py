"""The weights of a block in files, read straight to where they belong in its packed buffer."""

import errno
import functools
import io
import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from app.core.errors import ModelError
from app.engine.residency.layout import BlockLayout, TensorSpan
from app.engine.safetensors_header import unreadable_weights
from app.engine.stored_weights import CHECK_BYTES, DamagedFileError, StoredTensor, checksum

PIECE_BYTES = 32 << 20
"""What one thread reads at once; a multiple of every dtype's size, and of `CHECK_BYTES`."""
_FILE_IS_LOST = frozenset({errno.ENOENT, errno.EIO, errno.ESTALE})
GAP_BYTES = 4096
"""A gap between two tensors that is read with them, where the buffer has the same one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """The checksum of a stretch of a file.

    Attributes:
        offset_bytes: In the file.
        nbytes: Of the stretch.
        checksum: What it has to be.
    """

    offset_bytes: int
    nbytes: int
    checksum: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A stretch of a file that belongs in one place of a packed buffer.

    Attributes:
        path: Of the file.
        offset_bytes: In the file.
        count: Of elements.
        stored: Their dtype in the file; uint8 when the bytes are only copied.
        dtype: Their dtype in the buffer; uint8 when the bytes are only copied.
        target_bytes: Where they belong in the buffer.
        checks: Of stretches of it, where they are known.
    """

    path: Path
    offset_bytes: int
    count: int
    stored: torch.dtype
    dtype: torch.dtype
    target_bytes: int
    checks: tuple[Check, ...] = ()

    @property
    def nbytes(self) -> int:
        """In the buffer."""
        return self.count * self.dtype.itemsize

    @property
    def end_bytes(self) -> int:
        """Where it ends in the buffer."""
        return self.target_bytes + self.nbytes

    @property
    def converts(self) -> bool:
        """Whether its elements become others; else only bytes are copied."""
        return self.stored != self.dtype


Task = tuple[Piece, ...]
"""Pieces that one thread reads one after the other."""
ReadPart = Callable[[torch.Tensor, Callable[[], bool]], None]
"""Reads a part of a block into its packed buffer, as long as it is wanted."""


class BlockSource:
    """Where all tensors of a block are stored.

    Attributes:
        layout: Of its packed buffer.
        parts: What fills one buffer; in any order, by any threads.
    """

    def __init__(
        self,
        layout: BlockLayout,
        stored: Mapping[str, StoredTensor],
        made: Mapping[str, torch.Tensor] | None = None,
    ) -> None:
        """Look up where each tensor is.

        Args:
            layout: Of tensors that are contiguous.
            stored: By the names in the layout.
            made: Those that are in no file, by the names in the layout; small, and kept.

        Raises:
            KeyError: A tensor is not stored.
            ValueError: A tensor is stored with another number of elements.
        """
        self.layout = layout
        made = made or {}
        pieces = [
            piece
            for span in layout.spans
            if span.name not in made
            for piece in _pieces(span, stored[span.name])
        ]
        starts = sorted(span.offset_bytes for span in layout.spans if span.nbytes)
        parts: list[ReadPart] = [_Reading(task) for task in _tasks(_joined(pieces, starts))]
        parts += [
            functools.partial(_copy_made, span, made[span.name])
            for span in layout.spans
            if span.name in made
        ]
        self.parts: Sequence[ReadPart] = tuple(parts)

    def read_into(self, out: torch.Tensor) -> None:
        """Fill a packed buffer in RAM.

        Raises:
            DamagedFileError: A file that has checksums is damaged or gone.
            ModelError: Another cannot be read, or has become shorter.
        """
        for part in self.parts:
            part(out, lambda: True)

    def fill(self, out: torch.Tensor, look: Callable[[], None]) -> None:
        """The same; checksums are compared in another thread, while the next part is read.

        Args:
            out: The packed buffer.
            look: Called between parts; may raise to stop.

        Raises:
            ModelError: As for `read_into`.
        """
        checking: list[Future[None]] = []
        with ExitStack() as stack:
            checker: ThreadPoolExecutor | None = None
            for part in self.parts:
                look()
                if not isinstance(part, _Reading) or part.is_checked:
                    part(out, _always)
                    continue
                if checker is None:
                    checker = stack.enter_context(ThreadPoolExecutor(1, "weights-checker"))
                part.read(out, _always)
                checking.append(checker.submit(part.check, out))
            for one in checking:
                one.result()


class _Reading:
    """A task as a part; what is read is checked the first time only."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.is_checked = not any(piece.checks for piece in task)

    def __call__(self, out: torch.Tensor, goes_on: Callable[[], bool]) -> None:
        self.read(out, goes_on)
        if not self.is_checked and goes_on():
            self.check(out)

    def read(self, out: torch.Tensor, goes_on: Callable[[], bool]) -> None:
        read_task(self._task, out, goes_on)

    def check(self, out: torch.Tensor) -> None:
        check_task(self._task, out)
        self.is_checked = True


def _always() -> bool:
    return True


def check_task(task: Task, out: torch.Tensor) -> None:
    """Compare what was read into a packed buffer in RAM with its checksums.

    Raises:
        DamagedFileError: It is something else.
    """
    array: Any = out.numpy()
    memory = memoryview(array)
    for piece in task:
        for check in piece.checks:
            begin = piece.target_bytes + check.offset_bytes - piece.offset_bytes
            if checksum(memory[begin : begin + check.nbytes]) != check.checksum:
                raise DamagedFileError(piece.path)


def read_task(task: Task, out: torch.Tensor, goes_on: Callable[[], bool]) -> None:
    """Read pieces into a packed buffer in RAM.

    Args:
        task: The pieces.
        out: The whole buffer, (bytes,) uint8.
        goes_on: Asked before each piece; the rest is left out when it says no.

    Raises:
        ModelError: A file cannot be read, or has become shorter.
    """
    # By numpy, because a file reads into memory that Python knows; its type does not say so.
    array: Any = out.numpy()
    memory = memoryview(array)
    with ExitStack() as stack:
        files: dict[Path, io.FileIO] = {}
        for piece in task:
            if not goes_on():
                return
            if (file := files.get(piece.path)) is None:
                file = files[piece.path] = stack.enter_context(_opened(piece))
            if not piece.converts:
                _read_fully(file, piece, memory[piece.target_bytes : piece.end_bytes])
                continue
            raw = bytearray(piece.count * piece.stored.itemsize)
            _read_fully(file, piece, memoryview(raw))
            numbers = torch.frombuffer(raw, dtype=piece.stored)
            out[piece.target_bytes : piece.end_bytes].view(piece.dtype).copy_(numbers)


def _copy_made(
    span: TensorSpan, made: torch.Tensor, out: torch.Tensor, goes_on: Callable[[], bool]
) -> None:
    if goes_on():
        span.view_of(out).copy_(made)


def _opened(piece: Piece) -> io.FileIO:
    try:
        return io.FileIO(piece.path, "rb")
    except OSError as error:
        raise _unreadable(piece, error) from error


def _unreadable(piece: Piece, error: OSError) -> ModelError:
    """What was made here can be made again, unless the reason is another than the file."""
    if piece.checks and error.errno in _FILE_IS_LOST:
        return DamagedFileError(piece.path)
    return unreadable_weights(piece.path, error)


def _read_fully(file: io.FileIO, piece: Piece, out: memoryview) -> None:
    try:
        file.seek(piece.offset_bytes, os.SEEK_SET)
        done = 0
        while done < len(out):
            count = file.readinto(out[done:])
            if not count and piece.checks:
                raise DamagedFileError(piece.path)
            if not count:
                raise ModelError(
                    f"The weights file {piece.path} has become shorter while it was in use: "
                    "download it again from the model's source.",
                    code="model.truncated",
                )
            done += count
    except OSError as error:
        raise _unreadable(piece, error) from error


def _pieces(span: TensorSpan, tensor: StoredTensor) -> Iterator[Piece]:
    if span.stride is not None:
        raise ValueError(f"{span.name} is not contiguous")
    count = span.nbytes // span.dtype.itemsize
    stored, dtype = tensor.dtype, span.dtype
    if count * stored.itemsize != tensor.nbytes:
        raise ValueError(f"{span.name} is stored with another number of elements")
    if stored == dtype:
        stored, dtype, count = torch.uint8, torch.uint8, span.nbytes
    most = PIECE_BYTES // max(stored.itemsize, dtype.itemsize)
    for first in range(0, count, most):
        part = min(most, count - first)
        yield Piece(
            path=tensor.path,
            offset_bytes=tensor.offset_bytes + first * stored.itemsize,
            count=part,
            stored=stored,
            dtype=dtype,
            target_bytes=span.offset_bytes + first * dtype.itemsize,
            # Of what is converted on the way, the bytes in the buffer are others.
            checks=_checks(tensor, first, part) if tensor.dtype == span.dtype else (),
        )


def _checks(tensor: StoredTensor, first: int, count: int) -> tuple[Check, ...]:
    """Those of stretches that lie wholly among some bytes of a tensor."""
    stretches = enumerate(tensor.checks)
    found = (
        (number * CHECK_BYTES, min(CHECK_BYTES, tensor.nbytes - number * CHECK_BYTES), wanted)
        for number, wanted in stretches
    )
    return tuple(
        Check(offset_bytes=tensor.offset_bytes + begin, nbytes=size, checksum=wanted)
        for begin, size, wanted in found
        if first <= begin and begin + size <= first + count
    )


def _joined(pieces: Iterable[Piece], starts: Sequence[int]) -> Iterator[Piece]:
    """In the order of the files; those that lie there as they do in the buffer are read as one.

    Args:
        pieces: Of all tensors.
        starts: Where tensors begin in the buffer, rising.
    """
    last: Piece | None = None
    for piece in sorted(pieces, key=lambda one: (one.path, one.offset_bytes)):
        if last is not None and _continues(piece, last, starts):
            last = replace(
                last,
                count=piece.end_bytes - last.target_bytes,
                checks=(*last.checks, *piece.checks),
            )
            continue
        if last is not None:
            yield last
        last = piece
    if last is not None:
        yield last


def _continues(piece: Piece, last: Piece, starts: Sequence[int]) -> bool:
    if piece.path != last.path or piece.converts or last.converts:
        return False
    gap_bytes = piece.target_bytes - last.end_bytes
    if not 0 <= gap_bytes <= GAP_BYTES or piece.end_bytes - last.target_bytes > PIECE_BYTES:
        return False
    if piece.offset_bytes - last.offset_bytes != piece.target_bytes - last.target_bytes:
        return False
    # Another tensor may have its place in the gap, and come from elsewhere.
    return gap_bytes == 0 or starts[bisect_left(starts, last.end_bytes)] == piece.target_bytes


def _tasks(pieces: Iterable[Piece]) -> Iterator[Task]:
    """Some small pieces to each task, in order."""
    task: list[Piece] = []
    task_bytes = 0
    for piece in pieces:
        if task and task_bytes + piece.nbytes > PIECE_BYTES:
            yield tuple(task)
            task, task_bytes = [], 0
        task.append(piece)
        task_bytes += piece.nbytes
    if task:
        yield tuple(task)
