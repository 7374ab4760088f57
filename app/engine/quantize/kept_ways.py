"""How 8-bit weights are multiplied on each device, kept: found out once, by trying; torch-free."""

import contextlib
import enum
import importlib.metadata
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

from app.core.kept_entries import KeptEntries
from app.core.policy import Precision

SCHEMA_VERSION = 1
MAX_ENTRIES = 64
"""The oldest go."""
MAX_BEGUN = 2
"""Trials during which the engine's process ended, after which there is no third."""
TRIAL_TOKENS, TRIAL_FEATURES = 1024, 4096
"""Of the trial: large enough that the product outweighs what is around it."""


class Way(enum.Enum):
    """How x is multiplied with quantized weights."""

    DEQUANTIZE = "dequantize"
    """Weights become what x is, in pieces, and are multiplied as ever: works everywhere."""
    FP8_ROWS = "fp8 by rows"
    FP8_SCALED_AFTER = "fp8, scaled after"
    INT8_ROWS = "int8 by rows"


CANDIDATES: dict[Precision, tuple[Way, ...]] = {
    Precision.FP8: (Way.FP8_ROWS, Way.FP8_SCALED_AFTER),
    Precision.INT8: (Way.INT8_ROWS,),
}
"""Ways beside DEQUANTIZE, in the order they are tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """What is known of one device, one torch, one precision and one type.

    Attributes:
        way: That was chosen; None before all were tried.
        begun: Ways whose trial was begun, each time it was, and not ended since: the engine's
            process ended first.
        broke: Ways that broke the device.
    """

    way: Way | None = None
    begun: tuple[Way, ...] = ()
    broke: tuple[Way, ...] = ()


class WayRecord:
    """What is kept of one precision and one type on one device."""

    def __init__(
        self, file: Path | None, device_name: str, precision: Precision, dtype: str
    ) -> None:
        """Look it up.

        Args:
            file: That it is kept in; without one that can be written, it is kept in memory.
            device_name: As torch tells it, and the device's profile.
            precision: Of the weights.
            dtype: Of what is multiplied with them, as torch writes it.
        """
        self._entries = KeptEntries(
            file,
            _Kept,
            schema_version=SCHEMA_VERSION,
            max_entries=MAX_ENTRIES,
            name="ways to multiply",
        )
        # Kernels that broke the device are not tried with another type, either.
        self._place = f"{device_name} | torch {_torch_version()} | {precision.value}"
        size = f"{TRIAL_TOKENS}x{TRIAL_FEATURES}x{TRIAL_FEATURES}"
        self._key = f"{self._place} | {dtype.removeprefix('torch.')} | {size}"

    @property
    def way(self) -> Way | None:
        """That was chosen, or None: nothing is known yet."""
        return self._get(self._key).way

    def leaves_out(self, way: Way) -> bool:
        """Whether a way is not to be tried: it broke the device, or the engine ended at it."""
        if way in self._get(self._place).broke:
            return True
        return self._get(self._key).begun.count(way) >= MAX_BEGUN

    @contextlib.contextmanager
    def trying(self, way: Way) -> Generator[None]:
        """Within it a way is tried; a process that ends meanwhile leaves a mark."""
        before = self._get(self._key)
        self._entries.put(self._key, replace(before, begun=(*before.begun, way)))
        try:
            yield
        finally:
            self._entries.put(self._key, before)

    def note_broke(self, way: Way) -> None:
        """A way has broken the device for this process: none tries it again."""
        before = self._get(self._place)
        self._entries.put(self._place, replace(before, broke=(*before.broke, way)))

    def note_chosen(self, way: Way) -> None:
        """All were tried."""
        self._entries.put(self._key, replace(self._get(self._key), way=way, begun=()))

    def _get(self, key: str) -> _Kept:
        return self._entries.get(key) or _Kept()


def kept_way(
    file: Path, device_name: str, precision: Precision | None, dtype: str, *, on_cpu: bool
) -> Way | None:
    """The way that a run would multiply in, as far as that is known without trying.

    Args:
        file: That ways are kept in.
        device_name: As in the device's profile.
        precision: As `app.engine.foreign_weights.tried_precision` has it.
        dtype: Of what is multiplied with them, as torch writes it.
        on_cpu: Whether the processor computes, which always dequantizes.
    """
    if precision not in CANDIDATES or on_cpu:
        return Way.DEQUANTIZE
    return WayRecord(file, device_name, precision, dtype).way


def _torch_version() -> str:
    try:
        return importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
