"""What can be done with a result's file: save it elsewhere, move it to the trash and back."""

import contextlib
import errno
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from PySide6.QtCore import QCoreApplication, QFile

from app.core.atomic import write_atomic
from app.core.errors import OutputError
from app.core.metadata import ImageRecord
from app.core.png import SIGNATURE, read_record
from app.core.request import GenerationRequest
from app.core.run_report import PictureReport
from app.ui.models.picture_memory import PictureMemory
from app.ui.models.reused_references import ReusedReferences, reused_references


def save_copy(source: Path | bytes, target: Path) -> None:
    """Write a PNG, from its file or its bytes, to `target`; settings in it are kept.

    Raises:
        OutputError: The source is gone, or the target cannot be written; no half file remains.
    """
    if isinstance(source, bytes):
        data = source
    else:
        try:
            data = source.read_bytes()
        except OSError as error:
            raise OutputError(
                _tr(
                    "The picture {path} cannot be read, so it was not saved again: "
                    "it may have been moved or deleted."
                ).format(path=source),
                code="output.source",
                details=str(error),
            ) from error
    try:
        write_atomic(target, data)
    except OSError as error:
        raise OutputError(_write_problem(target, error), details=str(error)) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureSettings:
    """What a picture's file tells of how it was made.

    Attributes:
        request: That makes exactly this picture. Reference images that are not here, or not as
            they were, are left out.
        memory: How its weights and memory were handled.
        references_lost: A sentence about the reference images that are left out, or "".
        report: What was planned and measured; None when the file does not say.
    """

    request: GenerationRequest
    memory: PictureMemory
    references_lost: str = ""
    report: PictureReport | None = None


def settings_of(path: Path) -> PictureSettings | None:
    """What a picture's file tells; None when it tells nothing of ours, or is no picture."""
    record = read_record(path)
    if record is None:
        return None
    found = reused_references(record.references) if record.references else ReusedReferences()
    return PictureSettings(
        request=replace(record.request, seed=record.seed, images=1, references=found.paths),
        memory=PictureMemory.of_record(record),
        references_lost=found.sentence(),
        report=_report_of(record),
    )


def is_png(path: Path) -> bool:
    """Whether a file begins as each PNG file does."""
    try:
        with path.open("rb") as file:
            return file.read(len(SIGNATURE)) == SIGNATURE
    except OSError:
        return False


def _report_of(record: ImageRecord) -> PictureReport | None:
    if not record.phases:
        return None
    return PictureReport(
        verdict=record.verdict,
        changes=record.changes,
        phases=record.phases,
        rungs=record.rungs,
    )


def move_to_trash(path: Path) -> Path | None:
    """Move a file to the system's trash.

    Returns:
        Where it is now, for undo, or None where the system does not tell.

    Raises:
        OutputError: It cannot be moved there; the file is where it was.
    """
    # The static function with the same name answers differently in each PySide6.
    file = QFile(str(path))
    if not file.moveToTrash():
        raise OutputError(
            _tr(
                "The picture {path} could not be moved to the trash; it is where it was. "
                "Delete it with your file manager instead."
            ).format(path=path),
            code="output.trash",
        )
    trashed = Path(file.fileName())
    return trashed if trashed != path and trashed.exists() else None


def restore_from_trash(trashed: Path, path: Path) -> None:
    """Bring a file back from the trash.

    Raises:
        OutputError: It is no longer there, or its place is taken.
    """
    sentence = _tr(
        "The picture could not be brought back to {path}; look for it in the system's trash."
    ).format(path=path)
    if path.exists():
        raise OutputError(sentence, code="output.trash")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(trashed, path)
    except OSError as error:
        raise OutputError(sentence, code="output.trash", details=str(error)) from error
    # The freedesktop trash keeps a note beside each file, which would now describe nothing.
    note = trashed.parent.parent / "info" / f"{trashed.name}.trashinfo"
    with contextlib.suppress(OSError):
        note.unlink()


def _write_problem(target: Path, error: OSError) -> str:
    if target.is_dir():
        text = _tr("{path} is a folder: choose a file name for the picture.")
    elif error.errno == errno.ENOSPC:
        text = _tr(
            "The disk is full, so {path} was not written: free some space or choose another."
        )
    elif isinstance(error, PermissionError):
        text = _tr("{path} may not be written: choose a folder that belongs to you.")
    else:
        text = _tr("{path} could not be written ({reason}): choose another place.")
    return text.format(path=target, reason=error.strerror or os.strerror(error.errno or 0))


def _tr(text: str) -> str:
    return QCoreApplication.translate("PictureFiles", text)
