"""RAM that a device copies from by itself: locked in place where the driver allows it.

How much may be locked differs between systems and even between moments, and no call tells. So it is
tried, block by block, before weights fill the device, and the first refusal ends it: on some
Windows drivers each further attempt makes things worse.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import psutil
import torch

from app.core.units import format_bytes

log = logging.getLogger(__name__)

_PORTABLE = 1
"""cudaHostRegisterPortable: locked for every GPU, whichever is the thread's current one."""
MIN_RAM_LEFT_BYTES = 2 << 30
"""Available RAM below which no more is locked: what is locked cannot be swapped out."""
MOST_LOST = 1 / 8
"""Of a block, RAM that locking it may take besides; else it goes through a bounce buffer."""


class Registrar(Protocol):
    """Locks RAM for a device.

    Attributes:
        copies: Whether what is locked is a copy, in RAM of its own.
    """

    @property
    def copies(self) -> bool: ...

    def taken_bytes(self, size_bytes: int) -> int:
        """RAM that a locked buffer of so many bytes takes."""
        ...

    def lock(self, buffer: torch.Tensor) -> torch.Tensor | None:
        """The same buffer once it is locked, or a locked copy; None when the driver refuses.

        A refusal leaves nothing behind that a later call would fail of.

        Args:
            buffer: (bytes,) uint8 on memory pages of its own.
        """
        ...

    def unlock(self, buffer: torch.Tensor) -> None:
        """Undo `lock`, given what it returned; nothing copies from it any more."""
        ...


class CudaRegistrar:
    """torch.cuda on NVIDIA and AMD: memory is locked where it is. Not tried on a real GPU."""

    copies = False

    def __init__(self, device: torch.device) -> None:
        """Lock for a device."""
        self._device = device
        # Has no types.
        self._runtime: Any = torch.cuda.cudart()

    def taken_bytes(self, size_bytes: int) -> int:
        """Nothing besides."""
        return size_bytes

    def lock(self, buffer: torch.Tensor) -> torch.Tensor | None:
        """Register the memory with the driver."""
        address, size_bytes = buffer.data_ptr(), buffer.nbytes
        with torch.cuda.device(self._device):
            status = int(self._runtime.cudaHostRegister(address, size_bytes, _PORTABLE))
        if status == 0:
            return buffer
        log.info("%s cannot be locked (error %d)", format_bytes(buffer.nbytes), status)
        self._clear_error()
        return None

    def unlock(self, buffer: torch.Tensor) -> None:
        """Unregister the memory."""
        # In whichever thread a block is let go: there the first GPU may be the current one, which
        # is not to be woken for this.
        with torch.cuda.device(self._device):
            status = int(self._runtime.cudaHostUnregister(buffer.data_ptr()))
        if status != 0:
            log.info("%s stay locked (error %d)", format_bytes(buffer.nbytes), status)
            self._clear_error()

    def _clear_error(self) -> None:
        """The driver's runtime keeps its last error for whoever looks next: let that be us."""
        try:
            torch.empty(1, dtype=torch.uint8, device=self._device).fill_(0)
        except RuntimeError as error:
            log.debug("as expected, what came next was told of it: %s", error)


class CopyingRegistrar:
    """torch.xpu on Intel: only torch's own memory is locked. Not tried on a real GPU."""

    copies = True

    def taken_bytes(self, size_bytes: int) -> int:
        """Torch's allocator of locked memory rounds up to a power of two."""
        return power_of_two(size_bytes)

    def lock(self, buffer: torch.Tensor) -> torch.Tensor | None:
        """A copy in memory that torch allocates locked; in RAM twice until the other is let go."""
        try:
            return buffer.pin_memory()
        except RuntimeError as error:
            log.info("%s cannot be locked (%s)", format_bytes(buffer.nbytes), error)
            return None

    def unlock(self, buffer: torch.Tensor) -> None:
        """Torch unlocks it when nobody uses it."""


class Pinning:
    """Locks buffers as long as that works.

    Attributes:
        pinned_bytes: RAM that locked buffers take now.
        most_bytes: RAM that they have taken at most; once something was refused, that they may.
        copies: Whether what is locked is a copy.
    """

    def __init__(
        self, registrar: Registrar, *, available_bytes: Callable[[], int] | None = None
    ) -> None:
        """Lock nothing yet.

        Args:
            registrar: Of the device.
            available_bytes: RAM that is available now; None asks the system.
        """
        self.pinned_bytes = 0
        self.copies = registrar.copies
        self._registrar = registrar
        self._available_bytes = available_bytes or _available_bytes
        self.most_bytes = 0
        self._refused = False

    @property
    def limit_bytes(self) -> int | None:
        """No more than this is locked at once; None where nothing was refused."""
        return self.most_bytes if self._refused else None

    def taken_bytes(self, size_bytes: int) -> int:
        """RAM that a locked buffer of so many bytes takes."""
        return self._registrar.taken_bytes(size_bytes)

    def wastes(self, size_bytes: int) -> bool:
        """Whether locking so many bytes takes too much RAM besides: only buffers are worth that."""
        return self.taken_bytes(size_bytes) - size_bytes > size_bytes * MOST_LOST

    def pin(
        self, buffer: torch.Tensor, *, again: bool = False, any_loss: bool = False
    ) -> torch.Tensor | None:
        """The buffer, or a copy, locked; None when that is not, or no more, possible.

        Args:
            buffer: See `paged_buffer`.
            again: Whether to lock no more at once than was locked before.
            any_loss: Whether to do so whatever RAM is lost to rounding.
        """
        size_bytes = buffer.nbytes
        taken_bytes = self.taken_bytes(size_bytes)
        if size_bytes == 0 or (self.wastes(size_bytes) and not any_loss):
            return None
        is_bounded = again or self._refused
        if is_bounded and self.pinned_bytes + taken_bytes > self.most_bytes:
            return None
        new_bytes = taken_bytes if self.copies else 0
        if self._available_bytes() - new_bytes < MIN_RAM_LEFT_BYTES:
            log.info("RAM is short: no more than %s are locked", format_bytes(self.pinned_bytes))
            return None
        locked = self._registrar.lock(buffer)
        if locked is None:
            self._refused = True
            self.most_bytes = self.pinned_bytes
            log.info("no more than %s are locked", format_bytes(self.pinned_bytes))
            return None
        self.pinned_bytes += taken_bytes
        self.most_bytes = max(self.most_bytes, self.pinned_bytes)
        return locked

    def unpin(self, buffer: torch.Tensor) -> None:
        """Give a locked buffer back to the system's control."""
        self._registrar.unlock(buffer)
        self.pinned_bytes -= self.taken_bytes(buffer.nbytes)


def power_of_two(size_bytes: int) -> int:
    """The smallest that is not less."""
    return 1 << max(0, size_bytes - 1).bit_length()


def spread_order(count: int) -> Sequence[int]:
    """The numbers below a count, so that each beginning of them is spread evenly over all."""
    bits = max(1, (count - 1).bit_length())
    reversed_bits = (int(f"{index:0{bits}b}"[::-1], 2) for index in range(1 << bits))
    return [index for index in reversed_bits if index < count]


def _available_bytes() -> int:
    return int(psutil.virtual_memory().available)
