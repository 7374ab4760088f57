"""An image that could not be saved where it should go is saved somewhere else."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from app.core.atomic import write_new
from app.core.errors import ErrorInfo
from app.core.events import ImageDone, Notice
from app.core.naming import numbered
from app.core.paths import app_paths


def rescue(event: ImageDone, problem: ErrorInfo, tell: Callable[[Notice], None]) -> str | None:
    """Write the image to the user's pictures folder, or else to the temporary folder.

    Args:
        event: Of the image, with its bytes.
        problem: Why it is not where it should be.
        tell: Told where it is now.

    Returns:
        Its path, or None when it could be saved nowhere.
    """
    number = event.index + 1
    for folder in (app_paths().pictures, Path(tempfile.gettempdir())):
        names = numbered(f"rescued-{event.seed}")
        try:
            path = write_new((folder / f"{name}.png" for name in names), event.png or b"")
        except OSError:
            continue
        message = f"{problem.message} Image {number} is kept as {path}."
        tell(Notice(job_id=event.job_id, code="output.rescued", message=message))
        return str(path)
    message = (
        f"{problem.message} Image {number} could be saved nowhere else either: "
        f"make room and generate again with seed {event.seed}."
    )
    tell(Notice(job_id=event.job_id, code="output.lost", message=message))
    return None
