"""The session's pictures: added, saved elsewhere, trashed and brought back."""

import threading
from pathlib import Path

import pytest
from PySide6.QtCore import QSize, Qt

from app.core.errors import ErrorInfo
from app.core.events import ImageDone
from app.ui.models import results_model
from app.ui.models.background import Background
from app.ui.models.engine_model import EngineModel
from app.ui.models.results_model import RESULT_ROLE, ResultsModel
from tests.fakes.job_control import FakeJobControl
from tests.ui.run_events import job, queue, write_png

FULL = ErrorInfo(code="output.full", message="The disk is full: free some space.")


@pytest.fixture
def engine(qapp):
    model = EngineModel(FakeJobControl())
    yield model
    model.on_event(queue())


@pytest.fixture
def background(qapp):
    made = Background()
    yield made
    made.close()


@pytest.fixture
def results(engine: EngineModel, background: Background, qtmodeltester):
    model = ResultsModel(engine, background)
    qtmodeltester.check(model, force_py=True)
    yield model
    model.stop()


@pytest.fixture
def trash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for the system's trash, which no test should fill."""
    folder = tmp_path / "Trash" / "files"
    folder.mkdir(parents=True)

    def move(path: Path) -> Path:
        return path.rename(folder / path.name)

    monkeypatch.setattr(results_model, "move_to_trash", move)
    return folder


def add(engine: EngineModel, path: Path | None, *, index: int = 0, png: bytes | None = None):
    engine.on_event(queue(job("a", seed=100, images=4, prompt="a ring")))
    engine.on_event(
        ImageDone(
            job_id="a",
            index=index,
            seed=100 + index,
            path=None if path is None else str(path),
            problem=None if path is not None else FULL,
            png=png,
        )
    )


def names(results: ResultsModel) -> list[str]:
    return [results.index(row).data() for row in range(results.rowCount())]


def test_newest_is_first_and_knows_the_request_that_makes_exactly_it(engine, results, tmp_path):
    added: list[object] = []
    results.result_added.connect(added.append)
    add(engine, write_png(tmp_path / "0.png"))
    add(engine, write_png(tmp_path / "1.png"), index=1)
    assert names(results) == ["1.png", "0.png"]
    newest = results.result(0)
    assert added[-1] == newest == results.index(0).data(RESULT_ROLE)
    assert (newest.request.seed, newest.request.images) == (101, 1)
    assert newest.request.prompt == "a ring"
    assert newest.is_saved
    assert results.unsaved == ()


def test_thumbnail_arrives(engine, results, qtbot, tmp_path):
    with qtbot.waitSignal(results.dataChanged):
        add(engine, write_png(tmp_path / "0.png", width_px=400, height_px=200))
    image = results.index(0).data(Qt.ItemDataRole.DecorationRole)
    assert image.size() == QSize(192, 96)


def test_unreadable_picture_stays_without_thumbnail(engine, results, qtbot, tmp_path):
    add(engine, tmp_path / "gone.png")
    with qtbot.waitSignal(results.picture_loaded) as blocker:
        results.load_picture(results.result(0))
    assert blocker.args[0].picture is None
    assert results.index(0).data(Qt.ItemDataRole.DecorationRole) is None


def test_picture_that_could_not_be_saved_is_kept_in_memory(engine, results, qtbot, tmp_path):
    png = write_png(tmp_path / "0.png").read_bytes()
    add(engine, None, png=png)
    result = results.result(0)
    assert not result.is_saved
    assert result.problem == FULL.message
    assert results.unsaved == (result,)
    assert "not saved" in results.index(0).data(Qt.ItemDataRole.ToolTipRole)
    with qtbot.waitSignal(results.picture_loaded) as blocker:
        results.load_picture(result)
    assert blocker.args[0].picture.image.size() == QSize(128, 128)


def test_saving_an_unsaved_picture_makes_it_saved(engine, results, tmp_path, qtbot):
    png = write_png(tmp_path / "0.png").read_bytes()
    add(engine, None, png=png)
    changed: list[object] = []
    results.result_changed.connect(changed.append)
    target = tmp_path / "kept" / "mine.png"
    with qtbot.waitSignal(results.copied):
        results.save_as("a:0", target)
    assert target.read_bytes() == png
    result = results.result(0)
    assert (result.path, result.png, result.problem) == (target, None, "")
    assert changed == [result]
    assert results.unsaved == ()


def test_saving_a_copy_leaves_the_result_where_it_is(engine, results, tmp_path, qtbot):
    path = write_png(tmp_path / "0.png")
    add(engine, path)
    target = tmp_path / "copy.png"
    with qtbot.waitSignal(results.copied):
        results.save_as("a:0", target)
    assert target.read_bytes() == path.read_bytes()
    assert results.result(0).path == path


def test_saving_where_it_cannot_be_saved_is_told_and_keeps_the_picture(
    engine, results, tmp_path, qtbot
):
    png = write_png(tmp_path / "0.png").read_bytes()
    add(engine, None, png=png)
    (tmp_path / "folder.png").mkdir()
    with qtbot.waitSignal(results.failed) as failed:
        results.save_as("a:0", tmp_path / "folder.png")
    assert "is a folder" in failed.args[0].message
    assert results.result(0).png == png


def test_saving_a_picture_whose_file_is_gone_is_told(engine, results, tmp_path, qtbot):
    add(engine, tmp_path / "gone.png")
    with qtbot.waitSignal(results.failed) as failed:
        results.save_as("a:0", tmp_path / "copy.png")
    assert "moved or deleted" in failed.args[0].message
    assert not (tmp_path / "copy.png").exists()


def test_picture_is_written_outside_the_gui_thread(
    engine, results, tmp_path, qtbot, monkeypatch: pytest.MonkeyPatch
):
    threads: list[int] = []
    monkeypatch.setattr(
        results_model, "save_copy", lambda _source, _target: threads.append(threading.get_ident())
    )
    add(engine, write_png(tmp_path / "0.png"))
    with qtbot.waitSignal(results.copied):
        results.save_as("a:0", tmp_path / "copy.png")
    assert threads != [threading.get_ident()]


def test_picture_being_saved_when_the_app_ends_is_saved(engine, results, background, tmp_path):
    path = write_png(tmp_path / "0.png")
    add(engine, path)
    results.save_as("a:0", tmp_path / "copy.png")
    background.close()
    assert (tmp_path / "copy.png").read_bytes() == path.read_bytes()


def test_trashed_picture_comes_back_to_its_place(engine, results, tmp_path, trash):
    paths = [write_png(tmp_path / f"{number}.png") for number in range(3)]
    for number, path in enumerate(paths):
        add(engine, path, index=number)
    assert results.trash("a:1")
    assert names(results) == ["2.png", "0.png"]
    assert not paths[1].exists()
    assert results.can_undo_trash
    restored = results.undo_trash()
    assert restored.path == paths[1]
    assert names(results) == ["2.png", "1.png", "0.png"]
    assert paths[1].exists()
    assert results.undo_trash() is None


def test_unsaved_picture_can_be_taken_off_and_back(engine, results, tmp_path, trash):
    add(engine, None, png=write_png(tmp_path / "0.png").read_bytes())
    assert results.trash("a:0")
    assert results.rowCount() == 0
    assert results.undo_trash().png is not None
    assert results.rowCount() == 1


def test_picture_that_someone_deleted_only_leaves_the_list(engine, results, tmp_path, trash):
    add(engine, tmp_path / "gone.png")
    assert results.trash("a:0")
    assert results.rowCount() == 0
    assert not results.can_undo_trash
    assert results.undo_trash() is None


def test_restoring_over_another_file_is_refused(engine, results, tmp_path, trash):
    path = write_png(tmp_path / "0.png")
    add(engine, path)
    results.trash("a:0")
    write_png(path, "#000000")
    failed: list[ErrorInfo] = []
    results.failed.connect(failed.append)
    assert results.undo_trash() is None
    assert failed[0].code == "output.trash"
    assert results.can_undo_trash


def test_unknown_results_are_left_alone(results, tmp_path):
    assert not results.trash("nobody")
    results.save_as("nobody", tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()
    assert results.result(5) is None


def test_picture_made_again_after_a_crash_replaces_the_first(engine, results, tmp_path):
    add(engine, None, png=write_png(tmp_path / "0.png").read_bytes())
    add(engine, tmp_path / "0.png")
    assert results.rowCount() == 1
    assert results.result(0).is_saved


def test_dragged_results_are_files(engine, results, tmp_path):
    path = write_png(tmp_path / "0.png")
    add(engine, path)
    assert results.flags(results.index(0)) & Qt.ItemFlag.ItemIsDragEnabled
    (url,) = results.mimeData([results.index(0)]).urls()
    assert Path(url.toLocalFile()) == path


def test_picture_of_an_unknown_job_is_not_lost(engine, results, tmp_path):
    path = write_png(tmp_path / "0.png")
    engine.on_event(ImageDone(job_id="nobody", index=0, seed=5, path=str(path)))
    assert results.result(0).request is None
    assert results.result(0).path == path
