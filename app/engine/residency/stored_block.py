"""A block whose weights are in files, and also in RAM as long as there is room for them."""

import threading
import weakref
from collections.abc import Callable, Sequence

import torch

from app.engine.residency.block_source import BlockSource, ReadPart
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
        """What fills a packed buffer from the files, in any order, by any threads."""
        return self._source.parts

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
        for part in self.read_parts():
            check()
            part(buffer, lambda: True)
        with self._lock:
            self._buffer = buffer
            self.tier = HostTier.PAGEABLE

    def pin(self) -> bool:
        """Lock the RAM if that is possible, and say whether it is locked."""
        if self.tier is HostTier.PAGEABLE and self._pinning is not None:
            buffer = self._buffer
            locked = None if buffer is None else self._pinning.pin(buffer)
            if locked is not None:
                with self._lock:
                    self._buffer = locked
                    self.tier = HostTier.PINNED
                # Also when the block is let go without a word: memory that is freed while it is
                # locked stays locked. The buffer lives until this has run.
                self._unpin = weakref.finalize(self, self._pinning.unpin, locked)
                self._unpin.atexit = False
        return self.tier is HostTier.PINNED

    def let_go(self) -> None:
        """Have the weights in the file only; the RAM is free once nobody else points to it."""
        if self._unpin is not None:
            self._unpin()
            self._unpin = None
        with self._lock:
            self._buffer = None
            self.tier = HostTier.FILE


def paged_buffer(size_bytes: int) -> torch.Tensor:
    """RAM on memory pages that it shares with nothing else, (bytes,) uint8."""
    whole_bytes = -(-size_bytes // PAGE_BYTES) * PAGE_BYTES
    whole = torch.empty(whole_bytes + PAGE_BYTES, dtype=torch.uint8)
    begin = -whole.data_ptr() % PAGE_BYTES
    return whole[begin : begin + size_bytes]
