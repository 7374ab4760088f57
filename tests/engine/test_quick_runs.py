"""What a run saves: encoders that are not needed, slow attention, blocks that are not compiled."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.core.events import ImageDone, Notice, PhaseStarted, PlanMade
from app.core.jobs import Job, Phase
from app.core.paths import app_paths
from app.core.policy import Attention
from app.core.settings import Settings
from app.engine import loader
from app.engine.compile_blocks import BlockCompiler
from app.engine.compute_device import CpuDevice
from app.engine.run import tools
from tests.engine_process import make_job
from tests.engine_runs import POLICY, Runs, of_kind, pixels, record_of, report_of, same, simulated
from tests.fakes.attention_libraries import attention_of
from tests.tiny_models import Kind, make_tiny_model

pytestmark = pytest.mark.usefixtures("quick_forecasts")

KINDS: tuple[Kind, ...] = ("klein-base", "dev")
"""One that needs two prompts, and the other family."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Path]:
    return {kind: make_tiny_model(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Networks that were read from their files, in order."""
    names: list[str] = []

    def told(name: str, opener: Callable[..., Any]) -> Callable[..., Any]:
        def opened(*values: Any) -> Any:
            names.append(name)
            return opener(*values)

        return opened

    for name in ("text_encoder", "transformer"):
        opener = getattr(loader, f"open_{name}")
        monkeypatch.setattr(loader, f"open_{name}", told(name, opener))
    return names


def job(model: Path, out: Path, **request: Any) -> Job:
    values = {"steps": 2, "guidance": 4.0, "seed": 7, **request}
    return replace(make_job(model, out, **values), policy=POLICY)


def with_policy(asked: Job, **changes: Any) -> Job:
    return replace(asked, policy=replace(asked.policy, **changes))


def encode_note(events: list[Any]) -> str:
    (started,) = (one for one in of_kind(events, PhaseStarted) if one.phase is Phase.ENCODE)
    return started.note


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("device", [CpuDevice, simulated], ids=["cpu", "gpu"])
def test_a_prompt_that_an_earlier_engine_encoded_loads_no_encoder(
    kind: Kind, device: Any, folders: dict[Kind, Path], read: list[str], tmp_path: Path
) -> None:
    asked = job(folders[kind], tmp_path / "out")
    first = Runs(device()).run(asked)
    assert encode_note(first) == ""
    made = pixels(first)
    read.clear()

    later = Runs(device())
    second = later.run(asked)

    assert read == ["transformer"]
    assert encode_note(second) == "cached"
    assert same(pixels(second), made)
    # What it needed without its encoder says nothing about plans.
    assert not report_of(second).measured.phases

    read.clear()
    other = job(folders[kind], tmp_path / "out", prompt="something else")
    third = later.run(other)
    assert read == ["text_encoder"]  # And not the whole model again.
    assert encode_note(third) == ""
    fresh = Runs(device()).run(replace(other, request=replace(other.request, seed=8)))
    assert not same(pixels(fresh), pixels(third))
    again = pixels(Runs(device()).run(other))
    assert same(again, pixels(third))


def test_other_weights_of_the_encoder_encode_anew(
    folders: dict[Kind, Path], read: list[str], tmp_path: Path
) -> None:
    one = make_tiny_model("klein-base", tmp_path / "one", seed=1)
    runs = [Runs(CpuDevice()).run(job(folder, tmp_path)) for folder in (folders["klein-base"], one)]
    assert [encode_note(events) for events in runs] == ["", ""]
    assert read.count("text_encoder") == 2


def test_embeddings_are_not_kept_when_the_user_does_not_want_it(
    folders: dict[Kind, Path], read: list[str], tmp_path: Path
) -> None:
    settings = app_paths().settings_file
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_bytes(msgspec.json.encode(Settings(keep_embeddings=False)))
    asked = job(folders["dev"], tmp_path)
    assert [encode_note(Runs(CpuDevice()).run(asked)) for _ in range(2)] == ["", ""]
    assert not app_paths().embeddings_folder.exists()
    assert read.count("text_encoder") == 2


@pytest.mark.parametrize("device", [CpuDevice, simulated], ids=["cpu", "gpu"])
def test_the_attention_that_is_asked_for_is_used_and_told(
    device: Any, folders: dict[Kind, Path], tmp_path: Path
) -> None:
    runs = Runs(device())
    asked = job(folders["dev"], tmp_path)
    plain = runs.run(asked)
    chunked = runs.run(with_policy(asked, attention=Attention.CHUNKED))

    model = runs.runner._shelf.model
    assert model is not None
    assert attention_of(model.pipeline.transformer) == {"headroom_chunked"}
    assert same(pixels(plain), pixels(chunked), levels=1)
    for events, kind in ((plain, Attention.SDPA), (chunked, Attention.CHUNKED)):
        (plan,) = of_kind(events, PlanMade)
        assert plan.plan.attention is kind
        assert report_of(events).plan.attention is kind
        assert record_of(of_kind(events, ImageDone)[0]).attention == kind.value


def test_attention_that_does_not_work_here_is_replaced_and_told(
    folders: dict[Kind, Path], tmp_path: Path
) -> None:
    asked = with_policy(job(folders["dev"], tmp_path), attention=Attention.EFFICIENT)
    events = Runs(CpuDevice()).run(asked)
    (notice,) = (one for one in of_kind(events, Notice) if one.code == "attention.replaced")
    assert notice.message.startswith("Torch's memory-efficient attention cannot be used here")
    assert report_of(events).plan.attention is Attention.SDPA


def test_blocks_run_compiled_when_that_is_wanted(
    folders: dict[Kind, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[BlockCompiler] = []

    def quick(device: Any, cache: Path) -> BlockCompiler:
        made.append(BlockCompiler(device, cache, backend="eager"))
        return made[-1]

    monkeypatch.setattr(tools, "BlockCompiler", quick)
    runs = Runs(CpuDevice())
    asked = job(folders["dev"], tmp_path)
    plain = runs.run(asked)
    compiled = runs.run(with_policy(asked, compile=True))
    assert {"Flux2TransformerBlock", "Flux2SingleTransformerBlock"} == {
        kind.__name__ for kind in made[0]._checked
    }
    assert not [one for one in of_kind(compiled, Notice) if one.code == "compile.off"]
    assert same(pixels(plain), pixels(compiled), levels=1)
    assert record_of(of_kind(compiled, ImageDone)[0]).compiled


def test_where_nothing_can_be_compiled_the_run_goes_on_and_says_so(
    folders: dict[Kind, Path], tmp_path: Path
) -> None:
    asked = with_policy(job(folders["dev"], tmp_path), compile=True)
    runs = Runs(simulated())
    events = runs.run(asked)
    (notice,) = (one for one in of_kind(events, Notice) if one.code == "compile.off")
    assert notice.message == (
        "The blocks run without being compiled: a simulated GPU has no compiler."
    )
    assert same(pixels(events), pixels(runs.run(job(folders["dev"], tmp_path))))
