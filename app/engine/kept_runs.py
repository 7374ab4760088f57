"""Where the latents of unfinished runs lie on disk, and the notes of what they have saved.

The files go with their jobs. A job that lacked memory finds them when it is tried again.
"""

import contextlib
import hashlib
import itertools
import re
import time
from collections.abc import Container
from pathlib import Path

SUFFIX = ".safetensors"
RECEIPTS_SUFFIX = ".saved.json"
STALE_S = 14 * 24 * 3600.0
"""Files that nobody has touched for so long belong to jobs that are long gone."""
_TRY = re.compile(r"-try-\d+\Z")
_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,64}")


def kept_file(folder: Path, job_id: str) -> Path:
    """The file of a job's latents."""
    return folder / f"{_stem(job_id)}{SUFFIX}"


def receipts_file(folder: Path, job_id: str) -> Path:
    """The file with the notes of what a job has saved."""
    return folder / f"{_stem(job_id)}{RECEIPTS_SUFFIX}"


def id_of_try(job_id: str, known: Container[str]) -> str:
    """The id of a job that does once more what another one was to do: it finds what that has left.

    Args:
        job_id: Of the other one.
        known: Ids that are taken.
    """
    first = _TRY.sub("", job_id)
    tries = (f"{first}-try-{number}" for number in itertools.count(2))
    return next(one for one in tries if one not in known)


def is_same_run(one_id: str, other_id: str) -> bool:
    """Whether two jobs are tries of the same one, which find the same files."""
    return _stem(one_id) == _stem(other_id)


def _stem(job_id: str) -> str:
    """Ids of any kind get a name that every disk takes; all tries of a job have the same."""
    job_id = _TRY.sub("", job_id)
    return job_id if _PLAIN.fullmatch(job_id) else hashlib.sha256(job_id.encode()).hexdigest()


def forget_run(folder: Path, job_id: str) -> None:
    """Remove what is kept of a job that will not run again; nothing happens when there is none."""
    for path in (kept_file(folder, job_id), receipts_file(folder, job_id)):
        with contextlib.suppress(OSError):
            path.unlink()


def sweep_kept_runs(folder: Path, *, now_s: float | None = None) -> None:
    """Remove files of jobs that are long gone.

    Args:
        folder: Of kept runs; it need not exist.
        now_s: Seconds since the epoch; None is now.
    """
    oldest_s = (time.time() if now_s is None else now_s) - STALE_S
    with contextlib.suppress(OSError):
        for path in (*folder.glob(f"*{SUFFIX}"), *folder.glob(f"*{RECEIPTS_SUFFIX}")):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < oldest_s:
                    path.unlink()
