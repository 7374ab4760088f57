"""Finds widgets by class and object name."""

from typing import TypeVar

from PySide6.QtCore import QObject

Found = TypeVar("Found", bound=QObject)


def find(parent: QObject, kind: type[Found], name: str) -> Found:
    """The one descendant with this name; fails the test when there is none."""
    found = parent.findChild(kind, name)
    assert found is not None, f"no {kind.__name__} is called {name}"
    return found
