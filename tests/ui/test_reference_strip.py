"""The reference images below the prompt, as the user meets them."""

from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent, QGuiApplication, QImage
from PySide6.QtWidgets import QApplication, QLabel, QPushButton, QToolButton, QWidget
from pytestqt.qtbot import QtBot

from app.core.request import MAX_REFERENCES
from app.ui.panels import reference_strip
from app.ui.panels.reference_strip import ReferenceStrip
from app.ui.widgets import reference_row
from app.ui.widgets.cost_badge import CostBadge
from app.ui.widgets.picture_mime import row_data
from app.ui.widgets.reference_row import ReferenceRow
from tests.fakes.described import machine
from tests.fakes.pictures import picture_file
from tests.fakes.widgets import child
from tests.fakes.window import WindowParts

COPY, LEFT = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton
NO_KEY, ALT = Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.AltModifier


@pytest.fixture
def strip(ready: WindowParts, qtbot: QtBot) -> ReferenceStrip:
    made = ReferenceStrip(ready.references, ready.form, ready.catalog, ready.planning.plans)
    qtbot.addWidget(made)
    made.resize(320, 300)
    made.show()
    qtbot.waitExposed(made)
    return made


def fill(ready: WindowParts, qtbot: QtBot, folder: Path, count: int) -> list[str]:
    paths = [
        picture_file(folder / f"{number}.png", 80 + 16 * number, 64, seed=number)
        for number in range(count)
    ]
    ready.references.add(paths)
    qtbot.waitUntil(lambda: all(row.size for row in ready.references.references))
    return paths


def row(strip: ReferenceStrip, number: int) -> ReferenceRow:
    return child(strip, ReferenceRow, f"reference_row_{number}")


def order(ready: WindowParts) -> str:
    return "".join(one.name[0] for one in ready.references.references)


def drop(strip: ReferenceStrip, data: QMimeData, at: QPoint) -> bool:
    """Whether it is taken."""
    enter = QDragEnterEvent(at, COPY, data, LEFT, NO_KEY)
    enter.ignore()
    QApplication.sendEvent(strip, enter)
    if not enter.isAccepted():
        return False
    QApplication.sendEvent(strip, QDropEvent(QPointF(at), COPY, data, LEFT, NO_KEY))
    return True


def urls(*paths: str | Path) -> QMimeData:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    return data


def test_empty_it_is_one_button(strip: ReferenceStrip):
    visible = [one for one in strip.findChildren(QPushButton) if one.isVisible()]
    assert [one.objectName() for one in visible] == ["reference_add"]
    assert not any(one.isVisible() for one in strip.findChildren(QLabel))
    assert strip.height() > strip.sizeHint().height() > 0


def test_the_button_asks_for_files(
    strip: ReferenceStrip,
    ready: WindowParts,
    qtbot: QtBot,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    path = picture_file(tmp_path / "a.jpg", 64, 64)
    monkeypatch.setattr(reference_strip, "ask_pictures", lambda _parent: [Path(path)])
    button = child(strip, QPushButton, "reference_add")
    qtbot.mouseClick(button, LEFT)
    assert ready.form.form.references == (path,)
    assert "another" in button.text()
    ready.form.set_references(f"{path}{number}" for number in range(MAX_REFERENCES))
    assert not button.isEnabled()


def test_rows_say_name_size_and_cost(
    strip: ReferenceStrip, ready: WindowParts, qtbot: QtBot, tmp_path: Path
):
    ready.form.set_model("klein-base-4b")
    ready.planning.on_sample(machine(24.0))
    path = picture_file(tmp_path / "fox.png", 1024, 768)
    ready.references.add([path, tmp_path / "gone.png"])
    size = child(strip, QLabel, "reference_size_0")
    qtbot.waitUntil(lambda: size.text() == "1024 × 768")
    qtbot.waitUntil(lambda: child(strip, CostBadge, "reference_cost_0").isVisible())
    assert child(strip, QLabel, "reference_count").text() == f"2 of {MAX_REFERENCES}"
    problem = child(strip, QLabel, "reference_problem_1")
    qtbot.waitUntil(problem.isVisible)
    cost = child(strip, CostBadge, "reference_cost_0").text()
    assert cost.startswith("+")
    assert (
        row(strip, 0).accessibleName() == f"Reference image 1 of 2: fox.png, 1024 × 768 px, {cost}"
    )
    assert problem.text().startswith("The reference image gone.png is not there")
    assert "not there" in row(strip, 1).accessibleName()
    assert not child(strip, CostBadge, "reference_cost_1").isVisible()
    assert not child(strip, QLabel, "reference_problem_0").isVisible()


def test_rows_are_moved_and_removed_with_keys(
    strip: ReferenceStrip, ready: WindowParts, qtbot: QtBot, tmp_path: Path
):
    fill(ready, qtbot, tmp_path, 3)
    row(strip, 0).setFocus()
    qtbot.waitUntil(row(strip, 0).hasFocus)
    qtbot.keyClick(row(strip, 0), Qt.Key.Key_Down, ALT)
    assert order(ready) == "102"
    assert row(strip, 1).hasFocus()
    qtbot.keyClick(row(strip, 1), Qt.Key.Key_Down)
    assert row(strip, 2).hasFocus()
    qtbot.keyClick(row(strip, 2), Qt.Key.Key_Up, ALT)
    assert order(ready) == "120"
    qtbot.keyClick(row(strip, 1), Qt.Key.Key_Up)
    qtbot.keyClick(row(strip, 0), Qt.Key.Key_Up, ALT)
    assert order(ready) == "120"
    qtbot.keyClick(row(strip, 0), Qt.Key.Key_Delete)
    assert order(ready) == "20"
    assert row(strip, 0).hasFocus()
    qtbot.keyClick(row(strip, 0), Qt.Key.Key_Backspace)
    qtbot.keyClick(row(strip, 0), Qt.Key.Key_Delete)
    assert order(ready) == ""
    assert child(strip, QPushButton, "reference_add").hasFocus()


def test_the_cross_removes_one(
    strip: ReferenceStrip, ready: WindowParts, qtbot: QtBot, tmp_path: Path
):
    fill(ready, qtbot, tmp_path, 2)
    cross = child(strip, QToolButton, "reference_remove_0")
    assert cross.accessibleName() == "Remove reference image 0.png"
    qtbot.mouseClick(cross, LEFT)
    assert order(ready) == "1"
    assert child(strip, QToolButton, "reference_remove_0").accessibleName().endswith("1.png")


def test_dropped_files_go_where_they_are_dropped(
    strip: ReferenceStrip, ready: WindowParts, qtbot: QtBot, tmp_path: Path
):
    fill(ready, qtbot, tmp_path, 2)
    new = [picture_file(tmp_path / f"{name}", 64, 64) for name in ("7.webp", "8.JPG")]
    top = row(strip, 1).geometry().top() + 2
    with qtbot.assertNotEmitted(strip.told):
        assert drop(strip, urls(*new), QPoint(20, top))
    assert order(ready) == "0781"
    made = picture_file(tmp_path / "9.png", 64, 64)
    with qtbot.waitSignal(strip.told, check_params_cb=lambda text: "settings back" in text):
        assert drop(strip, urls(made), QPoint(20, strip.height() - 1))
    assert order(ready) == "07819"
    text = tmp_path / "notes.txt"
    text.touch()
    assert not drop(strip, urls(text, tmp_path), QPoint(20, 20))
    assert order(ready) == "07819"


def test_a_row_can_be_pulled_to_another_place(
    strip: ReferenceStrip,
    ready: WindowParts,
    qtbot: QtBot,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    fill(ready, qtbot, tmp_path, 3)
    pulled: list[QMimeData] = []
    monkeypatch.setattr(
        reference_row, "run_drag", lambda drag: pulled.append(row_data(int(drag.source().row)))
    )
    first = row(strip, 0)
    middle = first.rect().center()
    qtbot.mousePress(first, LEFT, pos=middle)
    qtbot.mouseMove(first, middle + QPoint(0, 2))
    assert not pulled
    qtbot.mouseMove(first, middle + QPoint(0, 3 * QApplication.startDragDistance()))
    (data,) = pulled
    monkeypatch.setattr(strip, "_own_row", lambda event: reference_strip.row_of(event.mimeData()))
    assert drop(strip, data, QPoint(20, row(strip, 2).geometry().bottom() - 1))
    assert order(ready) == "120"
    assert drop(strip, row_data(2), QPoint(20, row(strip, 0).geometry().top() + 1))
    assert order(ready) == "012"


def test_rows_of_another_window_are_not_taken(
    strip: ReferenceStrip, ready: WindowParts, qtbot: QtBot, tmp_path: Path
):
    fill(ready, qtbot, tmp_path, 2)
    assert not drop(strip, row_data(1), QPoint(20, 30))


def test_pictures_on_the_clipboard_are_pasted(
    strip: ReferenceStrip, ready: WindowParts, qtbot: QtBot, tmp_path: Path
):
    clipboard = QGuiApplication.clipboard()
    clipboard.setText("a prompt")
    assert not strip.take_pasted()
    image = QImage(80, 64, QImage.Format.Format_RGB32)
    image.fill(0x123456)
    with qtbot.waitSignal(ready.references.rows_changed):
        clipboard.setImage(image)
        assert strip.take_pasted()
    clipboard.setMimeData(urls(picture_file(tmp_path / "a.png", 64, 64)))
    assert strip.take_pasted()
    assert len(ready.references.references) == 2
    both = QMimeData()
    both.setText("a table")
    both.setImageData(image)
    clipboard.setMimeData(both)
    assert not strip.take_pasted()
    clipboard.clear()


def test_the_demo_says_that_it_does_not_know_reference_images(
    strip: ReferenceStrip, ready: WindowParts, qtbot: QtBot, tmp_path: Path
):
    note = child(strip, QLabel, "reference_note")
    assert not note.isVisible()
    fill(ready, qtbot, tmp_path, 1)
    assert note.isVisible()
    ready.form.set_model("klein-base-4b")
    assert not note.isVisible()
    ready.form.set_references(f"{tmp_path}/{number}.png" for number in range(4))
    assert not note.isVisible()
    ready.form.set_references(f"{tmp_path}/{number}.png" for number in range(5))
    assert note.isVisible()
    assert "was made for up to 4 reference images" in note.text()
    ready.form.set_references([f"{tmp_path}/0.png"])
    ready.form.set_model("demo")
    assert note.isVisible()
    assert "not trained" in note.text()
    ready.references.remove(0)
    assert not note.isVisible()


def test_in_the_window_pasting_adds_and_told_is_shown(
    ready: WindowParts, qtbot: QtBot, tmp_path: Path
):
    window = ready.window()
    qtbot.addWidget(window)
    window.show()
    strip = child(window, ReferenceStrip, "reference_strip")
    QGuiApplication.clipboard().setMimeData(urls(picture_file(tmp_path / "a.png", 64, 64)))
    window._commands.paste.trigger()
    assert len(ready.references.references) == 1
    window._commands.paste.trigger()
    assert "already" in window.statusBar().currentMessage()
    QGuiApplication.clipboard().setText("typed elsewhere")
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow)
    window._commands.paste.trigger()
    assert ready.form.form.prompt == "typed elsewhere"
    assert strip.isVisible()
    QGuiApplication.clipboard().clear()


@pytest.mark.parametrize("focused", ["prompt_edit", "image_view"])
def test_the_paste_key_adds_a_copied_picture_wherever_the_focus_is(
    ready: WindowParts, qtbot: QtBot, tmp_path: Path, focused: str
):
    window = ready.window()
    qtbot.addWidget(window)
    window.show()
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow)
    widget = child(window, QWidget, focused)
    widget.setFocus()
    QGuiApplication.clipboard().setMimeData(urls(picture_file(tmp_path / "a.png", 64, 64)))
    qtbot.keyClick(widget, Qt.Key.Key_V, Qt.KeyboardModifier.ControlModifier)
    assert len(ready.references.references) == 1
    assert ready.form.form.prompt == ""
    # Text goes where it always went, once.
    QGuiApplication.clipboard().setText("typed elsewhere")
    edit = child(window, QWidget, "prompt_edit")
    edit.setFocus()
    qtbot.keyClick(edit, Qt.Key.Key_V, Qt.KeyboardModifier.ControlModifier)
    assert ready.form.form.prompt == "typed elsewhere"
    assert len(ready.references.references) == 1
    QGuiApplication.clipboard().clear()
