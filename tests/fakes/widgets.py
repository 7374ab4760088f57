"""Finding widgets in tests."""

from typing import TypeVar

from PySide6.QtCore import QObject
from PySide6.QtWidgets import QWidget

Kind = TypeVar("Kind", bound=QObject)


def child(panel: QWidget, kind: type[Kind], name: str) -> Kind:
    """The one child of this kind and name."""
    found = panel.findChild(kind, name)
    assert found is not None, f"no {kind.__name__} named {name}"
    return found
