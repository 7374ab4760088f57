"""The reference images that a picture's file tells of: those that are still here, unchanged."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QCoreApplication

from app.core.metadata import ReferenceRecord
from app.core.request import MAX_REFERENCES

_OF_OTHER_COMPUTERS = ("//", "\\\\")
"""A picture from anywhere must not make this computer call another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReusedReferences:
    """What became of a picture's reference images.

    Attributes:
        paths: Of those that can be used again, in order.
        gone: Names of those that are not there.
        changed: Names of those whose files have another content now.
    """

    paths: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def sentence(self) -> str:
        """What is to be said about them; "" when all are back."""
        parts: list[str] = []
        if self.gone:
            parts.append(_tr("not there any more: {names}").format(names=", ".join(self.gone)))
        if self.changed:
            parts.append(_tr("changed since: {names}").format(names=", ".join(self.changed)))
        if not parts:
            return ""
        return _tr(
            "The settings are back without some reference images ({what}), so the picture will be "
            "another one."
        ).format(what="; ".join(parts))


def reused_references(records: Iterable[ReferenceRecord]) -> ReusedReferences:
    """Look for a picture's reference images on this computer."""
    # Lazy: Pillow is loaded with the first reference image, not with the window.
    from app.core.reference_image import digest_of_file

    paths: list[str] = []
    gone: list[str] = []
    changed: list[str] = []
    for record in tuple(records)[:MAX_REFERENCES]:
        path = record.here()
        name = record.path.replace("\\", "/").rpartition("/")[2]
        digest = None
        if Path(path).is_absolute() and not path.startswith(_OF_OTHER_COMPUTERS):
            digest = digest_of_file(path)
        if digest is None:
            gone.append(name)
        elif digest != record.sha256:
            changed.append(name)
        else:
            paths.append(path)
    return ReusedReferences(paths=tuple(paths), gone=tuple(gone), changed=tuple(changed))


def _tr(text: str) -> str:
    return QCoreApplication.translate("ReusedReferences", text)
