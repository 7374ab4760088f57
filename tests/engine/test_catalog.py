from pathlib import Path

import pytest

from app.core.errors import ModelError
from app.engine import catalog as catalog_module
from app.engine import model_folder
from app.engine.catalog import KNOWN_MODELS, Catalog
from app.engine.model_folder import inspect_model_folder
from tests.fakes.model_folder import DEMO, DEV, KLEIN_4B, KLEIN_9B, Size, make_folder


@pytest.fixture(autouse=True)
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the demo that ships, so that these tests do not depend on it."""
    folder = make_folder(tmp_path / "resources" / "models" / "demo", DEMO)

    def resource(relative: str) -> Path:
        return tmp_path / "resources" / relative

    for module in (catalog_module, model_folder):
        monkeypatch.setattr(module, "resource", resource)
    return folder


@pytest.fixture
def klein(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "klein", KLEIN_4B)


def refused(catalog: Catalog, name: str, code: str) -> str:
    with pytest.raises(ModelError) as caught:
        catalog.resolve(name)
    assert caught.value.code == code
    return caught.value.message


class TestEntries:
    def test_demo_first_then_known_models_that_are_missing(self, demo: Path):
        first, *others = Catalog(()).entries()
        assert (first.label, first.folder) == ("Demo: draws simple shapes", demo)
        assert first.info is not None
        assert first.info.name == "demo"
        names = [entry.known.name for entry in others if entry.known is not None]
        assert names == ["klein-4b", "klein-base-4b", "klein-9b", "klein-base-9b", "dev"]
        assert all(
            (entry.folder, entry.info, entry.error) == (None, None, None) for entry in others
        )

    def test_added_folders_stand_between_in_their_order(self, tmp_path: Path, klein: Path):
        own = make_folder(tmp_path / "mine")
        entries = Catalog([str(own), str(klein)]).entries()
        assert [entry.folder for entry in entries[1:3]] == [own, klein]
        assert entries[1].known is None
        assert entries[2].known is not None
        assert entries[2].known.name == "klein-4b"
        missing = [entry.known.name for entry in entries[3:] if entry.known is not None]
        assert "klein-4b" not in missing
        assert "klein-9b" in missing

    def test_bad_folder_is_listed_with_its_reason(self, tmp_path: Path):
        entry = Catalog([str(tmp_path / "gone")]).entries()[1]
        assert (entry.label, entry.info) == ("gone", None)
        assert entry.error is not None
        assert entry.error.code == "model.missing"

    def test_broken_demo_is_still_the_demo(self, demo: Path):
        (demo / "model_index.json").unlink()
        entries = Catalog(()).entries()
        assert entries[0].label == "Demo: draws simple shapes"
        assert entries[0].known is not None
        assert entries[0].error is not None
        assert [entry.known.name for entry in entries if entry.known].count("demo") == 1

    def test_folder_given_twice_is_listed_once(self, klein: Path):
        assert len(Catalog([str(klein), str(klein)]).entries()) == len(
            Catalog([str(klein)]).entries()
        )


class TestResolve:
    @pytest.mark.parametrize("name", ["demo", "Demo", " demo "])
    def test_demo(self, demo: Path, name: str):
        assert Catalog(()).resolve(name) == inspect_model_folder(demo)

    def test_known_name_finds_the_added_folder(self, tmp_path: Path, klein: Path):
        catalog = Catalog([str(tmp_path / "gone"), str(make_folder(tmp_path / "own")), str(klein)])
        assert catalog.resolve("klein-4b").folder == klein

    def test_folder_need_not_be_added(self, klein: Path):
        assert Catalog(()).resolve(str(klein)).name == "klein-4b"

    def test_folder_may_be_relative(self, klein: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.chdir(klein.parent)
        assert Catalog(()).resolve("klein").folder == klein
        assert Catalog(()).resolve("./klein").folder == klein

    def test_known_name_goes_before_a_folder_of_that_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo: Path
    ):
        (tmp_path / "demo").mkdir()
        monkeypatch.chdir(tmp_path)
        assert Catalog(()).resolve("demo").folder == demo

    def test_bad_folder_tells_its_own_reason(self, tmp_path: Path):
        refused(Catalog(()), str(tmp_path / "gone"), "model.missing")
        refused(Catalog(()), str(tmp_path), "model.not_a_model")

    @pytest.mark.parametrize("known", KNOWN_MODELS[1:], ids=lambda known: known.name)
    def test_known_model_that_is_not_installed_says_where_to_get_it(
        self, known: catalog_module.KnownModel, tmp_path: Path
    ):
        message = refused(Catalog([str(tmp_path)]), known.name, "model.not_installed")
        assert message.startswith(f"{known.label} is not installed")
        assert known.source in message
        assert "folder" in message

    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("klien-4b", "did you mean klein-4b?"),
            ("Klein4b", "did you mean klein-4b?"),
            ("devv", "did you mean dev?"),
            ("qqq", "known are demo, klein-4b"),
            ("", "known are demo"),
            ("x" * 5000, "known are demo"),
            ("a\0b", "known are demo"),
        ],
    )
    def test_unknown_name_gets_a_hint(self, name: str, hint: str):
        assert hint in refused(Catalog(()), name, "model.unknown_name")


@pytest.mark.parametrize(
    ("size", "dev", "distilled"),
    [
        (DEMO, False, True),
        (KLEIN_4B, False, True),
        (KLEIN_4B, False, False),
        (KLEIN_9B, False, True),
        (KLEIN_9B, False, False),
        (DEV, True, False),
    ],
)
def test_table_agrees_with_what_folders_say(tmp_path: Path, size: Size, dev: bool, distilled: bool):
    info = inspect_model_folder(make_folder(tmp_path / "m", size, dev=dev, distilled=distilled))
    known = next(known for known in KNOWN_MODELS if known.name == info.name)
    assert (known.label, known.default_steps) == (info.label, info.default_steps)
    assert known.default_guidance == info.default_guidance
    assert known.default_size_px == info.default_width_px == info.default_height_px
