"""A block whose weights are in files, and also in RAM as long as there is room for them."""

import functools
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from app.engine.residency.block_source import PIECE_BYTES, BlockSource, ReadPart
from app.engine.residency.host_block import HostTier
from app.engine.residency.layout import BlockLayout
from app.engine.residency.pinning import Pinning

PAGE_BYTES = 4096
"""What drivers lock at once, on all platforms."""


class StoredBlock:
    """A host block that can change its tier at any time between two uses.

    Attributes:
        layout: Of the packed buffer.
        tier: Where it is now.
    """

    def __init__(self, source: BlockSource, *, pinning: Pinning | None) -> None:
        """Be in the file only.

        Args:
            source: Where the weights are stored.
            pinning: Locks RAM; None where nothing copies from it.
        """
        self.layout: BlockLayout = source.layout
        self.tier = HostTier.FILE
        self._source = source
        self._pinning = pinning
        self._buffer: torch.Tensor | None = None
        self._unpin: weakref.finalize[..., StoredBlock] | None = None
        # A reader may ask for the tier's buffer while it changes.
        self._lock = threading.Lock()

    @property
    def ram_bytes(self) -> int:
        """That its weights take in RAM, with what is lost where they are locked."""
        if self._buffer is None:
            return 0
        if self.tier is HostTier.PINNED and self._pinning is not None:
            return self._pinning.taken_bytes(self._buffer.nbytes)
        return self._buffer.nbytes

    def packed(self) -> torch.Tensor | None:
        """The packed buffer in RAM; None for FILE."""
        return self._buffer

    def read_into(self, out: torch.Tensor) -> None:
        """Fill a packed buffer in RAM, from RAM or the files.

        Raises:
            ModelError: A file cannot be read.
        """
        with self._lock:
            buffer = self._buffer
        if buffer is not None:
            out.copy_(buffer)
        else:
            self._source.read_into(out)

    def read_parts(self) -> Sequence[ReadPart]:
        """What fills a packed buffer, from RAM or the files; in any order, by any threads."""
        with self._lock:
            buffer = self._buffer
        return self._source.parts if buffer is None else ram_parts(buffer)

    def keep(self, check: Callable[[], None] = lambda: None) -> None:
        """Have the weights in RAM from now on.

        Args:
            check: Called between pieces of the file; may raise to stop, and nothing is kept.

        Raises:
            ModelError: A file cannot be read.
            RuntimeError: There is not so much RAM (as torch says it).
        """
        if self._buffer is not None:
            return
        buffer = paged_buffer(self.layout.size_bytes)
        self._source.fill(buffer, check)
        with self._lock:
            self._buffer = buffer
            self.tier = HostTier.PAGEABLE

    def pin(self, *, again: bool = False) -> bool:
        """Lock the RAM if that is possible, and say whether it is locked.

        Args:
            again: Whether to lock no more RAM than was locked before.
        """
        if self.tier is HostTier.PAGEABLE and self._pinning is not None:
            buffer = self._buffer
            locked = None if buffer is None else self._pinning.pin(buffer, again=again)
            if locked is not None:
                with self._lock:
                    self._buffer = locked
                    self.tier = HostTier.PINNED
                # Also when the block is let go without a word: memory that is freed while it is
                # locked stays locked. The buffer lives until this has run.
                self._unpin = weakref.finalize(self, self._pinning.unpin, locked)
                self._unpin.atexit = False
        return self.tier is HostTier.PINNED

    def unpin(self) -> None:
        """Have the weights in RAM that is not locked; nothing copies from it now."""
        if self._unpin is None or self._pinning is None or self._buffer is None:
            return
        buffer = self._buffer
        if self._pinning.copies:
            buffer = paged_buffer(self.layout.size_bytes)
            buffer.copy_(self._buffer)
        self._unlock()
        with self._lock:
            self._buffer = buffer
            self.tier = HostTier.PAGEABLE

    def let_go(self) -> None:
        """Have the weights in the file only; the RAM is free once nobody else points to it."""
        self._unlock()
        with self._lock:
            self._buffer = None
            self.tier = HostTier.FILE

    def _unlock(self) -> None:
        if self._unpin is not None:
            self._unpin()
            self._unpin = None


def ram_parts(packed: torch.Tensor) -> Sequence[ReadPart]:
    """What copies a packed buffer, in any order, by any threads."""
    size_bytes = packed.numel()
    return [
        functools.partial(_copy_part, packed, begin, min(begin + PIECE_BYTES, size_bytes))
        for begin in range(0, size_bytes, PIECE_BYTES)
    ]


def _copy_part(
    packed: torch.Tensor, begin: int, end: int, out: torch.Tensor, goes_on: Callable[[], bool]
) -> None:
    # By numpy, which copies in this thread alone, and lets others run; its types do not match.
    source: Any = packed.numpy()
    target: Any = out.numpy()
    if goes_on():
        np.copyto(target[begin:end], source[begin:end])


def paged_buffer(size_bytes: int) -> torch.Tensor:
    """RAM on memory pages that it shares with nothing else, (bytes,) uint8."""
    whole_bytes = -(-size_bytes // PAGE_BYTES) * PAGE_BYTES
    whole = torch.empty(whole_bytes + PAGE_BYTES, dtype=torch.uint8)
    begin = -whole.data_ptr() % PAGE_BYTES
    return whole[begin : begin + size_bytes]
