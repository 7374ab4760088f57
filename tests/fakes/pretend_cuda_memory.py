"""Memory of a pretend GPU: what tensors hold, what torch's allocator keeps, and when it is full."""

import threading
import weakref
from typing import Any

import torch

from app.engine.live_storages import block_bytes

SEGMENT_BYTES = 2 << 20
"""What the allocator asks the driver for is a multiple of it."""
_MIB = 1 << 20


class Allocation:
    """Memory of one storage; given back with its last tensor.

    Attributes:
        storage: That stands for it.
        begin: Its first address.
        end: Behind its last one.
        seen_by: Other streams that the allocator was told of (`record_stream`).
        uses: When parts of it were computed with last, by their addresses; only kept for memory
            that other streams copy to.
        is_copied_to: Whether they do.
    """

    __slots__ = ("__weakref__", "begin", "end", "is_copied_to", "seen_by", "storage", "uses")

    def __init__(self, storage: torch.UntypedStorage) -> None:
        self.storage = storage
        self.begin = storage.data_ptr()
        self.end = self.begin + storage.nbytes()
        self.seen_by: set[Any] = set()
        self.uses: dict[tuple[int, int], int] = {}
        self.is_copied_to = False


class PretendMemory:
    """Accounts as torch's caching allocator keeps them, without its fragmentation.

    Attributes:
        capacity_bytes: Of the device.
        others_bytes: Taken by other programs.
        allocated_bytes: Held by tensors.
        reserved_bytes: Had from the driver.
        most_reserved_bytes: The most of it since the peak was reset.
        peak_bytes: The largest `allocated_bytes` since it was reset.
        driver_calls: How often the driver was asked for memory.
        taken: How often memory was asked for, from the driver or from what is kept.
    """

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.others_bytes = 0
        self.allocated_bytes = self.reserved_bytes = 0
        self.peak_bytes = self.most_reserved_bytes = 0
        self.driver_calls = self.taken = 0
        self._limit_bytes = capacity_bytes
        self._lock = threading.RLock()
        self._alive: dict[int, weakref.ref[Allocation]] = {}

    @property
    def free_bytes(self) -> int:
        """As the driver tells it."""
        return max(0, self.capacity_bytes - self.others_bytes - self.reserved_bytes)

    def of(self, tensor: torch.Tensor, on_free: Any) -> Allocation | None:
        """The memory of a tensor in RAM that stands for one on the device.

        Args:
            tensor: May be new.
            on_free: Called with the begin, the end and the streams once nobody has it any more.

        Raises:
            torch.OutOfMemoryError: It is new and there is no room.
        """
        storage = tensor.untyped_storage()
        key = storage._cdata
        with self._lock:
            known = self._alive.get(key)
            found = None if known is None else known()
            if found is not None or storage.nbytes() == 0:
                return found
            size_bytes = block_bytes(storage.nbytes())
            self._take(size_bytes)
            found = Allocation(storage)
            self._alive[key] = weakref.ref(found)
            weakref.finalize(
                found, self._give, key, size_bytes, found.begin, found.end, found.seen_by, on_free
            )
            return found

    def limit(self, share: float, device: object = None) -> None:
        """Take no more than a share of the whole device from the driver."""
        del device
        self._limit_bytes = int(share * self.capacity_bytes)

    def reset_peak(self) -> None:
        """Forget the peaks."""
        self.peak_bytes, self.most_reserved_bytes = self.allocated_bytes, self.reserved_bytes

    def empty_cache(self) -> None:
        """Give the driver back what no tensor holds."""
        with self._lock:
            self.reserved_bytes = _segments(self.allocated_bytes)

    def stats(self) -> dict[str, int]:
        """Some of what torch tells."""
        return {
            "num_device_alloc": self.driver_calls,
            "allocation.all.allocated": self.taken,
            "active_bytes.all.current": self.allocated_bytes,
            "allocated_bytes.all.current": self.allocated_bytes,
            "allocated_bytes.all.peak": self.peak_bytes,
            "reserved_bytes.all.current": self.reserved_bytes,
            "inactive_split_bytes.all.current": 0,
        }

    def _take(self, size_bytes: int) -> None:
        wanted = self.allocated_bytes + size_bytes
        if wanted > self.reserved_bytes:
            room = min(self.capacity_bytes - self.others_bytes, self._limit_bytes)
            if _segments(wanted) > room:
                raise torch.OutOfMemoryError(self._full(size_bytes))
            self.driver_calls += 1
            self.reserved_bytes = _segments(wanted)
            self.most_reserved_bytes = max(self.most_reserved_bytes, self.reserved_bytes)
        self.taken += 1
        self.allocated_bytes = wanted
        self.peak_bytes = max(self.peak_bytes, wanted)

    def _give(
        self, key: int, size_bytes: int, begin: int, end: int, seen: Any, on_free: Any
    ) -> None:
        with self._lock:
            del self._alive[key]
            self.allocated_bytes -= size_bytes
        on_free(begin, end, seen)

    def _full(self, size_bytes: int) -> str:
        """In the allocator's words."""
        used = self.capacity_bytes - self.free_bytes
        unused = self.reserved_bytes - self.allocated_bytes
        return (
            f"CUDA out of memory. Tried to allocate {size_bytes / _MIB:.2f} MiB. GPU 0 has a total "
            f"capacity of {self.capacity_bytes / _MIB:.2f} MiB of which "
            f"{self.free_bytes / _MIB:.2f} MiB is free. Including non-PyTorch memory, this process "
            f"has {used / _MIB:.2f} MiB memory in use. Of the allocated memory "
            f"{self.allocated_bytes / _MIB:.2f} MiB is allocated by PyTorch, and "
            f"{unused / _MIB:.2f} MiB is reserved by PyTorch but unallocated."
        )


def _segments(size_bytes: int) -> int:
    return -(-size_bytes // SEGMENT_BYTES) * SEGMENT_BYTES
