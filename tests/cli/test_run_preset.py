"""`generate` goes by the preset of this GPU, and by what was typed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from app.cli import run_preset
from app.cli.arguments import GenerateArguments, parse
from app.cli.gpu_here import GpuHere
from app.cli.run_preset import RunChoices, run_choices
from app.core.errors import RequestError, SetupError
from app.core.paths import app_paths
from app.core.policy import MemoryMode, MemoryPolicy, Precision, Precisions
from app.core.preset import Preset, PresetLimits
from app.core.preset_store import PresetStore
from app.core.units import GIB
from tests.fakes import hardware

RTX = GpuHere(snapshot=hardware.device(total_gib=12), driver="NVIDIA 580.65")
FOLDER = Path("/models/klein")
PLAIN = Precisions(
    text_encoder=Precision.BF16, transformer=Precision.BF16, autoencoder=Precision.BF16
)


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> Callable[[GpuHere | None], None]:
    def install(gpu: GpuHere | None) -> None:
        monkeypatch.setattr(run_preset, "gpu_here", lambda _device: gpu)

    install(RTX)
    return install


@pytest.fixture
def store() -> PresetStore:
    return PresetStore(app_paths().presets_folder)


def typed(*arguments: str) -> GenerateArguments:
    found = parse(["generate", "--prompt", "x", *arguments]).generate
    assert found is not None
    return found


def choices(*arguments: str) -> RunChoices:
    return run_choices(typed(*arguments), model_folder=FOLDER, device="auto")


def test_the_preset_of_the_gpus_class_is_used(store: PresetStore):
    builtin = store.find("12 GB").preset
    found = choices()
    assert (found.policy, found.limits) == (builtin.policy, builtin.limits)
    assert found.arguments == typed()
    assert found.problems == ()


def test_the_default_preset_is_used_and_what_was_typed_goes_before(store: PresetStore):
    mine = Preset(
        name="mine",
        policy=MemoryPolicy(ram_headroom_bytes=3 * GIB),
        limits=PresetLimits(max_images=2),
        steps=6,
        guidance=2.5,
    )
    store.save(mine)
    store.set_default(RTX.snapshot.name, "mine")
    found = choices()
    assert (found.policy, found.limits) == (mine.policy, mine.limits)
    assert (found.arguments.steps, found.arguments.guidance) == (6, 2.5)
    found = choices("--steps", "9", "--guidance", "1", "--strict", "--headroom-gib", "1.5")
    assert (found.arguments.steps, found.arguments.guidance) == (9, 1.0)
    assert found.policy == MemoryPolicy(
        ram_headroom_bytes=3 * GIB, strict=True, headroom_bytes=round(1.5 * GIB)
    )


@pytest.mark.parametrize("model", ["klein-4b", str(FOLDER)])
def test_a_preset_of_the_model_is_found_by_name_or_folder(store: PresetStore, model: str):
    store.save(Preset(name="mine", model=model, steps=7))
    store.set_default(RTX.snapshot.name, "mine")
    typed_model = " KLEIN-4B " if model == "klein-4b" else "some/folder"
    assert choices("--model", typed_model).arguments.steps == 7
    assert choices("--model", "dev").arguments.steps is None


def test_a_named_preset_is_used_and_an_unknown_one_refused():
    assert choices("--preset", "24 gb").policy.headroom_bytes == round(1.5 * GIB)
    with pytest.raises(RequestError, match="There is no preset “no”"):
        choices("--preset", "no")


def test_no_preset_can_be_asked_for(store: PresetStore):
    store.save(Preset(name="mine", policy=MemoryPolicy(strict=True), steps=6))
    store.set_default(RTX.snapshot.name, "mine")
    found = choices("--preset", " None ")
    assert (found.policy, found.limits) == (MemoryPolicy(), PresetLimits())
    assert found.arguments.steps is None


def test_on_the_processor_headroom_is_of_the_ram(here: Callable[[GpuHere | None], None]):
    here(None)
    assert choices().policy == MemoryPolicy()
    assert choices("--headroom-gib", "1").policy == MemoryPolicy(ram_headroom_bytes=GIB)


def test_a_gpu_that_is_not_there_is_left_to_the_engine(monkeypatch: pytest.MonkeyPatch):
    def missing(device: str) -> None:
        raise SetupError("none")

    monkeypatch.setattr(run_preset, "gpu_here", missing)
    assert choices().policy == MemoryPolicy()


def test_what_is_wrong_with_the_preset_is_told(store: PresetStore):
    app_paths().presets_folder.mkdir(parents=True)
    (app_paths().presets_folder / "mine.toml").write_bytes(b"name = 'mine'\nx = 1\n")
    found = choices("--preset", "mine")
    assert len(found.problems) == 1


def test_precision_and_memory_that_are_typed_go_before_the_presets(store: PresetStore):
    usual = choices().policy
    assert (usual.mode, usual.precisions) == (MemoryMode.AUTO, Precisions())
    found = choices("--precision", "4bit", "--memory", "balanced").policy
    assert found.mode is MemoryMode.BALANCED
    assert found.precisions == Precisions(
        text_encoder=Precision.NF4, transformer=Precision.NF4, autoencoder=Precision.AUTO
    )
    mine = Preset(name="mine", policy=MemoryPolicy(mode=MemoryMode.MINIMAL, precisions=PLAIN))
    store.save(mine)
    kept = choices("--preset", "mine").policy
    assert (kept.mode, kept.precisions) == (MemoryMode.MINIMAL, PLAIN)
    auto = choices("--preset", "mine", "--precision", "auto", "--memory", "auto").policy
    assert (auto.mode, auto.precisions) == (MemoryMode.AUTO, Precisions())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--promt", "x"], "There is no option --promt: did you mean --prompt?"),
        (["--prompt", "x", "--stepss=4"], "There is no option --stepss: did you mean --steps?"),
        (["--prompt", "x", "--qqqq"], "There is no option --qqqq; see"),
        (["--model", "--strict"], "Argument --model: expected one argument"),
    ],
)
def test_an_option_that_was_mistyped_is_told(arguments: list[str], sentence: str):
    with pytest.raises(RequestError) as caught:
        parse(["generate", *arguments])
    assert sentence in str(caught.value)


def test_texts_that_begin_with_dashes_are_no_options():
    found = parse(["generate", "--prompt", "--a fox in the snow"]).generate
    assert found is not None
    assert found.prompt == "--a fox in the snow"


def test_memory_that_others_hold_is_waited_for_unless_strict_or_typed():
    assert choices().wait_s == 60.0
    assert choices("--strict").wait_s == 0.0
    assert choices("--strict", "--wait", "5").wait_s == 5.0
    assert choices("--wait", "0").wait_s == 0.0


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "3601", "soon"])
def test_a_time_to_wait_is_seconds(text: str):
    with pytest.raises(RequestError, match="--wait"):
        typed("--wait", text)
