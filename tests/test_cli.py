"""The command line with a scripted engine: what it prints, where, and its exit codes."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.__main__ import has_screen, is_command
from app.cli import generate, main
from app.cli.progress import TextReport
from app.cli.report import SavedImage
from app.core.errors import ErrorInfo
from app.core.events import (
    ImageDone,
    JobFailed,
    JobFinished,
    PhaseStarted,
    StepDone,
    WaitedForMemory,
    WaitingForMemory,
)
from app.core.jobs import Job, Phase
from app.core.paths import app_paths
from app.core.request import MAX_SEED
from app.core.settings import Settings, SettingsStore
from tests.fakes.engine import (
    MEMORY,
    FakeEngineClient,
    FakeEngines,
    OnCancel,
    OnRun,
    cancel_at_once,
    events_of_run,
    finish_at_once,
)
from tests.fakes.model_folder import SMALL, make_folder

ROOT = Path(__file__).resolve().parents[1]
PNG = b"\x89PNG fake"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "model", SMALL)


@pytest.fixture(autouse=True)
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


class Stage:
    """Runs `generate` on scripted engines.

    Attributes:
        engines: Of the last run.
        on_cancel: What they do when they are asked to cancel.
        devices: Engines were asked for, in order.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
        self.engines = FakeEngines()
        self.on_cancel: OnCancel = cancel_at_once
        self.devices: list[str] = []
        self._model = model

        def engine_starter(*, device: str) -> FakeEngines:
            self.devices.append(device)
            return self.engines

        monkeypatch.setattr(generate, "engine_starter", engine_starter)

    def __call__(self, *arguments: str, on_run: OnRun = finish_at_once) -> int:
        self.engines = FakeEngines(on_run=on_run, on_cancel=self.on_cancel)
        return main(["generate", "--model", str(self._model), *arguments])

    @property
    def job(self) -> Job:
        return self.engines.started[0].jobs[0]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, model: Path) -> Stage:
    return Stage(monkeypatch, model)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """JSON lines on stdout; fails when anything else is there."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def error_of(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The only line, an error."""
    (line,) = lines(capsys)
    assert line["event"] == "error"
    return line


# What is asked for.


def test_defaults_are_the_models_own(run: Stage) -> None:
    assert run("--prompt", "a red circle") == 0
    request = run.job.request
    assert (request.prompt, request.steps, request.guidance) == ("a red circle", 4, 1.0)
    assert (request.width_px, request.height_px, request.images) == (1024, 1024, 1)
    assert request.model == run.job.model_folder
    assert Path(run.job.output.folder) == app_paths().pictures
    assert run.job.output.file is None
    assert run.job.output.metadata
    assert not run.job.previews


def test_every_option_reaches_the_job(run: Stage, tmp_path: Path) -> None:
    out = tmp_path / "new" / "picture.PNG"
    code = run(
        *("--prompt", "круг", "--width", "256", "--height", "512", "--steps", "7"),
        *("--guidance", "2.5", "--seed", str(MAX_SEED), "--images", "3", "--out", str(out)),
        *("--device", "cpu", "--no-metadata"),
    )
    assert code == 0
    request = run.job.request
    assert (request.prompt, request.width_px, request.height_px) == ("круг", 256, 512)
    assert (request.steps, request.guidance, request.images) == (7, 2.5, 3)
    assert request.seed == MAX_SEED
    assert run.job.output.file == str(out)
    assert not run.job.output.metadata
    assert run.devices == ["cpu"]


def test_settings_are_the_defaults_of_what_is_not_given(run: Stage, tmp_path: Path) -> None:
    settings = Settings(
        pictures_folder=str(tmp_path / "mine"),
        name_template="{seed}",
        metadata=False,
        device="cuda:1",
    )
    SettingsStore(app_paths().settings_file).save(settings)
    assert run("--prompt", "x") == 0
    assert run.job.output.folder == str(tmp_path / "mine")
    assert run.job.output.name_template == "{seed}"
    assert not run.job.output.metadata
    assert run.devices == ["cuda:1"]


def test_a_seed_that_is_not_given_is_random_and_told(
    run: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds: set[int] = set()
    for _ in range(2):
        assert run("--prompt", "x", "--json") == 0
        told = [line for line in lines(capsys) if line.get("code") == "request.seed_random"]
        assert str(run.job.request.seed) in told[0]["message"]
        seeds.add(run.job.request.seed)
    assert len(seeds) == 2
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_sizes_are_rounded_with_a_note(run: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--prompt", "x", "--width", "100", "--height", "128", "--json") == 0
    assert (run.job.request.width_px, run.job.request.height_px) == (96, 128)
    (notice,) = [line for line in lines(capsys) if line.get("code") == "request.size_rounded"]
    assert "96 px instead of 100 px" in notice["message"]


@pytest.mark.parametrize(
    ("out", "file", "folder"),
    [
        ("a.png", "a.png", "."),
        ("deep/er/a.png", "deep/er/a.png", "deep/er"),
        ("folder", None, "folder"),
        ("folder.png/", None, "folder.png"),
        ("there.png", None, "there.png"),
        ("~nobody-here/a.png", "~nobody-here/a.png", "~nobody-here"),
        ("old.png", "old.png", "."),
    ],
)
def test_out_is_a_file_or_a_folder(run: Stage, out: str, file: str | None, folder: str) -> None:
    here = Path.cwd()
    (here / "there.png").mkdir()
    (here / "old.png").write_bytes(PNG)
    assert run("--prompt", "x", "--out", out) == 0
    assert run.job.output.file == (None if file is None else str(here / file))
    assert Path(run.job.output.folder) == here / folder


# What cannot be used.


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), "request.arguments", "--prompt"),
        (("--prompt", " "), "request.prompt_empty", "The prompt is empty"),
        (("--prompt", "x", "--width", "0"), "request.size", "The width is 0 px"),
        (("--prompt", "x", "--height", "99999"), "request.size", "The height is 99999 px"),
        (("--prompt", "x", "--width", "10"), "request.size", "choose 64 to 8192 px."),
        (("--prompt", "x", "--steps", "0"), "request.steps", "Steps is 0"),
        (("--prompt", "x", "--guidance", "nan"), "request.guidance", "Guidance is nan"),
        (("--prompt", "x", "--seed", "-1"), "request.seed", "The seed is -1"),
        (("--prompt", "x", "--seed", str(2**64)), "request.seed", "choose 0 to"),
        (("--prompt", "x", "--images", "65"), "request.images", "choose 1 to 64"),
        (("--prompt", "x", "--steps", "many"), "request.arguments", "“many” is not a whole number"),
        (("--prompt", "x", "--guidance", "x"), "request.arguments", "is not a number"),
        (("--prompt", "x", "--device", "gpu"), "request.arguments", "“gpu” is no device"),
        (("--prompt", "x", "--colour", "red"), "request.arguments", "--colour"),
        (("--prompt", "a\udcff"), "request.prompt_text", "half characters"),
        (("--prompt", "x", "--out", " "), "output.name", "--out is empty"),
        (("--prompt", "x", "--out", "a\udcff"), "output.name", "bytes that are no text"),
        (("--prompt", "x", "--out", "x" * 300), "output.name", "too long (300 characters)"),
        (("--prompt", "x", "--out", "notes.txt"), "output.name", "is a file that is no PNG"),
        (("--prompt", "x", "--out", "notes.txt/a.png"), "output.folder", "notes.txt is a file"),
    ],
)
def test_bad_arguments_get_a_sentence_and_exit_2(
    run: Stage,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    code: str,
    words: str,
) -> None:
    Path("notes.txt").write_text("mine")
    assert run("--seed", "1", *arguments, "--json") == 2
    error = error_of(capsys)
    assert error["code"] == code
    assert words in error["message"]
    assert run.engines.started == []
    assert run("--seed", "1", *arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err
    assert "Traceback" not in captured.err
    assert Path("notes.txt").read_text() == "mine"


def test_a_mistake_of_ours_is_told_and_logged(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    expect_log: Callable[..., None],
) -> None:
    def fail(*, as_json: bool) -> int:
        raise KeyError(str(as_json))

    monkeypatch.setattr("app.cli.run_models", fail)
    expect_log("models failed", level="ERROR")
    assert main(["models", "--json"]) == 1
    assert error_of(capsys)["code"] == "unexpected"
    assert "Traceback" in (app_paths().log / "command-line.log").read_text("utf-8")
    expect_log("models failed", level="ERROR")
    assert main(["models"]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_several_problems_are_told_at_once(run: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--prompt", "", "--width", "3", "--steps", "0", "--seed", "1", "--json") == 2
    message = error_of(capsys)["message"]
    assert message.index("prompt") < message.index("width") < message.index("Steps")
    assert "multiple of 16" not in message


def test_seed_is_told_only_of_a_run_that_begins(
    run: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--prompt", "", "--json") == 2
    assert [line["event"] for line in lines(capsys)] == ["error"]


def test_a_current_folder_that_is_gone_is_told(
    run: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def gone() -> str:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(os, "getcwd", gone)
    assert run("--prompt", "x", "--seed", "1", "--out", "a.png", "--json") == 2
    error = error_of(capsys)
    assert error["code"] == "output.folder"
    assert "started in is gone" in error["message"]


def test_pictures_folder_that_cannot_be_used_is_told_before_any_work(
    run: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    app_paths().pictures.write_text("a file where the folder should be")
    assert run("--prompt", "x", "--seed", "1", "--json") == 2
    error = error_of(capsys)
    assert error["code"] == "output.folder"
    assert str(app_paths().pictures) in error["message"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_told_before_any_work(
    run: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("locked").mkdir(mode=0o500)
    assert run("--prompt", "x", "--seed", "1", "--out", "locked/a.png", "--json") == 2
    assert error_of(capsys)["code"] == "output.permission"


@pytest.mark.parametrize(
    ("model", "code", "words"),
    [
        ("klein-4b", "model.not_installed", "huggingface.co"),
        ("klien-4b", "model.unknown_name", "klein-4b"),
        ("./nowhere", "model.missing", "nowhere"),
    ],
)
def test_a_model_that_cannot_be_used_gets_a_sentence_and_exit_1(
    capsys: pytest.CaptureFixture[str], model: str, code: str, words: str
) -> None:
    assert main(["generate", "--prompt", "x", "--model", model, "--json"]) == 1
    error = error_of(capsys)
    assert error["code"] == code
    assert words in error["message"]


# What is told.


def test_json_events_come_in_order_with_nothing_else_on_stdout(
    run: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--prompt", "x", "--steps", "2", "--images", "2", "--seed", "5", "--json") == 0
    told = lines(capsys)
    kinds = [line["event"] for line in told]
    phases = ["phase"] * 2
    assert kinds == [
        *["engine"] * 3,
        *phases,
        *phases,
        *["phase", "step", "step", "phase"],
        *phases,
        *["phase", "image", "image", "phase"],
        "done",
    ]
    assert [line["state"] for line in told[:3]] == ["starting", "ready", "busy"]
    assert told[1]["device_name"] == "Fake CPU"
    assert told[3] == {"event": "phase", "phase": "load", "state": "started", "note": ""}
    assert (told[4]["state"], told[4]["seconds"]) == ("finished", 0.1)
    step = next(line for line in told if line["event"] == "step")
    assert (step["step"], step["steps"], step["seconds"]) == (1, 2, 0.1)
    assert step["memory"]["host_rss_bytes"] == MEMORY.host_rss_bytes
    images = [line for line in told if line["event"] == "image"]
    assert [(one["index"], one["seed"]) for one in images] == [(0, 5), (1, 6)]
    assert images[0]["path"].endswith("-0.png")
    assert told[-1] == {
        "event": "done",
        "seconds": 1.0,
        "images": 2,
        "peak_device_bytes": None,
        "peak_host_bytes": MEMORY.host_peak_rss_bytes,
        "streaming": {},
    }


def test_without_json_paths_are_on_stdout_and_the_rest_on_stderr(
    run: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--prompt", "x", "--steps", "2", "--images", "2", "--seed", "5") == 0
    captured = capsys.readouterr()
    expected = [f"/pictures/{run.job.id}-{index}.png" for index in range(2)]
    assert captured.out.splitlines() == expected
    assert captured.err.splitlines() == [
        "Starting the engine",
        "Loading the model",
        "Reading the prompt",
        "Denoising",
        "Denoising  1/2  10.0 it/s  ETA 0.10 s",
        "Denoising  2/2  10.0 it/s",
        "Decoding",
        "Saving",
        "2 images in 1.00 s, 400 MB of memory at most",
    ]


def test_seed_0_is_a_seed(run: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--prompt", "x", "--seed", "0", "--json") == 0
    assert run.job.request.seed == 0
    assert not any(line["event"] == "notice" for line in lines(capsys))


def test_a_failed_job_is_told_with_its_code_and_exit_1(
    run: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(client: FakeEngineClient, job: Job) -> None:
        error = ErrorInfo(code="engine.out_of_memory", message="Too little memory.")
        client.say(JobFailed(job_id=job.id, error=error))

    assert run("--prompt", "x", "--json", on_run=fail) == 1
    assert lines(capsys)[-1] == {
        "event": "error",
        "code": "engine.out_of_memory",
        "message": "Too little memory.",
    }


def test_an_engine_that_dies_is_told_and_the_job_finishes(
    run: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    def die_once(client: FakeEngineClient, job: Job) -> None:
        if job.attempts == 0:
            client.say(PhaseStarted(job_id=job.id, phase=Phase.DENOISE))
            client.die()
        else:
            client.say(*events_of_run(job))

    assert run("--prompt", "x", on_run=die_once) == 0
    assert "while denoising" in capsys.readouterr().err


@pytest.mark.parametrize("blocked", [False, True])
def test_an_image_that_could_not_be_saved_is_rescued_and_exit_is_1(
    run: Stage,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    blocked: bool,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    if blocked:
        app_paths().pictures.write_text("a file where the folder should be")

    def save_fails(client: FakeEngineClient, job: Job) -> None:
        problem = ErrorInfo(code="output.disk_full", message="The disk is full.")
        client.say(
            ImageDone(job_id=job.id, index=0, seed=5, path=None, problem=problem, png=PNG),
            ImageDone(job_id=job.id, index=1, seed=6, path="/pictures/1.png"),
            JobFinished(job_id=job.id, seconds=1.0, memory=MEMORY),
        )

    arguments = ("--prompt", "x", "--seed", "5", "--images", "2", "--out", "there", "--json")
    assert run(*arguments, on_run=save_fails) == 1
    told = lines(capsys)
    (notice,) = [line for line in told if line["event"] == "notice"]
    assert notice["code"] == "output.rescued"
    images = [line for line in told if line["event"] == "image"]
    rescued = Path(images[0]["path"])
    assert str(rescued) in notice["message"]
    assert rescued.read_bytes() == PNG
    assert rescued.parent == (tmp_path / "temporary" if blocked else app_paths().pictures)
    assert images[1]["path"] == "/pictures/1.png"
    assert told[-1]["event"] == "error"
    assert told[-1]["code"] == "output.disk_full"


@pytest.mark.skipif(os.name != "posix", reason="sends a signal to this process")
def test_ctrl_c_cancels_and_exit_is_130(run: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    former = signal.getsignal(signal.SIGINT)

    def work(client: FakeEngineClient, job: Job) -> None:
        client.say(PhaseStarted(job_id=job.id, phase=Phase.ENCODE))
        os.kill(os.getpid(), signal.SIGINT)

    assert run("--prompt", "x", "--json", on_run=work) == 130
    assert lines(capsys)[-1] == {"event": "error", "code": "cancelled", "message": "Cancelled."}
    assert signal.getsignal(signal.SIGINT) is former


@pytest.mark.skipif(os.name != "posix", reason="sends a signal to this process")
def test_a_second_ctrl_c_ends_an_engine_that_does_not_answer(run: Stage) -> None:
    def hang(client: FakeEngineClient, job: Job) -> None:
        client.say(PhaseStarted(job_id=job.id, phase=Phase.DENOISE))
        os.kill(os.getpid(), signal.SIGINT)

    def interrupt_again(client: FakeEngineClient, job_id: str) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    run.on_cancel = interrupt_again
    assert run("--prompt", "x", on_run=hang) == 130
    assert run.engines.last.ended_by == "kill"


class Terminal(io.StringIO):
    """A stream that can rewrite its line."""

    def isatty(self) -> bool:
        return True


def test_on_a_terminal_one_line_moves_and_is_gone_before_what_stays() -> None:
    out, err = io.StringIO(), Terminal()
    report = TextReport(out, err)
    report.event(PhaseStarted(job_id="a", phase=Phase.LOAD, note="already loaded"))
    for step in (1, 2, 3, 4):
        report.event(StepDone(job_id="a", step=step, steps=4, seconds=2.0, memory=MEMORY))
    report.image(SavedImage(index=0, seed=1, path="/pictures/a.png"))
    report.error(ErrorInfo(code="x", message="It failed."))
    assert out.getvalue() == "/pictures/a.png\n"
    shown = err.getvalue().split("\r\x1b[K")
    assert shown[1] == "Loading the model (already loaded)"
    assert shown[2] == "Denoising  [######------------------]  1/4  2.0 s/it  ETA 6.00 s"
    assert shown[5] == "Denoising  [########################]  4/4  2.0 s/it"
    assert shown[6:] == ["", "headroom: It failed.\n"]


def waiting(left_s: float, *, missing_mib: int = 1229) -> WaitingForMemory:
    return WaitingForMemory(
        job_id="a",
        phase=Phase.DENOISE,
        missing_bytes=missing_mib << 20,
        others_bytes=5 << 30,
        left_s=left_s,
    )


def test_on_a_terminal_waiting_counts_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    err = Terminal()
    report = TextReport(io.StringIO(), err)
    report.event(waiting(60.0))
    report.event(waiting(55.0))
    report.event(WaitedForMemory(job_id="a", seconds=8.0, enough=True))
    words = "Waiting for 1.2 GB of GPU memory: other programs hold 5.0 GB"
    assert err.getvalue().split("\r\x1b[K")[1:] == [
        f"{words}  given up in 1 min 00 s",
        f"{words}  given up in 55 s",
        "GPU memory is free again after 8.00 s: the run goes on.\n",
    ]


def test_where_lines_stay_waiting_is_told_when_it_changes() -> None:
    err = io.StringIO()
    report = TextReport(io.StringIO(), err)
    for event in (waiting(60.0), waiting(55.0), waiting(50.0, missing_mib=512), waiting(45.0)):
        report.event(event)
    assert err.getvalue().splitlines() == [
        "Waiting for 1.2 GB of GPU memory: other programs hold 5.0 GB",
        "Waiting for 512 MB of GPU memory: other programs hold 5.0 GB",
        "Waiting for 1.2 GB of GPU memory: other programs hold 5.0 GB",
    ]


def test_many_steps_take_few_plain_lines() -> None:
    err = io.StringIO()
    report = TextReport(io.StringIO(), err)
    for step in range(1, 101):
        report.event(StepDone(job_id="a", step=step, steps=100, seconds=0.5, memory=MEMORY))
    shown = err.getvalue().splitlines()
    assert len(shown) == 10
    assert shown[-1] == "Denoising  100/100  2.0 it/s"


# Which part of the app is started.


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], False),
        (["generate"], True),
        (["doctor", "--json"], True),
        (["--help"], True),
        (["--version"], True),
        (["picture.png"], False),
        (["--some-option"], True),
        (["genrate"], True),
    ],
)
def test_words_that_are_no_files_are_commands(arguments: list[str], expected: bool) -> None:
    Path("picture.png").write_bytes(PNG)
    assert is_command(arguments) == expected


@pytest.mark.parametrize("arguments", [["--nope"], ["-x", "generate"]])
def test_an_unknown_option_in_front_is_named(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert is_command(arguments)
    assert main(arguments) == 2
    assert f"no option {arguments[0]}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {}, False),
        ("linux", {"DISPLAY": ""}, False),
        ("linux", {"DISPLAY": ":0"}, True),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, True),
        ("linux", {"QT_QPA_PLATFORM": "offscreen"}, True),
        ("win32", {}, True),
    ],
)
def test_screen_is_seen_in_the_environment(
    platform: str, environment: dict[str, str], expected: bool
) -> None:
    assert has_screen(platform, environment) == expected


@pytest.mark.skipif(sys.platform != "linux", reason="only there can a screen be missing")
def test_window_without_a_screen_is_a_sentence() -> None:
    gone = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    done = subprocess.run(
        [sys.executable, "-m", "app"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in gone},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("The window cannot be opened: there is no screen")
    assert len(done.stderr.splitlines()) == 1


def test_an_unknown_verb_is_told_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["genrate"]) == 2
    error = capsys.readouterr().err
    assert "genrate" in error
    assert "generate" in error


def test_an_unknown_verb_is_told_before_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["genrate", "--json"]) == 2
    assert "genrate" in error_of(capsys)["message"]


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["generate", "--help"]])
def test_help_and_version_exit_0(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert "headroom" in capsys.readouterr().out


def test_models_lists_every_known_name_and_the_users_folders(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(model_folders=(str(model), str(model / "nowhere")))
    SettingsStore(app_paths().settings_file).save(settings)
    assert main(["models", "--json"]) == 0
    *told, kept = lines(capsys)
    assert kept["event"] == "kept"
    names = [line["name"] for line in told]
    assert [name for name in names if name] == [
        "demo",
        *("klein-4b", "klein-base-4b", "klein-9b", "klein-base-9b", "dev"),
    ]
    assert [line["usable"] for line in told if line["folder"] == str(model)] == [True]
    assert told[2]["error"]["code"] == "model.missing"
    assert main(["models"]) == 0
    text = capsys.readouterr().out
    assert "not installed: download its folder from https://" in text
    assert f"in {model}; 4 steps, guidance 1" in text


CHILD = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"PySide6", "shiboken6", "pyqtgraph"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
from app.__main__ import main
code = main()
loaded = {"torch", "diffusers", "transformers", "safetensors"} & set(sys.modules)
sys.exit(f"loaded {loaded}" if loaded else code)
"""


def run_without_qt(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CHILD, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_commands_work_without_qt_and_load_no_torch(tmp_path: Path) -> None:
    done = run_without_qt("models", "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 7


def test_a_window_without_qt_is_a_sentence(tmp_path: Path) -> None:
    done = run_without_qt(cwd=tmp_path)
    assert done.returncode == 1
    assert "headroom doctor" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="a shell's pipe")
def test_a_reader_that_ends_early_is_no_traceback(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "app", "models"],
            cwd=ROOT,
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "")
