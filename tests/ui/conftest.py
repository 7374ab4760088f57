"""Fixtures of the window's tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from tests.fakes.window import WindowParts


@pytest.fixture
def parts(qapp: QApplication, tmp_path: Path) -> Iterator[WindowParts]:
    """The models below a window, on fakes; the catalog is not yet read."""
    made = WindowParts(tmp_path)
    yield made
    made.close()


@pytest.fixture
def read_catalog(qtbot: QtBot) -> Callable[[WindowParts], None]:
    """Read the catalog and wait for it."""

    def read(made: WindowParts) -> None:
        with qtbot.waitSignal(made.catalog.refreshed):
            made.catalog.refresh()

    return read


@pytest.fixture
def ready(parts: WindowParts, read_catalog: Callable[[WindowParts], None]) -> WindowParts:
    """The models below a window, with the catalog read."""
    read_catalog(parts)
    return parts
