"""What streaming asks of the weights in the computer's RAM or on its disk."""

import enum
from typing import Protocol

import torch

from app.engine.residency.layout import BlockLayout


class HostTier(enum.Enum):
    """How fast a block can be had from the host, the fastest first."""

    PINNED = "pinned"
    """In RAM that the device copies from by itself."""
    PAGEABLE = "pageable"
    """In ordinary RAM: a copy keeps the host busy, so it goes through a bounce buffer."""
    FILE = "file"
    """On the disk, read anew each time into a bounce buffer."""


class HostBlock(Protocol):
    """The packed weights of one block, or of what a network has besides its blocks.

    Attributes:
        layout: Of the packed buffer.
        tier: Where it is.
    """

    @property
    def layout(self) -> BlockLayout: ...
    @property
    def tier(self) -> HostTier: ...

    def packed(self) -> torch.Tensor | None:
        """The packed buffer in RAM, (layout.size_bytes,) uint8; None for FILE."""
        ...

    def read_into(self, out: torch.Tensor) -> None:
        """Fill a packed buffer in RAM; waits for the disk, and may be called by any thread.

        Raises:
            OSError: The file cannot be read.
        """
        ...


class Reading(Protocol):
    """A block that is on its way from the disk, or from ordinary RAM, into a bounce buffer."""

    def is_done(self) -> bool:
        """Whether it was read, or failed; never waits."""
        ...

    def wait(self) -> torch.Tensor:
        """The packed buffer, once it is filled; pinned where that is possible.

        Raises:
            OSError: The file cannot be read.
        """
        ...

    def release(self) -> None:
        """The buffer may be filled anew; also before it was read, when it is not wanted any more.

        Whoever calls this has waited for copies from it.
        """
        ...


class BlockReader(Protocol):
    """Reads blocks ahead of their use, into a few buffers; streaming asks in order of use."""

    def is_locked(self, size_bytes: int) -> bool:
        """Whether it has locked buffers for a block of this size, to read one and copy another.

        Then blocks of ordinary RAM go through them, too: the device copies by itself.
        """
        ...

    def start(self, block: HostBlock, *, due: bool = False) -> Reading | None:
        """Begin to read a block from where it is; None when all buffers are taken; never waits.

        Args:
            block: To read.
            due: Whether nothing goes on without it: then there is a buffer, also when another
                component has taken them all for a time that comes later.
        """
        ...
