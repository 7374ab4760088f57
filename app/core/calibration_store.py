"""What was measured on each GPU of this machine: speeds, and how runs differed from their plans.

One JSON file. A part of it that cannot be used costs only itself; a file of a newer version is read
as far as it is understood and left alone.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from app.core.atomic import write_atomic
from app.core.calibration_entry import CalibrationEntry
from app.core.machine_speeds import MachineSpeeds
from app.core.measured_run import CalibrationKey, MeasuredRun
from app.core.plan import GenerationPlan
from app.core.profile import Calibration

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
MAX_ENTRIES = 64
"""Each driver and each torch begins a new one; the oldest go."""


class CalibrationStore:
    """Measurements in a file; may be used from several threads and processes.

    Attributes:
        problem: One sentence when the file, or a part of it, could not be used; else "".
    """

    def __init__(self, path: Path) -> None:
        self.problem = ""
        self._path = path
        self._lock = threading.Lock()
        self._entries: tuple[CalibrationEntry, ...] = ()
        self._stamp: tuple[int, int] | None = None
        self._newer = False

    def calibration(self, key: CalibrationKey, default: Calibration) -> Calibration:
        """What was measured for a key, on top of what is taken to be so without measuring.

        Quick enough to be asked at every key stroke: the file is read when it has changed.
        """
        entry = self._entry(key)
        return default if entry is None else entry.calibration(default)

    def speeds(self, key: CalibrationKey) -> MachineSpeeds | None:
        """What the last calibration measured, if there was one."""
        entry = self._entry(key)
        return None if entry is None else entry.speeds

    def record_run(self, key: CalibrationKey, plan: GenerationPlan, measured: MeasuredRun) -> None:
        """Learn from a run that went as planned.

        Args:
            key: What it ran on.
            plan: That it was carried out by; tells by its `measured_runs` which corrections are
                in its figures.
            measured: What it needed.

        Raises:
            OSError: The file cannot be written; nothing is learnt.
        """
        self._update(key, lambda entry: entry.after_run(plan, measured))

    def record_speeds(self, key: CalibrationKey, speeds: MachineSpeeds) -> None:
        """Keep what a calibration measured.

        Raises:
            OSError: The file cannot be written; it is as before.
        """
        self._update(key, lambda entry: entry.with_speeds(speeds))

    def _entry(self, key: CalibrationKey) -> CalibrationEntry | None:
        with self._lock:
            self._refresh()
            return self._find(key)

    def _update(
        self, key: CalibrationKey, change: Callable[[CalibrationEntry], CalibrationEntry]
    ) -> None:
        with self._lock:
            self._refresh()
            found = self._find(key) or CalibrationEntry(key=key)
            changed = change(found)
            if not found.key.driver:
                changed = replace(changed, key=key)
            others = tuple(entry for entry in self._entries if entry is not found)
            entries = (*others, changed)[-MAX_ENTRIES:]
            if not self._newer:
                data = {"schema_version": SCHEMA_VERSION, "entries": entries}
                write_atomic(self._path, msgspec.json.encode(data))
                self._stamp = _stamp(self._path)
            self._entries = entries

    def _find(self, key: CalibrationKey) -> CalibrationEntry | None:
        """The key's entry; where a driver is not known, the newest of that GPU and torch."""
        for entry in reversed(self._entries):
            found = entry.key
            same = (found.gpu_name, found.torch_version) == (key.gpu_name, key.torch_version)
            if same and (found.driver == key.driver or "" in (found.driver, key.driver)):
                return entry
        return None

    def _refresh(self) -> None:
        """Read the file when somebody has written it since."""
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        self._entries, self._newer, self.problem = (), False, ""
        if stamp is None:
            return
        try:
            raw = msgspec.json.decode(self._path.read_bytes(), type=dict[str, Any])
            entries = msgspec.convert(raw.get("entries"), type=list[Any])
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            self._set_aside(error)
            return
        version = raw.get("schema_version")
        self._newer = isinstance(version, int) and version > SCHEMA_VERSION
        if self._newer:
            self.problem = (
                "The measurements of this machine are of a newer Headroom: they are used as far "
                "as they are understood, and what is measured now is kept until it is closed."
            )
        self._entries = tuple(
            found for one in entries if (found := self._converted(one)) is not None
        )

    def _converted(self, raw: object) -> CalibrationEntry | None:
        problem = "a number is out of range"
        try:
            entry = msgspec.convert(raw, type=CalibrationEntry)
            if entry.plausible():
                return entry
        except msgspec.ValidationError as error:
            problem = str(error)
        log.info("a measurement cannot be used: %s", problem)
        self.problem = self.problem or "A part of this machine's measurements cannot be used."
        return None

    def _set_aside(self, error: Exception) -> None:
        log.info("the measurements cannot be read: %s", error)
        aside = self._path.with_suffix(".broken.json")
        try:
            self._path.replace(aside)
            kept = f" (the file is kept as {aside.name})"
        except OSError:
            kept = ""
        self.problem = f"The measurements of this machine cannot be read{kept}; it learns anew."
        self._stamp = _stamp(self._path)


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes when a file is written; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_ino)
