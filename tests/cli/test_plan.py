"""The verb `plan`: for described machines and this one, as JSON and as text."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.cli import gpu_here, main, plan
from app.core.device import DeviceSnapshot
from app.core.paths import app_paths
from app.core.policy import MemoryMode, MemoryPolicy, Precision
from app.core.preset import Preset, PresetLimits
from app.core.preset_store import PresetStore
from app.core.profile import DeviceProfile
from app.core.request import GenerationRequest
from app.core.settings import Settings, SettingsStore
from app.core.units import GIB
from app.engine.kept_for_runs import KeptFolders
from app.engine.model_folder import LABELS, ModelInfo
from app.engine.planning.at_hand import AtHand
from tests.fakes.converted import make_converted
from tests.fakes.model_folder import SMALL, make_folder

KEYS = {
    "verdict",
    "peak_vram_bytes",
    "phases",
    "changes",
    "width",
    "height",
    "images",
    "precision",
}
PHASE_KEYS = {"name", "peak_vram_bytes", "weights_bytes", "working_bytes", "seconds"}


class Gpu:
    """A probe of a GPU."""

    driver = "nvidia 580.1"

    def __init__(self, used_gib: float = 2, *, answers: bool = True) -> None:
        self.closed = False
        self._answers = answers
        self._used_bytes = round(used_gib * GIB)

    def snapshot(self, engine_pid: int | None) -> DeviceSnapshot | None:
        if not self._answers:
            return None
        return DeviceSnapshot(
            index=0,
            name="NVIDIA GeForce RTX 4060",
            total_bytes=8 * GIB,
            used_bytes=self._used_bytes,
        )

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Gpu]]:
    """The GPUs of this machine; none unless a test adds some."""
    found: list[Gpu] = []
    monkeypatch.setattr(gpu_here, "find_probes", lambda: tuple(found))
    monkeypatch.setattr(gpu_here, "installed_torch", lambda: "2.13.0+cu130")
    yield found
    assert all(gpu.closed for gpu in found)


@pytest.fixture
def planned(capsys: pytest.CaptureFixture[str]):
    """Run `plan --json` and give what it told."""

    def run(*arguments: str) -> dict[str, Any]:
        assert main(["plan", "--json", *arguments]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 1
        return json.loads(lines[0])

    return run


def store() -> PresetStore:
    return PresetStore(app_paths().presets_folder)


def failed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(["plan", *arguments])
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("headroom: ")
    assert told.err.count("\n") == 1
    return code, told.err


def test_a_described_card_gets_every_key(planned) -> None:
    told = planned("--model", "klein-4b", "--vram-gib", "8")
    assert set(told) >= KEYS
    assert told["verdict"] == "fits with streaming"
    assert (told["width"], told["height"], told["images"]) == (1024, 1024, 1)
    assert told["precision"] == "bf16"
    assert [phase["name"] for phase in told["phases"]] == [
        "load",
        "encode",
        "denoise",
        "decode",
        "save",
    ]
    for phase in told["phases"]:
        assert set(phase) >= PHASE_KEYS
    assert told["peak_vram_bytes"] == max(phase["peak_vram_bytes"] for phase in told["phases"])
    assert told["peak_vram_bytes"] < told["budget_bytes"] == 7.5 * GIB
    assert all(set(change) == {"rung", "from", "to", "reason"} for change in told["changes"])
    assert {change["rung"] for change in told["changes"]} == {"stream"}
    assert told["device"]["described"]
    assert told["ram_budget_bytes"] is None


@pytest.mark.parametrize("name", ["klein-4b", "klein-base-4b", "klein-9b", "klein-base-9b", "dev"])
def test_official_models_are_planned_without_being_installed(planned, name: str) -> None:
    told = planned("--model", name, "--vram-gib", "24")
    assert told["model"] == name
    assert told["verdict"].startswith("fits")


def test_precision_headroom_and_limit_count(planned) -> None:
    base = planned("--model", "klein-9b", "--vram-gib", "24")
    nf4 = planned("--model", "klein-9b", "--vram-gib", "24", "--precision", "4bit")
    assert nf4["precision"] == "nf4"
    assert nf4["components"][2]["precision"] == "bf16"
    assert nf4["peak_vram_bytes"] < base["peak_vram_bytes"]
    assert any("converted once" in reason for reason in nf4["reasons"])
    assert not any("converted once" in reason for reason in base["reasons"])
    left = planned("--model", "klein-9b", "--vram-gib", "24", "--headroom-gib", "4")
    assert left["budget_bytes"] == 20 * GIB
    capped = planned("--model", "klein-9b", "--vram-gib", "24", "--limit-gib", "10")
    assert capped["budget_bytes"] == 10 * GIB


def test_modes_tiles_and_references_count(planned) -> None:
    one = planned("--model", "klein-4b", "--vram-gib", "24")
    balanced, minimal = (
        planned("--model", "klein-4b", "--vram-gib", "24", "--memory", mode)
        for mode in ("balanced", "minimal")
    )
    peaks = [told["peak_vram_bytes"] for told in (one, balanced, minimal)]
    assert peaks == sorted(peaks, reverse=True)
    assert len(set(peaks)) == 3
    assert one["components"][1]["slots_bytes"] == 0 < minimal["components"][1]["slots_bytes"]
    assert planned("--model", "klein-4b", "--vram-gib", "24", "--tile", "512")["tile_px"] == 512
    two = planned("--model", "klein-4b", "--vram-gib", "24", "--references", "2")
    assert two["phases"][2]["working_bytes"] > one["phases"][2]["working_bytes"]


def test_ram_is_counted_where_it_is_told(planned) -> None:
    told = planned("--model", "klein-4b", "--vram-gib", "8", "--ram-gib", "8")
    assert told["precision"] == "fp8"
    assert any("Neither RAM nor GPU memory holds" in reason for reason in told["reasons"])
    bf16 = planned(
        *("--model", "klein-4b", "--vram-gib", "4", "--ram-gib", "6", "--precision", "bf16")
    )
    assert bf16["ram_peak_bytes"] <= bf16["ram_budget_bytes"]
    assert bf16["components"][1]["file_blocks"]
    assert any("read from the disk" in reason for reason in bf16["reasons"])
    enough = planned("--model", "klein-4b", "--vram-gib", "24", "--ram-gib", "32")
    assert enough["verdict"] == "fits"


def test_strict_refuses_what_would_be_made_smaller(planned) -> None:
    size = ("--model", "klein-4b", "--vram-gib", "4", "--width", "4096", "--height", "2048")
    smaller = planned(*size, "--images", "2")
    assert smaller["verdict"] == "fits smaller"
    assert smaller["width"] < 4096
    assert smaller["width"] / smaller["height"] == pytest.approx(2, rel=0.02)
    strict = planned(*size, "--images", "2", "--strict")
    assert strict["verdict"] == "does not fit"
    assert strict["missing_bytes"] > 0
    assert (strict["width"], strict["height"], strict["images"]) == (4096, 2048, 2)
    assert strict["figures_of"] == {"width": 4096, "height": 2048, "images": 2}
    size_made = {key: smaller[key] for key in ("width", "height", "images")}
    assert smaller["figures_of"] == size_made


def test_a_refusal_says_whose_figures_it_shows(planned) -> None:
    told = planned("--model", "dev", "--vram-gib", "3", "--images", "2")
    assert told["verdict"] == "does not fit"
    assert (told["width"], told["height"], told["images"]) == (1024, 1024, 2)
    assert told["figures_of"] == {"width": 256, "height": 256, "images": 1}


def test_what_would_fit(planned) -> None:
    told = planned("--model", "klein-4b", "--vram-gib", "8", "--solve")["solve"]
    assert set(told) == {"size", "images", "images_at_once", "references"}
    size = told["size"]
    again = planned(
        *("--model", "klein-4b", "--vram-gib", "8", "--strict"),
        *("--width", str(size["width"]), "--height", str(size["height"])),
    )
    assert again["verdict"] == size["verdict"]
    assert again["peak_vram_bytes"] == size["peak_vram_bytes"]
    nothing = planned("--model", "dev", "--vram-gib", "3", "--solve")["solve"]
    assert set(nothing.values()) == {None}


def test_sizes_are_rounded_with_a_note(planned) -> None:
    told = planned("--vram-gib", "8", "--width", "250", "--height", "256")
    assert told["width"] == 256
    assert any("instead of 250 px" in reason for reason in told["reasons"])


def test_this_machine_without_a_gpu_plans_for_its_cpu(planned) -> None:
    told = planned("--ram-gib", "32")
    assert told["device"]["kind"] == "cpu"
    assert told["device"]["total_bytes"] == 32 * GIB
    assert told["verdict"] == "fits"
    assert told["precision"] == "fp32"
    left = planned("--ram-gib", "32", "--headroom-gib", "3")
    assert told["budget_bytes"] - left["budget_bytes"] == GIB


def test_this_machine_with_a_gpu_counts_what_others_use(planned, gpus: list[Gpu]) -> None:
    gpus.append(Gpu(used_gib=2))
    told = planned("--model", "klein-4b", "--ram-gib", "64")
    assert told["device"] == {
        "kind": "cuda",
        "name": "NVIDIA GeForce RTX 4060",
        "total_bytes": 8 * GIB,
        "free_bytes": 6 * GIB,
        "described": False,
    }
    assert told["budget_bytes"] == 5.5 * GIB


def test_a_gpu_that_does_not_answer_is_no_gpu(planned, gpus: list[Gpu]) -> None:
    gpus.append(Gpu(answers=False))
    assert planned("--ram-gib", "32")["device"]["kind"] == "cpu"


def test_a_gpu_that_is_not_there_cannot_be_planned_for(
    capsys: pytest.CaptureFixture[str], gpus: list[Gpu]
) -> None:
    gpus.append(Gpu())
    code, told = failed(capsys, "--device", "cuda:1")
    assert code == 1
    assert "no GPU “cuda:1”" in told


def test_the_cpu_can_be_asked_for(planned, gpus: list[Gpu]) -> None:
    gpus.append(Gpu())
    told = planned("--device", "cpu", "--ram-gib", "32")
    assert told["device"]["kind"] == "cpu"
    assert not gpus.pop().closed  # It was not even looked for.


# Presets.


def test_the_preset_of_this_gpu_holds(planned, gpus: list[Gpu]) -> None:
    gpus.append(Gpu(used_gib=0))
    told = planned("--model", "klein-4b", "--ram-gib", "64")
    assert (told["preset"], told["budget_bytes"]) == ("8 GB", 7.5 * GIB)
    store().save(
        Preset(
            name="mine",
            model="klein-4b",
            policy=MemoryPolicy(headroom_bytes=2 * GIB, mode=MemoryMode.MINIMAL),
            limits=PresetLimits(max_images=2),
            steps=7,
            guidance=2.0,
        )
    )
    store().set_default("NVIDIA GeForce RTX 4060", "mine")
    told = planned("--model", "klein-4b", "--ram-gib", "64", "--images", "4")
    assert (told["preset"], told["budget_bytes"], told["steps"]) == ("mine", 6 * GIB, 7)
    assert told["batch"] == 2
    assert {part["placement"] for part in told["components"][:2]} == {"streamed"}
    other = planned("--model", "klein-9b", "--ram-gib", "64")
    assert other["preset"] == "8 GB"
    typed = planned(
        *("--model", "klein-4b", "--ram-gib", "64", "--steps", "3", "--headroom-gib", "1"),
        *("--memory", "auto", "--limit-gib", "5"),
    )
    assert (typed["preset"], typed["steps"], typed["budget_bytes"]) == ("mine", 3, 5 * GIB)
    streamed, all_of_them = (len(one["components"][1]["streamed_blocks"]) for one in (typed, told))
    assert 0 < streamed < all_of_them
    without = planned("--model", "klein-4b", "--ram-gib", "64", "--preset", "None")
    assert (without["preset"], without["budget_bytes"]) == (None, 7.5 * GIB)
    assert without["steps"] == 4


def test_a_described_gpu_goes_by_a_preset_only_when_one_is_named(planned) -> None:
    plain = planned("--model", "klein-4b", "--vram-gib", "24")
    assert (plain["preset"], plain["budget_bytes"]) == (None, 23.5 * GIB)
    named = planned("--model", "klein-4b", "--vram-gib", "24", "--preset", "24 gb", "--solve")
    assert (named["preset"], named["budget_bytes"]) == ("24 GB", 22.5 * GIB)
    limits = store().find("24 GB").preset.limits
    assert limits.max_side_px is None or named["solve"]["size"]["width"] <= limits.max_side_px


def test_limits_of_a_preset_hold_for_what_would_fit(planned) -> None:
    store().save(Preset(name="small", limits=PresetLimits(max_side_px=512)))
    told = planned("--model", "klein-4b", "--vram-gib", "24", "--preset", "small", "--solve")
    assert (told["verdict"], told["width"]) == ("fits smaller", 512)
    assert told["solve"]["size"]["width"] == 512


def test_what_is_wrong_with_a_preset_is_told_beside_the_plan(
    capsys: pytest.CaptureFixture[str],
) -> None:
    app_paths().presets_folder.mkdir(parents=True)
    path = app_paths().presets_folder / "mine.toml"
    path.write_bytes(b"name = 'mine'\nx = 1\n")
    assert main(["plan", "--vram-gib", "8", "--preset", "mine", "--json"]) == 0
    told = capsys.readouterr()
    assert told.err.startswith("headroom: ")
    assert told.err.count("\n") == 1
    assert json.loads(told.out)["preset"] == "mine"
    assert main(["plan", "--vram-gib", "8", "--preset", "mine"]) == 0
    assert "may be used, preset “mine”\n" in capsys.readouterr().out
    code, error = failed(capsys, "--preset", "yours")
    assert code == 2
    assert "There is no preset “yours”" in error


# What earlier runs have left.


def test_weights_that_are_kept_converted_are_not_converted_again(planned) -> None:
    def said() -> str:
        told = planned("--precision", "fp8", "--ram-gib", "32")
        return " ".join(reason for reason in told["reasons"] if "converted once" in reason)

    both = said()
    assert "9.0 MB are read" in both
    folder = app_paths().converted_folder
    make_converted(folder, Precision.FP8, model=LABELS["demo"], component="text_encoder")
    assert "7.0 MB are read" in said()
    make_converted(folder, Precision.FP8, model=LABELS["demo"])
    assert not said()


def test_a_prompt_that_was_drawn_needs_no_text_encoder(
    planned, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, bool]] = []

    def look_up(
        info: ModelInfo | None,
        request: GenerationRequest,
        device: DeviceProfile,
        policy: MemoryPolicy,
        folders: KeptFolders,
    ) -> AtHand:
        assert info is not None
        assert (device.kind, policy) == ("cpu", MemoryPolicy())
        asked.append((request.prompt, folders.embeddings is not None))
        if folders.embeddings is None:
            return AtHand()
        return AtHand(known_prompts=frozenset({(Precision.FP32, Precision.FP32)}))

    monkeypatch.setattr(plan, "look_up", look_up)
    anew, known = planned("--ram-gib", "32"), planned("--ram-gib", "32", "--prompt", "a fox")
    assert asked == [(".", False), ("a fox", True)]
    assert known["peak_vram_bytes"] < anew["peak_vram_bytes"]
    assert known["components"][0]["weights_bytes"] == 0
    assert main(["plan", "--ram-gib", "32", "--prompt", "a fox"]) == 0
    told = capsys.readouterr().out
    assert "\nThe prompt was drawn before" in told
    assert "\ntext encoder  not loaded, as the prompt's embeddings are kept\n" in told
    SettingsStore(app_paths().settings_file).save(Settings(keep_embeddings=False))
    assert planned("--ram-gib", "32", "--prompt", "a fox") == anew
    code, error = failed(capsys, "--prompt", " ")
    assert code == 2
    assert "prompt" in error


def test_people_get_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--model", "klein-4b", "--vram-gib", "8", "--images", "2", "--solve"]
    assert main(["plan", *arguments]) == 0
    told = capsys.readouterr().out
    assert "FLUX.2 klein 4B, 2 images of 1024 × 1024 px, 4 steps\n" in told
    assert "8 GB GPU (8.0 GB, described), 7.5 GB may be used\n" in told
    assert "Times are of a device that computes 10 TFLOPS" in told
    assert "\nFits with streaming: needs " in told
    assert "\ndenoise " in told
    assert "What gives way:\n" in told
    assert "\nlargest size " in told
    assert ", on the GPU while in use\n" in told
    assert max(len(line) for line in told.splitlines()) < 130


def test_on_the_cpu_weights_are_in_ram(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan"]) == 0
    assert capsys.readouterr().out.count(", in RAM all the time\n") == 3


def test_people_are_told_that_nothing_fits(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--model", "dev", "--vram-gib", "3", "--solve"]) == 0
    told = capsys.readouterr().out
    assert "Does not fit: " in told
    assert "The smallest way that was tried needs:" in told
    assert told.count("nothing") == 4


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--vram-gib", "nan"], "“nan”"),
        (["--vram-gib", "0"], "“0” GB"),
        (["--vram-gib", "-8"], "“-8”"),
        (["--vram-gib", "1e300"], "“1e300”"),
        (["--ram-gib", "inf"], "“inf”"),
        (["--headroom-gib", "-1"], "“-1”"),
        (["--headroom-gib", "a lot"], "“a lot”"),
        (["--width", "0"], "The width is 0 px"),
        (["--width", "99999999"], "The width is 99999999 px"),
        (["--images", "0"], "The number of images is 0"),
        (["--images", "65"], "The number of images is 65"),
        (["--steps", "-1"], "Steps is -1"),
        (["--guidance", "nan"], "Guidance is nan"),
        (["--references", "11"], "Reference images are 11"),
        (["--references", "-1"], "Reference images are -1"),
        (["--reference", "63x100"], "No reference image can be 63x100: each side has at least 64"),
        (["--reference", "100x900"], "the longer one at most 8 times the length of the other"),
        (["--tile", "-5"], "The decode tile is -5 px"),
        (["--tile", "16"], "The decode tile is 16 px"),
        (
            ["--precision", "fp4"],
            "“fp4” is no precision: choose one of auto, bf16, fp8, int8, 4bit",
        ),
        (["--memory", "tiny"], "“tiny” is no memory mode: choose one of auto, resident, balanced"),
        (["--vram-gib", "8", "--device", "cpu"], "give one of them"),
        (["--precison", "fp8"], "There is no option --precison: did you mean --precision?"),
        (["--mod", "dev"], "There is no option --mod: did you mean --model?"),
        (["--device", "gpu"], "“gpu” is no device"),
    ],
)
def test_what_cannot_be_planned_gets_a_sentence(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    code, told = failed(capsys, *arguments)
    assert code == 2
    assert sentence in told


def test_everything_that_is_wrong_is_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    _code, told = failed(capsys, "--images", "0", "--width", "7", "--tile", "9")
    assert all(word in told for word in ("images is 0", "width is 7 px", "tile is 9 px"))


def test_an_unknown_model_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    code, told = failed(capsys, "--model", "klein-5b")
    assert code == 1
    assert "did you mean" in told


def test_a_folder_that_was_never_run_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = make_folder(tmp_path / "model", SMALL)
    code, told = failed(capsys, "--model", str(folder))
    assert code == 1
    assert "generate one image with it" in told
