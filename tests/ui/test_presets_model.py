"""Presets in the window: the right one by itself, and everything the menu does."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QAction
from PySide6.QtWidgets import QComboBox, QLabel
from pytestqt.qtbot import QtBot

from app.core.policy import MemoryMode, MemoryPolicy
from app.core.preset import Preset, PresetLimits
from app.core.preset_store import PresetStore
from app.core.units import GIB
from app.ui.models.background import Background
from app.ui.models.policy_file import PolicyFile
from app.ui.models.policy_model import PolicyModel
from app.ui.models.presets_model import PresetsModel
from app.ui.panels.preset_bar import PresetBar
from tests.fakes.described import machine
from tests.fakes.window import WindowParts
from tests.ui.find import find

GPU = "Fake GPU"


class Shelf:
    """A bar on a real store in a folder of the test, without the built-in presets."""

    def __init__(self, qtbot: QtBot, parts: WindowParts, background: Background) -> None:
        self.qtbot, self.parts = qtbot, parts
        home = parts.home
        self.folder = home / "own"
        self.trashed: list[Path] = []
        (home / "builtin").mkdir()
        self.store = PresetStore(self.folder, builtin_folder=home / "builtin", trash=self.trash)
        self.policy = PolicyModel(PolicyFile(home / "m.json"), background)
        self.presets = PresetsModel(self.store, self.policy, parts.form, background)
        self.bar = PresetBar(self.presets)
        qtbot.addWidget(self.bar)
        self.bar.resize(300, 60)
        self.bar.show()
        self.combo = find(self.bar, QComboBox, "preset_combo")

    def trash(self, path: Path) -> None:
        self.trashed.append(path)
        path.unlink()

    def meet(self, sample=None) -> None:
        self.presets.on_sample(sample or machine(12.0))
        self.settle()

    def settle(self) -> None:
        """Until what was asked beside the window is there."""
        with self.qtbot.waitSignal(self.presets.changed):
            self.presets.refresh()

    def act(self, name: str) -> None:
        find(self.bar, QAction, f"action_preset_{name}").trigger()

    def enabled(self, name: str) -> bool:
        return find(self.bar, QAction, f"action_preset_{name}").isEnabled()

    def until(self, check) -> None:
        self.qtbot.waitUntil(check)

    @property
    def names(self) -> list[str]:
        return [row.name for row in self.presets.rows]

    @property
    def said(self) -> str:
        return find(self.bar, QLabel, "preset_message").text()


@pytest.fixture
def shelf(qtbot: QtBot, ready: WindowParts) -> Iterator[Shelf]:
    made = Shelf(qtbot, ready, ready.background)
    yield made
    made.policy.flush()


def evening(**changes) -> Preset:
    values = {
        "name": "Evening",
        "gpu_name": GPU,
        "vram_bytes": 12 * GIB,
        "policy": MemoryPolicy(headroom_bytes=3 * GIB),
        "limits": PresetLimits(max_images=2),
    }
    return Preset(**{**values, **changes})


def test_the_gpus_preset_is_applied_when_the_gpu_is_met_for_the_first_time(shelf: Shelf):
    shelf.store.save(evening())
    shelf.meet()
    shelf.until(lambda: shelf.policy.state.preset == "Evening")
    assert shelf.policy.policy.headroom_bytes == 3 * GIB
    assert shelf.policy.limits.max_images == 2
    shelf.until(lambda: shelf.combo.currentText() == "Evening")


def test_what_was_chosen_for_the_gpu_before_goes_before_its_preset(shelf: Shelf):
    shelf.store.save(evening())
    shelf.policy.set_headroom(GIB)
    shelf.meet()
    shelf.settle()
    assert shelf.policy.policy.headroom_bytes == GIB
    assert shelf.policy.state.preset == ""


def test_another_model_brings_its_own_preset_unless_something_was_changed(shelf: Shelf):
    shelf.store.save(evening())
    shelf.store.save(evening(name="For dev", model="dev", policy=MemoryPolicy(strict=True)))
    shelf.meet()
    shelf.until(lambda: shelf.policy.state.preset == "Evening")
    shelf.settle()
    shelf.parts.form.set_model("dev")
    shelf.until(lambda: shelf.policy.state.preset == "For dev")
    shelf.policy.set_headroom(GIB)
    shelf.settle()
    shelf.parts.form.set_model("demo")
    shelf.settle()
    assert shelf.policy.state.preset == "For dev"
    assert shelf.combo.currentIndex() == -1
    assert shelf.combo.placeholderText() == "For dev, changed"


def test_a_preset_is_chosen_with_its_steps(shelf: Shelf):
    shelf.store.save(evening(steps=20))
    shelf.policy.set_headroom(GIB)
    shelf.meet()
    shelf.combo.setCurrentIndex(0)
    shelf.combo.activated.emit(0)
    assert shelf.policy.policy.headroom_bytes == 3 * GIB
    assert shelf.parts.form.values().steps == 20


def test_choices_are_saved_as_a_preset_for_this_gpu(shelf: Shelf, monkeypatch):
    shelf.meet()
    shelf.policy.set_mode(MemoryMode.MINIMAL)
    monkeypatch.setattr(PresetBar, "ask_name", classmethod(lambda *_: "Quiet"))
    shelf.act("save_as")
    shelf.until(lambda: shelf.names == ["Quiet"])
    saved = shelf.store.find("Quiet").preset
    assert (saved.gpu_name, saved.vram_bytes) == (GPU, 12 * GIB)
    assert saved.policy.mode is MemoryMode.MINIMAL
    shelf.until(lambda: shelf.combo.currentText() == "Quiet")
    assert "Quiet" in shelf.said


def test_a_taken_name_is_replaced_only_when_the_user_says_so(shelf: Shelf, monkeypatch):
    shelf.store.save(evening())
    shelf.policy.set_headroom(GIB)
    shelf.meet()
    monkeypatch.setattr(PresetBar, "ask_name", classmethod(lambda *_: "evening"))
    monkeypatch.setattr(PresetBar, "ask_replace", classmethod(lambda *_: False))
    shelf.act("save_as")
    shelf.settle()
    assert shelf.store.find("Evening").preset.policy.headroom_bytes == 3 * GIB
    monkeypatch.setattr(PresetBar, "ask_replace", classmethod(lambda *_: True))
    shelf.act("save_as")
    shelf.until(lambda: shelf.store.find("Evening").preset.policy.headroom_bytes == GIB)


def test_changes_are_saved_into_the_preset_in_use(shelf: Shelf):
    shelf.store.save(evening(steps=9))
    shelf.meet()
    shelf.until(lambda: shelf.presets.current is not None)
    assert not shelf.enabled("save")
    shelf.policy.set_strict(strict=True)
    assert shelf.enabled("save")
    shelf.act("save")
    shelf.until(lambda: shelf.store.find("Evening").preset.policy.strict)
    assert shelf.store.find("Evening").preset.steps == 9
    shelf.until(lambda: not shelf.presets.modified)


def test_rename_default_and_delete(shelf: Shelf, monkeypatch):
    shelf.store.save(evening())
    shelf.meet()
    shelf.until(lambda: shelf.presets.current is not None)
    monkeypatch.setattr(PresetBar, "ask_name", classmethod(lambda *_: "Night"))
    shelf.act("rename")
    shelf.until(lambda: shelf.names == ["Night"])
    assert shelf.policy.state.preset == "Night"
    shelf.act("default")
    shelf.until(lambda: shelf.presets.rows[0].is_default)
    assert shelf.combo.itemText(0) == "Night (at start)"
    shelf.act("default")
    shelf.until(lambda: not shelf.presets.rows[0].is_default)
    shelf.act("delete")
    shelf.until(lambda: shelf.names == [])
    assert len(shelf.trashed) == 1
    assert shelf.policy.policy.headroom_bytes == 3 * GIB
    assert shelf.combo.placeholderText() == "No preset"


def test_a_preset_goes_to_a_file_and_comes_back(shelf: Shelf, tmp_path: Path, monkeypatch):
    shelf.store.save(evening())
    shelf.meet()
    shelf.until(lambda: shelf.presets.current is not None)
    target = tmp_path / "out.toml"
    monkeypatch.setattr(PresetBar, "ask_export", classmethod(lambda *_: target))
    shelf.act("export")
    shelf.until(target.exists)
    shelf.until(lambda: "out.toml" in shelf.said)
    monkeypatch.setattr(PresetBar, "ask_import", classmethod(lambda *_: target))
    shelf.act("import")
    shelf.until(lambda: len(shelf.names) == 2)
    assert shelf.policy.state.preset == shelf.names[1]


def test_what_cannot_be_done_is_said(shelf: Shelf, tmp_path: Path, monkeypatch):
    shelf.meet()
    missing = tmp_path / "none.toml"
    monkeypatch.setattr(PresetBar, "ask_import", classmethod(lambda *_: missing))
    shelf.act("import")
    shelf.until(lambda: bool(shelf.said))
    assert "cannot be opened" in shelf.said


def test_problems_in_files_are_said(shelf: Shelf):
    shelf.folder.mkdir()
    (shelf.folder / "Broken.toml").write_text("headroom = ")
    shelf.meet()
    assert "Broken" in shelf.said
    tip = shelf.combo.itemData(0, Qt.ItemDataRole.ToolTipRole)
    assert "Broken" in tip


def test_built_in_presets_can_be_chosen_but_not_changed(qtbot: QtBot, ready: WindowParts):
    bar = PresetBar(ready.planning.presets)
    qtbot.addWidget(bar)
    ready.planning.on_sample(machine(12.0))
    qtbot.waitUntil(lambda: ready.planning.presets.current is not None)
    current = ready.planning.presets.current
    assert current is not None
    assert current.entry.builtin
    for name, possible in (("rename", False), ("delete", False), ("save", False), ("export", True)):
        assert find(bar, QAction, f"action_preset_{name}").isEnabled() is possible
