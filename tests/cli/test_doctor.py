"""The doctor: each thing that can be wrong is told with its remedy."""

import importlib.metadata
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from app.cli import doctor, file_checks, machine_checks, main, package_checks
from app.cli.check import Check, CheckState, note, ok, problem
from app.core.device import DeviceSnapshot
from app.core.errors import SetupError
from app.core.paths import AppPaths, app_paths
from app.core.settings import Settings, SettingsStore
from app.core.units import GIB
from app.monitor.probe import Detection
from tests.fakes.model_folder import SMALL, make_folder

ROOT = Path(__file__).resolve().parents[2]


def one(checks: list[Check]) -> Check:
    assert len(checks) == 1
    return checks[0]


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have the doctor find just these things."""

    def install(*checks: Check) -> None:
        monkeypatch.setattr(doctor, "examine", lambda: checks)

    return install


def test_a_device_without_anything_to_measure_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["doctor", "--device", "cpu"]) == 2
    assert "--device says what --calibrate measures" in capsys.readouterr().err


def test_a_healthy_machine_is_exit_0(
    pretend: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(ok("python", "3.12"), note("gpu", "None.", "Buy one."))
    assert doctor.run_doctor(as_json=False) == 0
    out = capsys.readouterr().out
    assert "ok      python              3.12\n" in out
    assert "-> Buy one." in out
    assert out.endswith("Headroom can run here.\n")


@pytest.mark.parametrize(("count", "verdict"), [(1, "1 thing must"), (2, "2 things must")])
def test_problems_are_exit_1(
    pretend: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
    count: int,
    verdict: str,
) -> None:
    pretend(*[problem("torch", "Broken.", "Mend it.")] * count)
    assert doctor.run_doctor(as_json=False) == 1
    out = capsys.readouterr().out
    assert "PROBLEM torch               Broken.\n" in out
    assert verdict in out


def test_json_is_one_object_with_every_check(
    pretend: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(ok("python", "3.12"), problem("torch", "Broken.", "Mend it."))
    assert doctor.run_doctor(as_json=True) == 1
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "event": "doctor",
        "healthy": False,
        "checks": [
            {"name": "python", "state": "ok", "found": "3.12", "remedy": ""},
            {"name": "torch", "state": "problem", "found": "Broken.", "remedy": "Mend it."},
        ],
    }


@pytest.mark.parametrize(
    ("version", "state"),
    [
        ((3, 10), CheckState.PROBLEM),
        ((3, 11), CheckState.OK),
        ((3, 13), CheckState.OK),
        ((3, 14), CheckState.PROBLEM),
    ],
)
def test_python_is_3_11_to_3_13(version: tuple[int, int], state: CheckState) -> None:
    assert one(machine_checks.check_python(version)).state is state


def test_the_apps_version_and_place_are_told() -> None:
    assert str(ROOT) in one(machine_checks.check_app()).found


class FakeProbe:
    driver = "fake driver 1.2"

    def __init__(self, snapshot: DeviceSnapshot | None) -> None:
        self.closed = False
        self._snapshot = snapshot

    def snapshot(self, engine_pid: int | None) -> DeviceSnapshot | None:
        return self._snapshot

    def close(self) -> None:
        self.closed = True


GPU = DeviceSnapshot(index=1, name="Card", total_bytes=12 * GIB, used_bytes=3 * GIB)


@pytest.mark.parametrize(
    ("snapshot", "state", "words"),
    [
        (GPU, CheckState.OK, "Card, 12.0 GB, 9.0 GB free, fake driver 1.2"),
        (None, CheckState.PROBLEM, "fake driver 1.2"),
    ],
)
def test_each_gpu_is_told_and_let_go(
    monkeypatch: pytest.MonkeyPatch, snapshot: DeviceSnapshot | None, state: CheckState, words: str
) -> None:
    probe = FakeProbe(snapshot)
    found = Detection(probes=(probe,), problems=())
    monkeypatch.setattr(machine_checks, "detect", lambda: found)
    check = one(machine_checks.check_gpus())
    assert check.state is state
    assert words in check.found
    assert probe.closed


def test_a_driver_that_does_not_answer_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    error = SetupError("The driver was updated: restart the computer.")
    monkeypatch.setattr(machine_checks, "detect", lambda: Detection(probes=(), problems=(error,)))
    check = one(machine_checks.check_gpus())
    assert check.state is CheckState.PROBLEM
    assert check.found == error.message


def test_no_gpu_is_worth_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_checks, "detect", lambda: Detection(probes=(), problems=()))
    assert one(machine_checks.check_gpus()).state is CheckState.NOTE


class FakeMemory(NamedTuple):
    total: int
    available: int = GIB
    used: int = GIB


@pytest.mark.parametrize(
    ("total_bytes", "state"), [(4 * GIB, CheckState.NOTE), (32 * GIB, CheckState.OK)]
)
def test_little_ram_is_worth_a_note(
    monkeypatch: pytest.MonkeyPatch, total_bytes: int, state: CheckState
) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: FakeMemory(total_bytes))
    monkeypatch.setattr("psutil.swap_memory", lambda: FakeMemory(2 * GIB))
    check = one(machine_checks.check_memory())
    assert check.state is state
    assert "2.0 GB of swap, 1.0 GB used" in check.found


def test_settings_that_cannot_be_used_are_told(expect_log: Callable[..., None]) -> None:
    expect_log("setting theme")
    store = SettingsStore(app_paths().settings_file)
    store.save(Settings())
    assert one(file_checks.check_settings(store)).state is CheckState.OK
    app_paths().settings_file.write_text('{"theme": 7}')
    store.load()
    check = one(file_checks.check_settings(store))
    assert check.state is CheckState.NOTE
    assert "theme" in check.found


def test_folders_are_checked_by_writing(tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file")
    (tmp_path / "log").mkdir()
    paths = AppPaths(
        config=tmp_path / "new" / "config",
        data=tmp_path / "blocked" / "data",
        cache=tmp_path,
        log=tmp_path / "log",
        pictures=tmp_path / "pictures",
    )
    settings = Settings(pictures_folder=str(tmp_path / "blocked"))
    checks = {check.name: check for check in file_checks.check_folders(paths, settings)}
    assert checks["folder.config"].found.endswith("(made when it is needed)")
    assert checks["folder.log"].found == str(tmp_path / "log")
    broken = [name for name, check in checks.items() if check.state is CheckState.PROBLEM]
    assert broken == ["folder.data", "folder.pictures"]
    assert str(tmp_path / "blocked") in checks["folder.data"].remedy
    assert list((tmp_path / "log").iterdir()) == []
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("free_bytes", "state"),
    [(GIB // 20, CheckState.PROBLEM), (GIB, CheckState.NOTE), (50 * GIB, CheckState.OK)],
)
def test_a_full_disk_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free_bytes: int, state: CheckState
) -> None:
    class Usage(NamedTuple):
        total: int
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(100 * GIB, free_bytes))
    checks = file_checks.check_disks(app_paths(), Settings(pictures_folder=str(tmp_path)))
    assert [check.name for check in checks] == ["disk.pictures", "disk.data"]
    assert {check.state for check in checks} == {state}


def test_a_disk_that_cannot_be_asked_is_worth_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(shutil, "disk_usage", fail)
    checks = file_checks.check_disks(app_paths(), Settings())
    assert {check.state for check in checks} == {CheckState.NOTE}


def test_models_that_cannot_be_used_are_problems(tmp_path: Path) -> None:
    good = make_folder(tmp_path / "good", SMALL)
    settings = Settings(model_folders=(str(good), str(tmp_path / "gone")))
    checks = file_checks.check_models(settings)
    assert checks[0].name == "model.demo"
    states = {check.found: check.state for check in checks[1:]}
    assert list(states.values()) == [CheckState.OK, CheckState.PROBLEM]
    assert str(good) in next(iter(states))


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert one(package_checks.check_packages()).state is CheckState.OK

    def version(name: str) -> str:
        if name in ("diffusers", "numpy"):
            raise importlib.metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(importlib.metadata, "version", version)
    check = one(package_checks.check_packages())
    assert check.state is CheckState.PROBLEM
    assert check.found == "Not installed: diffusers, numpy."
    assert "installer" in check.remedy


def torch_says(**changes: object) -> str:
    told = {"version": "2.9", "cuda": None, "hip": None, "xpu": None, "threads": 4}
    told |= {"devices": [], "idle": []}
    return f"print({json.dumps({**told, **changes})!r})"


@pytest.mark.parametrize(
    ("program", "state", "words"),
    [
        (torch_says(), CheckState.OK, "built for CPU), 4 threads: the CPU only"),
        (torch_says(threads=1), CheckState.OK, "built for CPU), 1 thread: the CPU only"),
        (
            torch_says(cuda="12.8", devices=[["cuda:0", "Card", 12 * GIB]]),
            CheckState.OK,
            "built for CUDA 12.8), 4 threads: cuda:0 Card with 12.0 GB",
        ),
        (
            torch_says(cuda="13.0", idle=[["cuda:0", "Old card", 8 * GIB]]),
            CheckState.PROBLEM,
            "but it cannot compute on cuda:0 Old card with 8.0 GB.",
        ),
        (
            torch_says(
                cuda="13.0",
                devices=[["cuda:1", "Card", 12 * GIB]],
                idle=[["cuda:0", "Old card", 8 * GIB]],
            ),
            CheckState.NOTE,
            "cuda:1 Card with 12.0 GB; it cannot compute on cuda:0 Old card with 8.0 GB",
        ),
        (torch_says(xpu="20250302"), CheckState.PROBLEM, "XPU 20250302), 4 threads, but it sees"),
        (torch_says(hip="6.4"), CheckState.PROBLEM, "ROCm 6.4), 4 threads, but it sees no GPU"),
        ("raise ImportError('libcudart is gone')", CheckState.PROBLEM, "libcudart is gone"),
        ("import os; os._exit(3)", CheckState.PROBLEM, "exit code 3"),
    ],
)
def test_what_torch_says_of_itself(program: str, state: CheckState, words: str) -> None:
    check = one(package_checks.check_torch(program))
    assert check.state is state
    assert words in check.found


def test_a_torch_that_hangs_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_checks, "PATIENCE_S", 0.01)
    check = one(package_checks.check_torch("import time; time.sleep(60)"))
    assert "did not answer" in check.found


def test_a_python_that_cannot_be_started_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    assert "cannot be started" in one(package_checks.check_torch()).found


@pytest.mark.parametrize(("display", "state"), [("", CheckState.NOTE), (":0", CheckState.PROBLEM)])
def test_missing_libraries_are_a_problem_only_where_there_is_a_screen(
    monkeypatch: pytest.MonkeyPatch, display: str, state: CheckState
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(
        package_checks, "QT_LIBRARIES", {"libm.so.6": "libc6", "libnowhere.so.1": "libnowhere1"}
    )
    check = one(package_checks.check_qt_libraries())
    assert check.state is state
    assert check.found.startswith("Missing: libnowhere.so.1.")
    assert "apt-get install libnowhere1;" in check.remedy


def test_elsewhere_no_system_libraries_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    assert package_checks.check_qt_libraries() == []


@pytest.mark.slow
def test_the_whole_examination_of_this_machine() -> None:
    checks = {check.name: check for check in doctor.examine()}
    assert {"memory", "settings", "model.demo", "folder.pictures", "disk.data"} <= set(checks)
    for name in ("python", "app", "packages", "torch", "qt"):
        assert checks[name].state is CheckState.OK
    assert "PySide6 6" in checks["qt"].found
