"""What streaming asks of a device: memory, copies beside the computing, and marks in time."""

from dataclasses import dataclass
from typing import Any, Protocol

import torch

from app.engine.residency.host_network import HostBuffer, ram_buffer

Mark = Any
"""A point in what the device was told to do; each device has a kind of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """What copies took.

    Attributes:
        copied_bytes: Of the copies that were done.
        copying_s: The link was busy for so long.
        waited_s: Computing stood still for so long, for weights that were not there yet.
    """

    copied_bytes: int
    copying_s: float
    waited_s: float


class Transfers(Protocol):
    """Copies to one device, one after the other, beside what it computes.

    Nothing here waits but what is named so, and nothing copies from the device to the host.

    Attributes:
        in_place: Whether the device computes with what is in RAM, so that nothing is ever copied.
        needs_pinned: Whether a copy from RAM that is not pinned keeps the host until it is done.
    """

    @property
    def in_place(self) -> bool: ...
    @property
    def needs_pinned(self) -> bool: ...

    def host_buffer(self, size_bytes: int) -> HostBuffer:
        """RAM to keep weights in, from which the device copies as fast as it can be had."""
        ...

    def keep_off(self, weights: torch.Tensor) -> None:
        """Say that these are in RAM, so that computing with them on the device is a mistake."""
        ...

    def allocate(self, size_bytes: int) -> torch.Tensor:
        """Memory on the device, (size,) uint8.

        Raises:
            torch.OutOfMemoryError: It does not fit.
        """
        ...

    def release(self, buffer: torch.Tensor) -> None:
        """The buffer is dropped, and computing was told to end.

        Copies into it may be on their way: its memory is nobody else's before they have ended.
        """
        ...

    def copy(self, target: torch.Tensor, source: torch.Tensor, after: Mark | None) -> Mark:
        """Copy a packed block once what comes before `after` is computed.

        When this fails, nothing is on its way that was not before.

        Args:
            target: Part of an allocated buffer.
            source: Of the same size, in RAM; it must stay until the copy is done.
            after: From `record`; None when nothing that was told to compute uses the target.

        Returns:
            When it is done.
        """
        ...

    def record(self) -> Mark:
        """When all is computed that was told so far."""
        ...

    def wait(self, copied: Mark) -> None:
        """Have what is computed from now on wait for a copy; the host goes on."""
        ...

    def is_done(self, mark: Mark) -> bool:
        """Whether the device is past a mark; never waits."""
        ...

    def wait_on_host(self, mark: Mark) -> None:
        """Wait until the device is past a mark."""
        ...

    def settle(self) -> None:
        """Wait until no copy is on its way, also none into what was released."""
        ...

    def take_times(self) -> Times:
        """Of what is done by now, since the last call."""
        ...


class DirectTransfers:
    """The CPU's: what is in RAM is where it is needed, so none of this is ever asked for."""

    in_place = True
    needs_pinned = False

    def host_buffer(self, size_bytes: int) -> HostBuffer:
        """Ordinary RAM."""
        return ram_buffer(size_bytes)

    def keep_off(self, weights: torch.Tensor) -> None:
        """They may be computed with."""

    def allocate(self, size_bytes: int) -> torch.Tensor:
        """Ordinary RAM."""
        return ram_buffer(size_bytes)[0]

    def release(self, buffer: torch.Tensor) -> None:
        """Freed with its last use."""

    def copy(self, target: torch.Tensor, source: torch.Tensor, after: Mark | None) -> Mark:
        """At once."""
        del after
        target.copy_(source)

    def record(self) -> Mark:
        """All is done already."""

    def wait(self, copied: Mark) -> None:
        """It is done already."""

    def is_done(self, mark: Mark) -> bool:
        """It is."""
        del mark
        return True

    def wait_on_host(self, mark: Mark) -> None:
        """It is done already."""

    def settle(self) -> None:
        """All is done already."""

    def take_times(self) -> Times:
        """None of it was beside the computing."""
        return Times(copied_bytes=0, copying_s=0.0, waited_s=0.0)
