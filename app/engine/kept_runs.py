"""Where the latents of unfinished runs lie on disk, and the notes of what they have saved.

The files go with their jobs.
"""

import contextlib
import hashlib
import re
import time
from pathlib import Path

SUFFIX = ".safetensors"
RECEIPTS_SUFFIX = ".saved.json"
STALE_S = 14 * 24 * 3600.0
"""Files that nobody has touched for so long belong to jobs that are long gone."""
_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,64}")


def kept_file(folder: Path, job_id: str) -> Path:
    """The file of a job's latents."""
    return folder / f"{_stem(job_id)}{SUFFIX}"


def receipts_file(folder: Path, job_id: str) -> Path:
    """The file with the notes of what a job has saved."""
    return folder / f"{_stem(job_id)}{RECEIPTS_SUFFIX}"


def _stem(job_id: str) -> str:
    """Ids of any kind get a name that every disk takes."""
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
