"""Converted weights that are damaged on the disk: seen where they are read, and made again."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.core.events import Converting, JobFailed, JobFinished, Notice, PhaseStarted, PlanMade
from app.core.jobs import Job, Phase
from app.core.paths import app_paths
from app.core.policy import MemoryMode, Precision, Precisions
from app.core.profile import HostProfile
from app.core.units import GIB
from app.engine.compute_device import ComputeDevice, CpuDevice
from app.engine.loader import load_model
from app.engine.quantize.kept_files import KeptFile, kept_files
from app.engine.residency.block_source import Task
from app.engine.run import model_shelf
from app.engine.run.model_shelf import ModelShelf
from app.engine.stored_weights import DamagedFileError
from tests.engine_process import make_job
from tests.engine_runs import POLICY, Runs, of_kind, pixels, same, simulated
from tests.quick_forecasts import use_quick_forecasts
from tests.tiny_models import make_tiny_model

DAMAGED = "weights.damaged"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    use_quick_forecasts(monkeypatch.setattr)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model("klein", tmp_path_factory.mktemp("klein"))


def job(model: Path, out: Path, *, mode: MemoryMode = MemoryMode.AUTO, prompt: str = "a") -> Job:
    precisions = Precisions(text_encoder=Precision.FP8, transformer=Precision.FP8)
    made = make_job(model, out, steps=2, prompt=prompt)
    return replace(made, policy=replace(POLICY, precisions=precisions, mode=mode))


def kept() -> dict[str, KeptFile]:
    return {file.component: file for file in kept_files(app_paths().converted_folder)}


def damage(component: str) -> Path:
    """Zeros for a tenth of the file, in its middle."""
    path = kept()[component].path
    whole = path.read_bytes()
    begin, size = len(whole) // 2, len(whole) // 10
    assert any(whole[begin : begin + size])
    path.write_bytes(whole[:begin] + bytes(size) + whole[begin + size :])
    return path


def forget_embeddings() -> None:
    """Those that are kept would leave the text encoder on the disk."""
    for file in app_paths().embeddings_folder.iterdir():
        file.unlink()


def notices(events: list[Any]) -> list[str]:
    return [one.message for one in of_kind(events, Notice) if one.code == DAMAGED]


def gpu() -> ComputeDevice:
    return simulated()


def gpu_without_ram() -> ComputeDevice:
    """Beside which no weights are in RAM."""
    host = HostProfile(total_bytes=64 * GIB, available_bytes=GIB, swap_free_bytes=GIB)
    return simulated(host=host)


PLACES: dict[str, tuple[Callable[[], ComputeDevice], MemoryMode]] = {
    "mapped": (CpuDevice, MemoryMode.AUTO),
    "in RAM": (gpu, MemoryMode.AUTO),
    "on the disk": (gpu_without_ram, MemoryMode.MINIMAL),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("component", ["transformer", "text_encoder"])
def test_what_is_damaged_is_made_again_and_the_picture_is_the_same(
    model: Path, tmp_path: Path, expect_log: Any, place: str, component: str
) -> None:
    device, mode = PLACES[place]
    asked = job(model, tmp_path / "out", mode=mode)
    events = Runs(device()).run(asked)
    expected = pixels(events)
    on_disk = of_kind(events, PlanMade)[-1].plan.component("transformer").file_blocks
    assert bool(on_disk) == (place == "on the disk")
    whole = kept()[component].path.read_bytes()
    damage(component)
    forget_embeddings()
    expect_log("converted weights in .* were damaged")
    events = Runs(device()).run(replace(asked, id="again"))
    assert isinstance(events[-1], JobFinished), events[-1]
    assert same(pixels(events), expected)
    [message] = notices(events)
    assert kept()[component].path.name in message
    assert {one.component for one in of_kind(events, Converting)} == {component}
    assert kept()[component].path.read_bytes() == whole


def test_what_is_removed_before_it_streams_is_made_again(
    model: Path, tmp_path: Path, expect_log: Any
) -> None:
    asked = job(model, tmp_path / "out", mode=MemoryMode.MINIMAL)
    expected = pixels(Runs(gpu_without_ram()).run(asked))
    forget_embeddings()
    runs = Runs(gpu_without_ram())
    lost: list[Path] = []

    def lose(event: object) -> None:
        if isinstance(event, PhaseStarted) and event.phase is Phase.ENCODE and not lost:
            lost.append(kept()["text_encoder"].path)
            lost[0].unlink()

    runs.on_event = lose
    expect_log("converted weights in .* or are gone")
    events = runs.run(replace(asked, id="again"))
    assert isinstance(events[-1], JobFinished), events[-1]
    assert same(pixels(events), expected)
    assert kept()["text_encoder"].path == lost[0]


def test_nothing_of_a_file_is_in_use_when_it_is_removed(
    model: Path, tmp_path: Path, expect_log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = job(model, tmp_path / "out")
    Runs(CpuDevice()).run(asked)
    path = damage("transformer")
    done: list[str] = []
    drop, unlink = ModelShelf.drop, Path.unlink

    def noted_drop(shelf: ModelShelf) -> None:
        drop(shelf)
        done.append("let go")

    def noted_unlink(one: Path, **options: Any) -> None:
        if one == path:
            done.append("removed")
        unlink(one, **options)

    def loaded(*_inputs: Any, **_options: Any) -> Any:
        done.append("loaded")
        return load_model(*_inputs, **_options)

    monkeypatch.setattr(ModelShelf, "drop", noted_drop)
    monkeypatch.setattr(Path, "unlink", noted_unlink)
    monkeypatch.setattr(model_shelf, "load_model", loaded)
    expect_log("converted weights in .* were damaged")
    Runs(CpuDevice()).run(replace(asked, id="again"))
    assert done == ["let go", "loaded", "let go", "removed", "let go", "loaded"]


def test_a_sound_file_costs_no_notice(model: Path, tmp_path: Path) -> None:
    asked = job(model, tmp_path / "out")
    Runs(CpuDevice()).run(asked)
    events = Runs(CpuDevice()).run(replace(asked, id="again"))
    assert notices(events) == of_kind(events, Converting) == []


def test_a_disk_that_damages_all_it_writes_is_given_up(
    model: Path, tmp_path: Path, expect_log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(task: Task, _out: object) -> None:
        raise DamagedFileError(task[0].path)

    monkeypatch.setattr("app.engine.residency.block_source.check_task", damaged)
    expect_log("converted weights in .* were damaged")
    events = Runs(gpu()).run(job(model, tmp_path / "out"))
    failed = events[-1]
    assert isinstance(failed, JobFailed)
    assert failed.error.code == "model.damaged_conversion"
    assert "check the disk" in failed.error.message
    assert len(notices(events)) == 3
