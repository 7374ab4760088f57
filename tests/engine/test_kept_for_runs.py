"""What plans know of earlier runs is what the engine finds again."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from app.core.events import ImageDone, PhaseStarted, PlanMade
from app.core.jobs import Job, Phase
from app.core.metadata import ImageRecord
from app.core.paths import app_paths
from app.core.plan import GenerationPlan
from app.core.png import read_record
from app.core.policy import Precision, Precisions
from app.engine.compute_device import ComputeDevice, CpuDevice
from app.engine.embedding_store import EmbeddingStore
from app.engine.encoder_identity import encoder_identity
from app.engine.kept_for_runs import KeptFolders, look_up, runs_as
from app.engine.model_folder import inspect_model_folder
from app.engine.planning.at_hand import AtHand
from app.engine.prompt_folder import prompt_folder
from app.engine.quantize.kept_files import kept_files, remove
from app.engine.quantize.kept_ways import Way, WayRecord
from app.engine.quantize.recipe import Recipe
from app.engine.quantize.ways import forced_way
from app.engine.run.profiles import profiles_of
from tests.engine_process import make_job
from tests.engine_runs import POLICY, Runs, of_kind, simulated
from tests.fakes.converted import make_converted
from tests.tiny_models import make_tiny_model

pytestmark = pytest.mark.usefixtures("quick_forecasts")

NETWORKS = ("text_encoder", "transformer")
DEVICES: tuple[Callable[[], ComputeDevice], ...] = (CpuDevice, simulated)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model("klein-base", tmp_path_factory.mktemp("base"))


def job(model: Path, out: Path, precision: Precision, **request: Any) -> Job:
    precisions = Precisions(text_encoder=precision, transformer=precision)
    made = make_job(model, out, steps=1, **request)
    return replace(made, policy=replace(POLICY, precisions=precisions))


def found_for(asked: Job, device: ComputeDevice, *, embeddings: bool = True) -> AtHand:
    profile, _host = profiles_of(device, None)
    folders = KeptFolders.of(app_paths(), keeps_embeddings=embeddings)
    info = inspect_model_folder(Path(asked.model_folder))
    return look_up(info, asked.request, profile, asked.policy, folders)


def plan_of(events: list[Any]) -> GenerationPlan:
    return of_kind(events, PlanMade)[-1].plan


def knows(found: AtHand, plan: GenerationPlan) -> bool:
    pair = tuple(plan.component(name).precision for name in ("text_encoder", "transformer"))
    return pair in found.known_prompts


@pytest.mark.parametrize("device", DEVICES, ids=["cpu", "gpu"])
@pytest.mark.parametrize("precision", [Precision.AUTO, Precision.FP32, Precision.BF16])
def test_prompts_are_known_where_the_engine_finds_them(
    base: Path, device: Callable[[], ComputeDevice], precision: Precision, tmp_path: Path
) -> None:
    asked = job(base, tmp_path, precision, guidance=4.0)
    assert not found_for(asked, device()).known_prompts
    plan = plan_of(Runs(device()).run(asked))
    assert knows(found_for(asked, device()), plan)
    again = of_kind(Runs(device()).run(asked), PhaseStarted)
    assert [one.note for one in again if one.phase is Phase.ENCODE] == ["cached"]
    # Of two prompts, the picture's own is another.
    other = replace(asked, request=replace(asked.request, prompt="another"))
    assert not found_for(other, device()).known_prompts
    alone = replace(asked, request=replace(asked.request, guidance=1.0))
    assert knows(found_for(alone, device()), plan)
    assert not found_for(asked, device(), embeddings=False).known_prompts


def test_another_encoder_precision_or_device_knows_nothing(base: Path, tmp_path: Path) -> None:
    asked = job(base, tmp_path, Precision.FP32, guidance=4.0)
    plan = plan_of(Runs(CpuDevice()).run(asked))
    assert knows(found_for(asked, CpuDevice()), plan)
    assert not found_for(job(base, tmp_path, Precision.BF16), CpuDevice()).known_prompts
    assert not found_for(asked, simulated()).known_prompts
    elsewhere = make_tiny_model("klein-base", tmp_path / "other", seed=3)
    assert not found_for(replace(asked, model_folder=str(elsewhere)), CpuDevice()).known_prompts


def test_converted_weights_are_known_by_the_files_they_were_made_of(
    base: Path, tmp_path: Path
) -> None:
    asked = job(base, tmp_path, Precision.FP8)
    assert not found_for(asked, CpuDevice()).converted
    plan = plan_of(Runs(CpuDevice()).run(asked))
    found = found_for(asked, CpuDevice())
    both = {("text_encoder", Precision.FP8), ("transformer", Precision.FP8)}
    assert found.converted == both
    assert knows(found, plan)
    shorter = make_tiny_model("klein-base", tmp_path / "other", seed=3)
    weights = next((shorter / "transformer").glob("*.safetensors"))
    weights.rename(weights.with_name("renamed.safetensors"))
    index = inspect_model_folder(base)
    moved = replace(index, folder=shorter)
    folders = KeptFolders.of(app_paths(), keeps_embeddings=True)
    profile, _host = profiles_of(CpuDevice(), None)
    kept = look_up(moved, asked.request, profile, asked.policy, folders).converted
    assert kept == {("text_encoder", Precision.FP8)}
    for file in kept_files(app_paths().converted_folder):
        remove(file)
    assert not found_for(asked, CpuDevice()).converted


def test_converted_weights_that_do_not_tell_their_files_are_known_by_the_model(
    base: Path, tmp_path: Path
) -> None:
    asked = job(base, tmp_path, Precision.INT8)
    folder = app_paths().converted_folder
    make_converted(folder, Precision.INT8, model="another")
    assert not found_for(asked, CpuDevice()).converted
    make_converted(folder, Precision.INT8, model=inspect_model_folder(base).label)
    assert found_for(asked, CpuDevice()).converted == {("transformer", Precision.INT8)}


def test_of_a_model_that_is_not_here_nothing_is_kept(tmp_path: Path) -> None:
    asked = job(tmp_path, tmp_path, Precision.AUTO)
    profile, _host = profiles_of(CpuDevice(), None)
    folders = KeptFolders.of(app_paths(), keeps_embeddings=True)
    assert look_up(None, asked.request, profile, asked.policy, folders) == AtHand()


def test_prompts_of_another_way_to_multiply_are_not_known(base: Path, tmp_path: Path) -> None:
    asked = job(base, tmp_path, Precision.FP8)
    with forced_way(Precision.FP8, Way.FP8_ROWS):
        events = Runs(CpuDevice()).run(asked)
    assert record_of(events).products == dict.fromkeys(NETWORKS, "fp8 by rows")
    assert not found_for(asked, CpuDevice()).known_prompts
    events = Runs(CpuDevice()).run(asked)
    assert record_of(events).products == dict.fromkeys(NETWORKS, "dequantize")
    assert cached_notes(events) == [""]
    assert cached_notes(Runs(CpuDevice()).run(asked)) == ["cached"]


def test_on_a_gpu_prompts_are_known_once_the_way_is(base: Path, tmp_path: Path) -> None:
    asked = job(base, tmp_path, Precision.FP8, prompt="a fox")
    profile, _host = profiles_of(simulated(), None)
    profile = replace(profile, simulated=False)
    info = inspect_model_folder(base)
    recipe = Recipe(precision=Precision.FP8)
    weights = [("torch.bfloat16", recipe), ("torch.bfloat16", recipe)]
    how = runs_as(profile.kind, profile.name, simulated=False, weights=weights, way=Way.FP8_ROWS)
    folder = prompt_folder(app_paths().embeddings_folder)
    EmbeddingStore(folder, encoder_identity(info, runs_as=how)).put("a fox", torch.ones(1, 2, 3))
    folders = KeptFolders.of(app_paths(), keeps_embeddings=True)

    def known() -> bool:
        return bool(look_up(info, asked.request, profile, asked.policy, folders).known_prompts)

    assert not known()
    record = WayRecord(folders.products, profile.name, Precision.FP8, "torch.bfloat16")
    record.note_chosen(Way.FP8_ROWS)
    assert known()
    record.note_chosen(Way.DEQUANTIZE)
    assert not known()


def cached_notes(events: list[Any]) -> list[str]:
    return [one.note for one in of_kind(events, PhaseStarted) if one.phase is Phase.ENCODE]


def record_of(events: list[Any]) -> ImageRecord:
    (done,) = of_kind(events, ImageDone)
    record = read_record(Path(str(done.path)))
    assert record is not None
    return record
