"""Memory of the engine's process, as its events tell it."""

from app.core.events import EngineMemory


def engine_memory(
    device_bytes: int | None = None,
    *,
    allocated_bytes: int | None = None,
    host_bytes: int = 0,
    resident_bytes: int = 0,
    slots_bytes: int = 0,
) -> EngineMemory:
    """So much held by the allocator, and by tensors where nothing else is said."""
    return EngineMemory(
        device_allocated_bytes=device_bytes if allocated_bytes is None else allocated_bytes,
        device_reserved_bytes=device_bytes,
        device_peak_bytes=device_bytes,
        host_rss_bytes=host_bytes,
        host_peak_rss_bytes=host_bytes,
        resident_bytes=resident_bytes,
        slots_bytes=slots_bytes,
    )
