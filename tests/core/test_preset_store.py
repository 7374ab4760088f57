"""The user's presets on disk: nothing is lost, nothing is overwritten that is not understood."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from app.core.errors import OutputError, RequestError
from app.core.policy import MemoryPolicy
from app.core.preset import Preset
from app.core.preset_file import preset_text
from app.core.preset_store import PresetStore
from app.core.trash import move_beside
from app.core.units import GIB

STRICT = MemoryPolicy(strict=True)
RTX = "NVIDIA GeForce RTX 3060"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "presets"


@pytest.fixture
def builtin(tmp_path: Path) -> Path:
    folder = tmp_path / "builtin"
    folder.mkdir()
    for size in (6, 8, 12, 16, 24, 32):
        preset = Preset(name=f"{size} GB", vram_bytes=size * GIB)
        (folder / f"{size}.toml").write_text(preset_text(preset), encoding="utf-8")
    return folder


@pytest.fixture
def store(folder: Path, builtin: Path) -> PresetStore:
    return PresetStore(folder, builtin_folder=builtin, trash=move_beside)


def names(store: PresetStore) -> list[str]:
    return [entry.name for entry in store.entries()]


def code_of(caught: pytest.ExceptionInfo[RequestError]) -> str:
    return caught.value.code


def test_built_in_presets_come_first_from_the_smallest_up(store: PresetStore, folder: Path):
    store.save(Preset(name="zoo"))
    store.save(Preset(name="Ape"))
    sizes = ["6 GB", "8 GB", "12 GB", "16 GB", "24 GB", "32 GB"]
    assert names(store) == [*sizes, "Ape", "zoo"]
    assert [entry.builtin for entry in store.entries()] == [True] * 6 + [False] * 2
    assert store.find(" APE ").path == folder / "Ape.toml"


def test_listing_makes_no_folder(store: PresetStore, folder: Path):
    assert len(store.entries()) == 6
    assert not folder.exists()


def test_a_saved_preset_comes_back(store: PresetStore):
    preset = Preset(name="mine", gpu_name=RTX, vram_bytes=12 * GIB, policy=STRICT)
    saved = store.save(preset)
    assert saved.preset == preset
    assert store.find("mine") == saved


@pytest.mark.parametrize("name", ["../up", "CON", "a/b\\c", ".hidden", "x" * 80, "名前"])
def test_any_name_gets_a_file_in_the_folder(store: PresetStore, folder: Path, name: str):
    saved = store.save(Preset(name=name))
    assert saved.path.parent == folder
    assert store.find(name).preset.name == name
    assert len(names(store)) == 7


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 81, "\ud800"])
def test_a_name_that_cannot_be_used_is_refused(store: PresetStore, name: str):
    with pytest.raises(RequestError) as caught:
        store.save(Preset(name=name))
    assert code_of(caught) == "preset.name"


def test_a_taken_name_is_replaced_only_on_demand(store: PresetStore):
    store.save(Preset(name="mine"))
    with pytest.raises(RequestError, match="already") as caught:
        store.save(Preset(name="Mine", policy=STRICT))
    assert code_of(caught) == "preset.exists"
    assert store.find("mine").preset.policy == MemoryPolicy()
    store.save(Preset(name="mine", policy=STRICT), replacing=True)
    assert store.find("mine").preset.policy == STRICT
    assert len(names(store)) == 7


def test_built_in_presets_are_never_changed(store: PresetStore):
    for action in (
        lambda: store.save(Preset(name="12 gb"), replacing=True),
        lambda: store.rename("12 GB", "x"),
        lambda: store.delete("12 GB"),
    ):
        with pytest.raises(RequestError) as caught:
            action()
        assert code_of(caught) == "preset.builtin"
    assert len(names(store)) == 6


@pytest.mark.parametrize("data", [b"schema_version = 9\nname = 'mine'", b"name = 'mine'\nx = 1"])
def test_a_file_that_is_not_understood_is_never_overwritten(
    store: PresetStore, folder: Path, data: bytes
):
    folder.mkdir()
    (folder / "mine.toml").write_bytes(data)
    saved = store.save(Preset(name="mine", policy=STRICT), replacing=True)
    assert saved.name == "mine-2"
    assert saved.path == folder / "mine-2.toml"
    assert (folder / "mine.toml").read_bytes() == data
    assert names(store)[6:] == ["mine", "mine-2"]
    assert len(store.problems()) == 1


def test_two_files_of_one_name_are_told_apart(store: PresetStore, folder: Path):
    saved = store.save(Preset(name="mine"))
    (folder / "copy.toml").write_bytes(saved.path.read_bytes())
    (folder / "copy 2.toml").write_bytes(b"name = '12 GB'")
    assert names(store)[6:] == ["12 GB-2", "mine", "mine-2"]


def test_what_is_no_preset_file_is_passed_over(store: PresetStore, folder: Path):
    (folder / "sub.toml").mkdir(parents=True)
    (folder / "notes.txt").write_text("x", encoding="utf-8")
    assert len(names(store)) == 6


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind here")
def test_a_file_that_may_not_be_read_is_told(store: PresetStore):
    store.save(Preset(name="mine")).path.chmod(0)
    assert "cannot be opened (Permission denied)" in store.find("mine").problems[0]


def test_rename_moves_file_and_default_and_keeps_comments(store: PresetStore, folder: Path):
    saved = store.save(Preset(name="old", policy=STRICT))
    saved.path.write_text(f"# by hand\n{preset_text(saved.preset)}", encoding="utf-8")
    store.set_default(RTX, "old")
    entry = store.rename("old", "new")
    assert entry == store.find("new")
    assert [path.name for path in sorted(folder.glob("*.toml"))] == ["new.toml"]
    assert entry.path.read_text(encoding="utf-8").startswith("# by hand\n")
    assert store.best_for(RTX, 12 * GIB, None) == entry


def test_rename_refuses_taken_names_and_broken_files(store: PresetStore, folder: Path):
    store.save(Preset(name="a"))
    store.save(Preset(name="b"))
    for new in ("B", "8 gb"):
        with pytest.raises(RequestError) as caught:
            store.rename("a", new)
        assert code_of(caught) == "preset.exists"
    assert store.rename("a", "A").name == "A"
    assert store.rename("A", "A").name == "A"
    (folder / "bad.toml").write_bytes(b"[memory\nstrict = true")
    with pytest.raises(RequestError) as caught:
        store.rename("bad", "good")
    assert code_of(caught) == "preset.broken"
    assert (folder / "bad.toml").exists()


def test_delete_goes_to_the_trash_and_forgets_the_default(store: PresetStore, folder: Path):
    for _round in range(2):
        store.save(Preset(name="mine"))
        store.set_default(RTX, "mine")
        store.delete("mine")
    assert sorted(path.name for path in (folder / ".trash").iterdir()) == [
        "mine-2.toml",
        "mine.toml",
    ]
    best = store.best_for(RTX, 12 * GIB, None)
    assert best is not None
    assert best.name == "12 GB"


def test_a_trash_that_fails_keeps_the_preset(folder: Path, builtin: Path):
    def no_trash(_path: Path) -> None:
        raise OSError(28, "No space left on device")

    store = PresetStore(folder, builtin_folder=builtin, trash=no_trash)
    store.save(Preset(name="mine"))
    with pytest.raises(OutputError, match="No space left"):
        store.delete("mine")
    assert store.find("mine").path.exists()


def test_an_unknown_name_names_the_known_ones(store: PresetStore):
    with pytest.raises(RequestError, match="“6 GB”, “8 GB”") as caught:
        store.find("x" * 500)
    assert code_of(caught) == "preset.unknown"
    assert len(caught.value.message) < 300


@pytest.mark.parametrize(
    ("vram_gib", "expected"),
    [(4, "6 GB"), (6, "6 GB"), (7.99, "8 GB"), (10, "8 GB"), (15, "12 GB"), (80, "32 GB")],
)
def test_the_class_of_a_card_is_the_largest_it_reaches(
    store: PresetStore, vram_gib: float, expected: str
):
    best = store.best_for("Some GPU", round(vram_gib * GIB), "klein-4b")
    assert best is not None
    assert best.name == expected


def test_a_preset_of_this_gpu_comes_before_the_class_and_its_model_first(store: PresetStore):
    bound = Preset(name="b", gpu_name=RTX, vram_bytes=12 * GIB)
    store.save(bound)
    store.save(replace(bound, name="a"))
    store.save(replace(bound, name="c", model="dev"))
    store.save(Preset(name="0"))

    def best(gpu: str, vram_gib: float, model: str | None) -> str:
        found = store.best_for(gpu, round(vram_gib * GIB), model)
        assert found is not None
        return found.name

    assert best(RTX.upper(), 12, "klein-4b") == "a"
    assert best(RTX, 12, None) == "a"
    assert best(RTX, 12, "dev") == "c"
    # The card of the same name with less memory is another card.
    assert best(RTX, 8, "dev") == "8 GB"
    store.set_default(RTX, "b")
    store.set_default(RTX, "c")
    assert (best(RTX, 12, "klein-4b"), best(RTX, 12, "dev")) == ("b", "c")
    store.clear_default(RTX)
    assert best(RTX, 12, "klein-4b") == "a"
    store.set_default(RTX, "16 gb")
    assert best(RTX, 12, "klein-4b") == "16 GB"
    assert store.is_default(store.find("16 GB"), RTX)
    assert not store.is_default(store.find("16 GB"), None)


def test_a_cpu_has_only_its_default(store: PresetStore):
    assert store.best_for(None, None, "demo") is None
    mine = store.save(Preset(name="mine"))
    store.set_default(None, "mine")
    assert store.best_for(None, None, "demo") == mine


def test_a_default_that_was_deleted_by_hand_does_not_matter(store: PresetStore):
    saved = store.save(Preset(name="mine"))
    store.set_default(None, "mine")
    saved.path.unlink()
    assert store.best_for(None, None, None) is None


@pytest.mark.parametrize("data", [b"", b"[1]", b'{"schema_version": 1, "defaults": {"a": 1}}'])
def test_a_broken_list_of_defaults_is_told_and_set_aside(
    store: PresetStore, folder: Path, data: bytes
):
    folder.mkdir()
    (folder / "defaults.json").write_bytes(data)
    assert store.best_for(None, None, None) is None
    assert store.problems() == ("The list of default presets cannot be read; none is the default.",)
    store.set_default(None, "8 GB")
    assert (folder / "defaults.broken.json").read_bytes() == data
    assert json.loads((folder / "defaults.json").read_bytes())["defaults"] == {"cpu": {"": "8 GB"}}
    assert store.problems() == ()


def test_import_and_export_keep_the_bytes(store: PresetStore, tmp_path: Path):
    saved = store.save(Preset(name="mine", policy=STRICT))
    target = store.export("mine", tmp_path / "given.toml")
    assert target.read_bytes() == saved.path.read_bytes()
    assert store.export("MINE", tmp_path) == tmp_path / "mine.toml"
    assert store.export("mine", tmp_path) == tmp_path / "mine-2.toml"
    assert store.export("12 GB", tmp_path / "c").read_bytes()

    imported = store.import_file(target)
    assert imported.preset == replace(saved.preset, name="mine-2")
    assert store.find("mine-2") == imported
    assert target.exists()
    store.delete("mine")
    assert store.import_file(target).path.read_bytes() == target.read_bytes()


def test_import_of_a_newer_or_broken_file_says_what_is_left_out(store: PresetStore, tmp_path: Path):
    (tmp_path / "new.toml").write_bytes(b"schema_version = 9\n[memory]\nstrict = true\nx = 1\n")
    imported = store.import_file(tmp_path / "new.toml")
    assert imported.name == "new"
    assert imported.preset.policy == STRICT
    assert len(imported.problems) == 2
    broken = b"name = 'new'\n[memory]\nstrict = true\n[oops\n"
    (tmp_path / "broken.toml").write_bytes(broken)
    imported = store.import_file(tmp_path / "broken.toml")
    assert imported.name == "new-2"
    assert imported.path.read_bytes() == broken
    assert names(store)[6:] == ["new", "new-2"]


def test_what_is_no_preset_is_not_imported(store: PresetStore, tmp_path: Path):
    (tmp_path / "p.toml").write_text("[project]\nname = 'x'", encoding="utf-8")
    (tmp_path / "big.toml").write_bytes(b"#" * ((1 << 20) + 1))
    for path in (tmp_path / "p.toml", tmp_path / "big.toml", tmp_path, tmp_path / "none.toml"):
        with pytest.raises(RequestError) as caught:
            store.import_file(path)
        assert code_of(caught) == "preset.import"
    with pytest.raises(RequestError):
        store.import_file(Path("a\0b"))
    assert len(names(store)) == 6


def test_export_replaces_nothing(store: PresetStore, tmp_path: Path):
    taken = tmp_path / "taken.toml"
    taken.write_text("mine", encoding="utf-8")
    for path in (taken, tmp_path / "none" / "x.toml", Path("a\0b"), tmp_path / "\udcff"):
        with pytest.raises(RequestError) as caught:
            store.export("12 GB", path)
        assert code_of(caught) == "preset.export"
    assert taken.read_text(encoding="utf-8") == "mine"


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path, builtin: Path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    store = PresetStore(tmp_path / "file", builtin_folder=builtin)
    assert len(store.entries()) == 6
    with pytest.raises(OutputError, match="cannot be written") as caught:
        store.save(Preset(name="mine"))
    assert caught.value.code == "preset.write"
