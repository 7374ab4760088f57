"""The text for a bug report: complete, and without the user's name."""

import getpass
from pathlib import Path, PureWindowsPath

import pytest

from app import __version__
from app.core.device import DeviceSnapshot, HostSnapshot, Sample
from app.core.events import EngineReady
from app.core.log import LogLine
from app.core.settings import Settings
from app.ui.models import diagnostics as module
from app.ui.models.diagnostics import anonymous, components, diagnostics

GIB = 1024**3


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(Path, "home", staticmethod(lambda: Path("/home/juliane")))
    monkeypatch.setattr(getpass, "getuser", lambda: "juliane")
    return "juliane"


def test_report_has_versions_hardware_settings_and_log(user: str):
    text = diagnostics(
        settings=Settings(
            pictures_folder="/home/juliane/Pictures", model_folders=("/d/juliane/m",)
        ),
        sample=Sample(
            time_s=1.0,
            host=HostSnapshot(total_bytes=32 * GIB, available_bytes=20 * GIB),
            device=DeviceSnapshot(index=0, name="RTX", total_bytes=8 * GIB, used_bytes=GIB),
        ),
        engine=EngineReady(
            pid=1, device="cuda:0", device_name="RTX", torch_version="2.9", diffusers_version="0.42"
        ),
        lines=[LogLine(time_s=0.0, level=20, logger="app", message="saved /home/juliane/x.png")],
        qt_platform="xcb",
    )
    for part in (
        f"Headroom {__version__}",
        "RAM 32.0 GB, 20.0 GB available",
        "GPU RTX, 8.0 GB, 1.0 GB used",
        "Engine: cuda:0 (RTX), torch 2.9",
        "theme='system'",
        "saved ~/x.png",
        "~/Pictures",
    ):
        assert part in text
    assert user not in text


def test_report_without_engine_and_gpu(user: str):
    text = diagnostics(settings=Settings(), sample=None, engine=None, lines=[], qt_platform="xcb")
    assert "Engine: not started" in text
    assert "not measured yet" in text


def test_only_the_end_of_the_log_is_kept(user: str):
    lines = [LogLine(time_s=0.0, level=20, logger="app", message=f"no {n}.") for n in range(500)]
    text = diagnostics(settings=Settings(), sample=None, engine=None, lines=lines, qt_platform="")
    assert "no 499." in text
    assert "no 100." not in text


def test_short_names_are_left_in_words(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(getpass, "getuser", lambda: "al")
    assert anonymous("all is normal") == "all is normal"


def test_name_is_replaced_as_a_word_only(user: str):
    assert anonymous("juliane julianesque") == "<user> julianesque"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("/home/JULIANE/Pictures", "~/Pictures"),
        ("saved by Juliane", "saved by <user>"),
        ("D:\\JULIANE\\x", "D:\\<user>\\x"),
        # Someone else's folder.
        ("/home/julianeta/x", "/home/julianeta/x"),
    ],
)
def test_case_of_a_name_does_not_matter(user: str, text: str, told: str):
    assert anonymous(text) == told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (r"C:\USERS\Juliane.Doe\x", r"~\x"),
        (r"'c:\\users\\juliane.doe\\x'", r"'~\\x'"),
        ("c:/users/juliane.doe/x", "~/x"),
        (r"C:\Users\JULIAN~1\AppData", r"C:\Users\<user>\AppData"),
        (r"E:\juliane.doe\jd@example", r"E:\<user>\jd@example"),
    ],
)
def test_windows_paths_are_recognised(monkeypatch: pytest.MonkeyPatch, text: str, told: str):
    home = PureWindowsPath(r"C:\Users\juliane.doe")
    monkeypatch.setattr(Path, "home", staticmethod(lambda: home))
    # The folder is named after the user, the account may be called otherwise.
    monkeypatch.setattr(getpass, "getuser", lambda: "admin-jd")
    assert anonymous(text) == told


def test_components_that_are_missing_are_said_so():
    [one] = components(["no-such-library"])
    assert one.version == "not installed"


def test_all_libraries_have_a_version_and_a_licence():
    for one in components(module.PACKAGES):
        assert one.version != "not installed", one.name
        assert one.licence, one.name
