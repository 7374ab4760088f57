"""The few locked buffers that blocks pass through which a device cannot copy by itself.

Locked RAM may be scarce, and a block that is not locked needs locked buffers on its way. So when
the driver refuses to lock all blocks, those that were locked last give up as much as buffers take:
then the device copies all of them by itself, and the host is never kept waiting.
"""

from collections.abc import Callable, Sequence

import torch

from app.engine.residency.host_block import HostTier
from app.engine.residency.pinning import Pinning
from app.engine.residency.readers import LEAST_BUFFERS, FileReader
from app.engine.residency.ring import BOUNCE_BUFFERS
from app.engine.residency.stored_block import StoredBlock, paged_buffer


class BounceBuffers:
    """Makes the reader's buffers, locked as far as that goes.

    Attributes:
        reader: That fills them.
    """

    def __init__(self, pinning: Pinning | None, room_bytes: Callable[[], int]) -> None:
        """Have none yet.

        Args:
            pinning: Locks RAM; None where no device copies from it.
            room_bytes: RAM that they may take now.
        """
        self._pinning = pinning
        self._room_bytes = room_bytes
        # Bytes that they take, by address.
        self._locked: dict[int, int] = {}
        self.reader = FileReader(self._allocate, free=self._free, locked=self._is_locked)

    def missing_bytes(self, blocks: Sequence[StoredBlock]) -> int:
        """RAM that buffers for these blocks take besides what they take already."""
        largest_bytes = max((block.layout.size_bytes for block in blocks), default=0)
        return max(0, BOUNCE_BUFFERS * self._taken_bytes(largest_bytes) - self.reader.all_bytes)

    def arrange(
        self,
        blocks: Sequence[StoredBlock],
        movable: Sequence[StoredBlock],
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Have buffers for all blocks that are not locked, or none where all are.

        Args:
            blocks: Of all networks.
            movable: Of those that are locked, which may be unlocked to lock buffers, in order;
                nothing is copied from them now.
            check: Called between buffers and blocks; may raise to stop.
        """
        waiting = [block for block in blocks if self._bounces(block)]
        if not waiting:
            self.reader.let_go()
            return
        chosen = self._chosen(waiting, movable)
        if chosen is None:
            return
        buffers, unlocked = chosen
        for block in unlocked:
            check()
            block.unpin()
        self.reader.reserve(_largest_bytes([*waiting, *unlocked]), buffers, check)

    def tidy(self, blocks: Sequence[StoredBlock]) -> None:
        """Have no buffers where none are needed, or where all blocks can be locked without them."""
        waiting = [block for block in blocks if self._bounces(block)]
        if any(block.tier is HostTier.FILE for block in waiting):
            return
        if waiting and self._pinning is not None:
            if any(self._pinning.wastes(block.layout.size_bytes) for block in waiting):
                return
            taken_bytes = self._pinning.pinned_bytes - sum(self._locked.values())
            taken_bytes += sum(self._taken_bytes(block.layout.size_bytes) for block in waiting)
            if taken_bytes > self._pinning.most_bytes:
                return
        self.reader.let_go()

    def _bounces(self, block: StoredBlock) -> bool:
        """Also from ordinary RAM where a device copies from locked RAM by itself."""
        if block.tier is HostTier.PAGEABLE:
            return self._pinning is not None and block.layout.size_bytes > 0
        return block.tier is HostTier.FILE

    def _chosen(
        self, waiting: Sequence[StoredBlock], movable: Sequence[StoredBlock]
    ) -> tuple[int, Sequence[StoredBlock]] | None:
        """How many buffers, and which blocks are unlocked for them; None where none can be had."""
        pinning = self._pinning
        if pinning is None:
            return None
        ram_bytes = self._room_bytes() + self.reader.all_bytes
        # First those for which the buffers need not be larger.
        largest_bytes = _largest_bytes(waiting)
        movable = sorted(movable, key=lambda block: block.layout.size_bytes > largest_bytes)
        limit_bytes = pinning.limit_bytes
        for buffers in range(BOUNCE_BUFFERS, LEAST_BUFFERS - 1, -1):
            for count in range(len(movable) + 1):
                unlocked = movable[:count]
                needed_bytes = buffers * self._taken_bytes(_largest_bytes([*waiting, *unlocked]))
                if needed_bytes > ram_bytes:
                    break
                if limit_bytes is None:
                    return buffers, unlocked
                freed_bytes = sum(block.ram_bytes for block in unlocked)
                freed_bytes += sum(self._locked.values())
                if pinning.pinned_bytes - freed_bytes + needed_bytes <= limit_bytes:
                    return buffers, unlocked
        return None

    def _taken_bytes(self, size_bytes: int) -> int:
        return size_bytes if self._pinning is None else self._pinning.taken_bytes(size_bytes)

    def _allocate(self, size_bytes: int) -> torch.Tensor:
        buffer = paged_buffer(size_bytes)
        locked = None if self._pinning is None else self._pinning.pin(buffer, any_loss=True)
        if locked is None:
            return buffer
        self._locked[locked.data_ptr()] = self._taken_bytes(locked.nbytes)
        return locked

    def _free(self, buffer: torch.Tensor) -> None:
        if self._pinning is not None and buffer.data_ptr() in self._locked:
            del self._locked[buffer.data_ptr()]
            self._pinning.unpin(buffer)

    def _is_locked(self, buffer: torch.Tensor) -> bool:
        return buffer.data_ptr() in self._locked


def _largest_bytes(blocks: Sequence[StoredBlock]) -> int:
    return max(block.layout.size_bytes for block in blocks)
