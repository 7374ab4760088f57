"""Whether compiling has ended the engine before, so that it is not tried for ever.

A compiler that crashes takes the process with it, and a kernel that runs wild breaks the GPU: the
job is run again by another engine, which would compile again.
"""

import importlib.metadata
import time
from collections.abc import Callable
from pathlib import Path

from app.core.kept_entries import KeptEntries

SCHEMA_VERSION = 1
MAX_ENTRIES = 16
"""The oldest go."""
MAX_BEGUN = 2
"""Times that the engine's process ended while it compiled, after which it does no more."""
FORGET_AFTER_S = 24 * 3600.0
"""Some of these ends were perhaps the app's own, when it was closed: then it is tried again."""
_FOR_GOOD = 1e12
"""A time that is never so long ago, in seconds as of `time.time`."""
_LIBRARIES = (
    *("torch", "triton", "triton-windows"),
    *("pytorch-triton-rocm", "pytorch-triton-xpu", "triton-xpu", "triton-rocm"),
)


class BegunCompiling:
    """Counts how often it was begun on one device, with one set of libraries, and never ended."""

    def __init__(
        self, file: Path, device_name: str, *, clock: Callable[[], float] = time.time
    ) -> None:
        """Read what is known.

        Args:
            file: Keeps it over the engine's end.
            device_name: For which is compiled.
            clock: As `time.time`.
        """
        self._clock = clock
        self._key = " | ".join((device_name, *_versions()))
        self._entries = KeptEntries(
            file,
            tuple[float, ...],
            schema_version=SCHEMA_VERSION,
            max_entries=MAX_ENTRIES,
            name="trials of compiling",
        )

    @property
    def too_often(self) -> bool:
        """Whether it is not to be tried now."""
        return len(self._lately()) >= MAX_BEGUN

    def begin(self) -> None:
        """It is compiled now, and run for the first time."""
        self._entries.put(self._key, (*self._lately(), self._clock()))

    def end(self) -> None:
        """That went well, failed as errors do, or was stopped."""
        self._entries.put(self._key, ())

    def never_again(self) -> None:
        """It broke the device."""
        self._entries.put(self._key, (_FOR_GOOD,) * MAX_BEGUN)

    def _lately(self) -> tuple[float, ...]:
        since = self._clock() - FORGET_AFTER_S
        return tuple(at for at in self._entries.get(self._key) or () if at > since)


def _versions() -> list[str]:
    found: list[str] = []
    for name in _LIBRARIES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
