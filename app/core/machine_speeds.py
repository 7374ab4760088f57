"""How fast a machine is: what the engine measured in a few seconds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSpeeds:
    """Measured by `doctor --calibrate`; None is what could not be measured.

    Attributes:
        device: As the engine calls it, like "cuda:0" or "cpu".
        device_name: For people.
        torch_version: Of the engine.
        precision: Of the matrix products, as torch calls it, like "bfloat16".
        compute_flops: Floating-point operations per second of large matrix products.
        pinned_bytes_per_s: Copied from pinned host memory to the device.
        pageable_bytes_per_s: Copied from ordinary host memory to the device.
        read_bytes_per_s: Read from the disk; None where the system's memory answered instead.
        reserved_bytes: Held by torch's allocator when it was done.
        context_bytes: Of the engine on the device, without what tensors hold.
        seconds: It all took.
        remarks: Sentences about what could not be measured, and how others were.
    """

    device: str
    device_name: str
    torch_version: str
    precision: str
    compute_flops: float
    pinned_bytes_per_s: float | None = None
    pageable_bytes_per_s: float | None = None
    read_bytes_per_s: float | None = None
    reserved_bytes: int | None = None
    context_bytes: int | None = None
    seconds: float
    remarks: tuple[str, ...] = ()
