"""The models as rows."""

from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from pytestqt.modeltest import ModelTester
from pytestqt.qtbot import QtBot

from app.ui.models.catalog_model import CHOICE_ROLE, EveryRowEnabled
from tests.fakes.model_folder import DEV, SMALL, make_folder
from tests.fakes.window import WindowParts


def texts(parts: WindowParts) -> list[str]:
    return [parts.catalog.index(row).data() for row in range(parts.catalog.rowCount())]


def test_rows_say_what_each_model_is(ready: WindowParts):
    assert texts(ready) == [
        "Demo: draws simple shapes",
        "FLUX.2 klein base 4B",
        "FLUX.2 dev",
        "FLUX.2 klein 9B (not installed)",
    ]


def test_model_keeps_qts_rules(ready: WindowParts, qtmodeltester: ModelTester):
    qtmodeltester.check(ready.catalog)


def test_what_is_not_installed_cannot_be_chosen_but_says_where_it_is(ready: WindowParts):
    index = ready.catalog.index(3)
    assert not ready.catalog.flags(index) & Qt.ItemFlag.ItemIsEnabled
    assert "huggingface.co" in index.data(Qt.ItemDataRole.ToolTipRole)
    rows = EveryRowEnabled()
    rows.setSourceModel(ready.catalog)
    assert rows.flags(rows.index(3, 0)) & Qt.ItemFlag.ItemIsEnabled
    assert rows.index(3, 0).data(CHOICE_ROLE).source.startswith("https://")


@pytest.mark.parametrize(
    ("model", "guidance"), [("demo", "none"), ("klein-base-4b", "cfg"), ("dev", "embedded")]
)
def test_guidance_use_is_told(ready: WindowParts, model: str, guidance: str):
    choice = ready.catalog.choice(model)
    assert choice is not None
    assert choice.guidance == guidance


def test_added_folder_is_kept_listed_and_announced(
    ready: WindowParts, qtbot: QtBot, tmp_path: Path
):
    folder = make_folder(tmp_path / "mine", SMALL)
    with qtbot.waitSignal(ready.catalog.folder_added) as added:
        ready.catalog.add_folder(folder)
    assert added.args == [str(folder)]
    assert ready.settings.settings.model_folders == (str(folder),)
    assert ready.catalog.choice(str(folder)) is not None


def test_adding_a_folder_twice_keeps_it_once(ready: WindowParts, qtbot: QtBot, tmp_path: Path):
    folder = make_folder(tmp_path / "mine", SMALL)
    for _ in range(2):
        with qtbot.waitSignal(ready.catalog.folder_added):
            ready.catalog.add_folder(folder)
    assert ready.settings.settings.model_folders == (str(folder),)


def test_second_folder_of_a_known_model_goes_by_its_path(
    ready: WindowParts, qtbot: QtBot, tmp_path: Path
):
    folder = make_folder(tmp_path / "dev-again", DEV, dev=True)
    with qtbot.waitSignal(ready.catalog.folder_added) as added:
        ready.catalog.add_folder(folder)
    assert added.args == [str(folder)]
    first = ready.catalog.choice("dev")
    assert first is not None
    assert first.folder == ready.models_root / "dev"


def test_folder_that_is_no_model_is_refused_with_a_sentence(
    ready: WindowParts, qtbot: QtBot, tmp_path: Path
):
    with qtbot.waitSignal(ready.catalog.folder_refused) as refused:
        ready.catalog.add_folder(tmp_path / "nothing")
    assert refused.args is not None
    assert "There is no model folder" in refused.args[0]
    assert ready.settings.settings.model_folders == ()


def test_removed_folder_leaves_list_and_settings(ready: WindowParts, qtbot: QtBot, tmp_path: Path):
    folder = make_folder(tmp_path / "mine", SMALL)
    with qtbot.waitSignal(ready.catalog.folder_added):
        ready.catalog.add_folder(folder)
    with qtbot.waitSignal(ready.catalog.refreshed):
        ready.catalog.remove_folder(folder)
    assert ready.catalog.choice(str(folder)) is None
    assert folder.exists()


def test_picture_finds_the_models_folder_by_its_name(ready: WindowParts):
    found = ready.catalog.choice_of_picture("base")
    assert found is not None
    assert found.model == "klein-base-4b"
    assert ready.catalog.choice_of_picture("dev") == ready.catalog.choice("dev")
    assert ready.catalog.choice_of_picture("elsewhere") is None
