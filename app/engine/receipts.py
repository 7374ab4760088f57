"""Which files a job's images were given, noted before they are there: told even after a kill.

An engine that is killed between the last byte of a picture and the word that it is saved leaves
the picture and no word. Without a note, the next engine would save it once more under another
number.
"""

import contextlib
import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import msgspec

from app.core.atomic import write_atomic
from app.engine.kept_runs import receipts_file

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Receipt:
    """The file an image is about to get, and a digest of what will be in it."""

    path: str
    sha256: str


class Receipts:
    """The notes of one job, in a file beside its latents."""

    def __init__(self, folder: Path, job_id: str) -> None:
        self._path = receipts_file(folder, job_id)
        self._noted = self._read()

    def note(self, index: int, path: Path, png: bytes) -> None:
        """Image `index` is about to be written to `path`; a disk that refuses costs only this."""
        digest = hashlib.sha256(png).hexdigest()
        self._noted[index] = _Receipt(path=str(path), sha256=digest)
        try:
            write_atomic(self._path, msgspec.json.encode(self._noted))
        except OSError as error:
            log.info("it cannot be noted where an image is saved: %s", error)

    def saved(self) -> dict[int, str]:
        """Path of each image that lies whole where it was to be."""
        paths = {index: self.path_of(index) for index in sorted(self._noted)}
        return {index: path for index, path in paths.items() if path is not None}

    def path_of(self, index: int) -> str | None:
        """Where an image lies whole; None where it was not noted or is not there as noted."""
        noted = self._noted.get(index)
        if noted is None or _digest(Path(noted.path)) != noted.sha256:
            return None
        return noted.path

    def forget(self) -> None:
        """Remove the notes: all that they tell was told."""
        self._noted.clear()
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _read(self) -> dict[int, _Receipt]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[int, _Receipt])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            log.info("the notes of what was saved cannot be used: %s", error)
            return {}


def _digest(path: Path) -> str:
    """Of a file; "" where it cannot be read."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
    return ""
