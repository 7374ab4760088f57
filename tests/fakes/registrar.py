"""A registrar that remembers what it locked, and refuses when it is told to."""

from collections.abc import Callable

import torch

from app.engine.residency.pinning import power_of_two


class FakeRegistrar:
    """Locks nothing.

    Attributes:
        limit_bytes: It refuses to lock more than this at once.
        copies: Whether locked memory is other memory, as on Intel.
        locked: Sizes by address.
        asked: How often it was asked.
        refused: How often it refused.
        is_read: Whether a device copies from a buffer: then it must stay locked.
    """

    def __init__(self, limit_bytes: int | None = None, *, copies: bool = False) -> None:
        self.limit_bytes = limit_bytes
        self.copies = copies
        self.locked: dict[int, int] = {}
        self.asked = self.refused = 0
        self.is_read: Callable[[torch.Tensor], bool] = lambda _buffer: False

    def taken_bytes(self, size_bytes: int) -> int:
        """As torch rounds it where it copies."""
        return power_of_two(size_bytes) if self.copies else size_bytes

    @property
    def locked_bytes(self) -> int:
        return sum(self.locked.values())

    def is_locked(self, buffer: torch.Tensor) -> bool:
        """Whether all of it is."""
        begin, end = buffer.data_ptr(), buffer.data_ptr() + buffer.nbytes
        return any(at <= begin and end <= at + size for at, size in self.locked.items())

    def lock(self, buffer: torch.Tensor) -> torch.Tensor | None:
        """Refuse beyond the limit; memory that is locked, or shares a page with it, is a fault."""
        self.asked += 1
        if self.limit_bytes is not None and self.locked_bytes + buffer.nbytes > self.limit_bytes:
            self.refused += 1
            return None
        if self.copies:
            # Torch sees to its own pages.
            buffer = buffer.clone()
            self.locked[buffer.data_ptr()] = buffer.nbytes
            return buffer
        begin, end = _pages(buffer.data_ptr(), buffer.nbytes)
        for address, size in self.locked.items():
            other_begin, other_end = _pages(address, size)
            if begin < other_end and other_begin < end:
                raise AssertionError("a memory page would be locked twice")
        self.locked[buffer.data_ptr()] = buffer.nbytes
        return buffer

    def unlock(self, buffer: torch.Tensor) -> None:
        """What is not locked cannot be unlocked, nor what a device still reads."""
        if self.is_read(buffer):
            raise AssertionError("a device copies from this")
        if self.locked.pop(buffer.data_ptr(), None) != buffer.nbytes:
            raise AssertionError("this is not locked")


def _pages(address: int, size_bytes: int) -> tuple[int, int]:
    return address // 4096, -(-(address + size_bytes) // 4096)
