"""The weights of a block in files, read straight to where they belong in its packed buffer."""

import functools
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from app.engine.residency.layout import BlockLayout, TensorSpan
from app.engine.stored_weights import StoredTensor

PIECE_BYTES = 32 << 20
"""What one thread reads at once; a multiple of every dtype's size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A stretch of a file that belongs in one place of a packed buffer.

    Attributes:
        path: Of the file.
        offset_bytes: In the file.
        count: Of elements.
        stored: Their dtype in the file.
        dtype: Their dtype in the buffer.
        target_bytes: Where they belong in the buffer.
    """

    path: Path
    offset_bytes: int
    count: int
    stored: torch.dtype
    dtype: torch.dtype
    target_bytes: int

    @property
    def nbytes(self) -> int:
        """In the buffer."""
        return self.count * self.dtype.itemsize


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
        parts: list[ReadPart] = [functools.partial(read_task, task) for task in _tasks(pieces)]
        parts += [
            functools.partial(_copy_made, span, made[span.name])
            for span in layout.spans
            if span.name in made
        ]
        self.parts: Sequence[ReadPart] = tuple(parts)

    def read_into(self, out: torch.Tensor) -> None:
        """Fill a packed buffer in RAM.

        Raises:
            OSError: A file cannot be read, or has become shorter.
        """
        for part in self.parts:
            part(out, lambda: True)


def read_task(task: Task, out: torch.Tensor, goes_on: Callable[[], bool]) -> None:
    """Read pieces into a packed buffer in RAM.

    Args:
        task: The pieces.
        out: The whole buffer, (bytes,) uint8.
        goes_on: Asked before each piece; the rest is left out when it says no.

    Raises:
        OSError: A file cannot be read, or has become shorter.
    """
    # By numpy, because a file reads into memory that Python knows; its type does not say so.
    array: Any = out.numpy()
    memory = memoryview(array)
    with ExitStack() as stack:
        files: dict[Path, io.FileIO] = {}
        for piece in task:
            if not goes_on():
                return
            file = files.get(piece.path)
            if file is None:
                file = files[piece.path] = stack.enter_context(io.FileIO(piece.path, "rb"))
            end_bytes = piece.target_bytes + piece.nbytes
            if piece.stored == piece.dtype:
                _read_fully(file, piece, memory[piece.target_bytes : end_bytes])
            else:
                raw = bytearray(piece.count * piece.stored.itemsize)
                _read_fully(file, piece, memoryview(raw))
                numbers = torch.frombuffer(raw, dtype=piece.stored)
                out[piece.target_bytes : end_bytes].view(piece.dtype).copy_(numbers)


def _copy_made(
    span: TensorSpan, made: torch.Tensor, out: torch.Tensor, goes_on: Callable[[], bool]
) -> None:
    if goes_on():
        span.view_of(out).copy_(made)


def _read_fully(file: io.FileIO, piece: Piece, out: memoryview) -> None:
    file.seek(piece.offset_bytes, os.SEEK_SET)
    done = 0
    while done < len(out):
        count = file.readinto(out[done:])
        if not count:
            raise OSError(f"the weights file {piece.path} has become shorter while it was in use")
        done += count


def _pieces(span: TensorSpan, stored: StoredTensor) -> Iterator[Piece]:
    if span.stride is not None:
        raise ValueError(f"{span.name} is not contiguous")
    count = span.nbytes // span.dtype.itemsize
    if count * stored.dtype.itemsize != stored.nbytes:
        raise ValueError(f"{span.name} is stored with another number of elements")
    most = PIECE_BYTES // max(span.dtype.itemsize, stored.dtype.itemsize)
    for first in range(0, count, most):
        yield Piece(
            path=stored.path,
            offset_bytes=stored.offset_bytes + first * stored.dtype.itemsize,
            count=min(most, count - first),
            stored=stored.dtype,
            dtype=span.dtype,
            target_bytes=span.offset_bytes + first * span.dtype.itemsize,
        )


def _tasks(pieces: Sequence[Piece]) -> Iterator[Task]:
    """Pieces in the order of the files, joined where they lie side by side, some to each task."""
    task: list[Piece] = []
    task_bytes = 0
    for piece in _joined(sorted(pieces, key=lambda one: (one.path, one.offset_bytes))):
        if task and task_bytes + piece.nbytes > PIECE_BYTES:
            yield tuple(task)
            task, task_bytes = [], 0
        task.append(piece)
        task_bytes += piece.nbytes
    if task:
        yield tuple(task)


def _joined(pieces: Iterable[Piece]) -> Iterator[Piece]:
    last: Piece | None = None
    for piece in pieces:
        if last is not None and _follows(piece, last):
            last = replace(last, count=last.count + piece.count)
            continue
        if last is not None:
            yield last
        last = piece
    if last is not None:
        yield last


def _follows(piece: Piece, last: Piece) -> bool:
    same = (piece.path, piece.stored, piece.dtype) == (last.path, last.stored, last.dtype)
    return (
        same
        and piece.offset_bytes == last.offset_bytes + last.count * last.stored.itemsize
        and piece.target_bytes == last.target_bytes + last.nbytes
        and last.nbytes + piece.nbytes <= PIECE_BYTES
    )
