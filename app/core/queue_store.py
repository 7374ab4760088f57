"""The waiting jobs on disk, so that closing the app (or a power cut) loses none of them."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from app.core.atomic import write_atomic
from app.core.jobs import Job, JobState

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Version:
    schema_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _QueueFile:
    schema_version: int
    jobs: tuple[Job, ...]


class QueueStore:
    """Waiting jobs in a file.

    Attributes:
        problem: One sentence when the file could not be used, else "".
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written: bytes | None = None
        self._locked = False
        self._told = False
        self.problem = ""

    def load(self) -> tuple[Job, ...]:
        """The jobs that waited; an unusable file is set aside and told in `problem`."""
        self.problem = ""
        self._written = None
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            self._written = _encoded(())  # No file says the same as an empty one.
            return ()
        except OSError as error:
            self._set_aside("cannot be read", error)
            return ()
        try:
            version = msgspec.json.decode(data, type=_Version).schema_version
            if version > SCHEMA_VERSION:
                self._set_aside("was written by a newer version of Headroom", None)
                return ()
            jobs = msgspec.json.decode(data, type=_QueueFile).jobs
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self._set_aside("cannot be understood", error)
            return ()
        self._written = data
        return _restored(jobs)

    def save(self, jobs: tuple[Job, ...]) -> str:
        """Write the file unless it already says just this.

        A file that could neither be used nor set aside is left alone; `problem` has said so.

        Returns:
            A sentence when the file cannot be written, once until it can be again; else "".
        """
        data = _encoded(jobs)
        if self._locked or data == self._written:
            return ""
        try:
            write_atomic(self._path, data)
        except OSError as error:
            log.info("the queue cannot be saved: %s", error)
            told, self._told = self._told, True
            if told:
                return ""
            return (
                f"The queue cannot be saved ({error.strerror or error}), so waiting jobs would "
                "be lost when Headroom is closed: check the disk and the folder "
                f"{self._path.parent}."
            )
        self._written = data
        self._told = False
        return ""

    def _set_aside(self, what: str, error: Exception | None) -> None:
        log.warning("queue file %s: %s", what, error)
        try:
            aside = _free_name(self._path)
            self._path.replace(aside)
        except OSError as move_error:
            log.warning("queue file cannot be set aside: %s", move_error)
            self._locked = True
            self.problem = (
                f"The saved queue {what}; the queue starts empty and is not saved: "
                f"move {self._path} away to mend this."
            )
        else:
            self.problem = (
                f"The saved queue {what}; it is kept as {aside.name}, and the queue starts empty."
            )


def _encoded(jobs: tuple[Job, ...]) -> bytes:
    return msgspec.json.encode(_QueueFile(schema_version=SCHEMA_VERSION, jobs=jobs))


def _restored(jobs: tuple[Job, ...]) -> tuple[Job, ...]:
    """Jobs that have not ended, ready for a fresh start with all their attempts."""
    seen: set[str] = set()
    waiting: list[Job] = []
    for job in jobs:
        if job.state in (JobState.QUEUED, JobState.RUNNING) and job.id not in seen:
            seen.add(job.id)
            waiting.append(replace(job, state=JobState.QUEUED, attempts=0, error=None))
    return tuple(waiting)


def _free_name(path: Path) -> Path:
    """A name beside `path` that no file has: an older file set aside is never overwritten."""
    number = 1
    while True:
        suffix = ".broken.json" if number == 1 else f".broken-{number}.json"
        candidate = path.with_suffix(suffix)
        if not candidate.exists():
            return candidate
        number += 1
