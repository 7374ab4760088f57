"""Whole runs by the code that runs on NVIDIA and AMD GPUs, on a pretend one.

In full precision the latents are the CPU's bit for bit, whatever is streamed; pixels may be off by
one level, for torch lays out the autoencoder's tensors otherwise on a GPU.
"""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from app.core.events import JobFinished, Notice, PhaseStarted, PlanMade, StepDone
from app.core.jobs import Job, Phase
from app.core.paths import resource
from app.core.plan import GenerationPlan, Placement
from app.core.policy import Attention, MemoryMode, Precision, Precisions
from app.core.profile import HostProfile
from app.engine.attention import probe
from app.engine.quantize import formats
from app.engine.quantize.kept_ways import Way
from app.engine.quantize.ways import forced_way
from app.engine.run import profiles
from tests.engine.quantize.test_stored_quantized import write_gguf
from tests.engine_runs import POLICY, Runs, of_kind, pixels, same
from tests.fakes.pictures import picture_file
from tests.fakes.pretend_cuda import PretendGpu
from tests.fakes.pretend_cuda_guard import can_pretend
from tests.fakes.pretend_cuda_runs import gpu_at_hand, gpu_runs, job, on_cpu, watched
from tests.tiny_models import Kind, make_tiny_model

pytestmark = [
    pytest.mark.skipif(not can_pretend(), reason="this torch is built for a GPU"),
    pytest.mark.usefixtures("quick_forecasts"),
]
DEMO = Path(resource("models/demo"))
PROMPT = "a large red circle in the centre on a white background"
GIB = 1 << 30
LITTLE_BYTES = 440_000
ONLY_EVENTS = {"Event.synchronize"}


@pytest.fixture
def gpu() -> Iterator[PretendGpu]:
    with gpu_at_hand() as found:
        yield found


def plan_of(events: list[Any]) -> GenerationPlan:
    assert isinstance(events[-1], JobFinished), events[-1]
    return of_kind(events, PlanMade)[-1].plan


def all_equal(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> bool:
    return len(found) == len(wanted) > 0 and all(map(torch.equal, found, wanted))


@pytest.mark.parametrize(
    ("kind", "references"), [("klein", 2), ("klein-base", 1), ("dev", 0), ("dev", 1)]
)
def test_each_kind_of_model_draws_what_the_cpu_draws(
    tmp_path: Path, kind: Kind, references: int
) -> None:
    folder = make_tiny_model(kind, tmp_path / "model")
    files = [picture_file(tmp_path / f"{number}.png", 83, 70) for number in range(references)]
    asked = job(folder, tmp_path, guidance=4.0)
    asked = replace(asked, request=replace(asked.request, references=tuple(files)))
    expected, latents = on_cpu(asked)
    with gpu_at_hand() as gpu, watched(gpu) as seen:
        events = gpu_runs().run(replace(asked, id="gpu"))
    if references:
        # They are encoded by the autoencoder.
        for found, exact in zip(seen.latents, latents, strict=True):
            torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-4)
    else:
        assert all_equal(seen.latents, latents)
    assert same(pixels(events), pixels(expected), levels=1)
    assert all(step.preview is not None for step in of_kind(events, StepDone))
    assert plan_of(events).component("transformer").placement is Placement.RESIDENT


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory, model: Path) -> list[torch.Tensor]:
    """The CPU's latents of the tiny klein."""
    with pytest.MonkeyPatch.context() as patch:
        from tests.quick_forecasts import use_quick_forecasts

        use_quick_forecasts(patch.setattr)
        return on_cpu(job(model, tmp_path_factory.mktemp("cpu")))[1]


def run_tiny(runs: Runs, model: Path, out: Path, **policy: Any) -> list[Any]:
    asked = job(model, out, job_id="-".join(policy) or "plain")
    return runs.run(replace(asked, policy=replace(asked.policy, **policy)))


@pytest.mark.parametrize("mode", [MemoryMode.RESIDENT, MemoryMode.MINIMAL])
def test_modes_draw_the_same_and_the_steady_loop_asks_for_nothing(
    gpu: PretendGpu, model: Path, wanted: list[torch.Tensor], tmp_path: Path, mode: MemoryMode
) -> None:
    with watched(gpu) as seen:
        events = run_tiny(gpu_runs(), model, tmp_path, mode=mode)
    assert all_equal(seen.latents, wanted)
    first, *steady = seen.passes
    assert [one.driver_calls for one in steady] == [0, 0]
    # What blocks compute takes memory, the same in each pass; the weights take none.
    assert [one.taken for one in steady] == [first.taken] * 2
    assert {wait for one in seen.passes for wait in one.waits} <= ONLY_EVENTS
    transformer = plan_of(events).component("transformer")
    streams = mode is MemoryMode.MINIMAL
    assert bool(transformer.streamed_blocks) == streams
    streaming = of_kind(events, StepDone)[-1].streaming
    assert (streaming is not None and streaming.streamed_bytes > 0) == streams


def test_blocks_from_the_disk_draw_the_same(
    gpu: PretendGpu,
    model: Path,
    wanted: list[torch.Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    little = HostProfile(
        total_bytes=64 * GIB, available_bytes=GIB + LITTLE_BYTES, swap_free_bytes=0
    )
    monkeypatch.setattr(profiles, "_host_profile", lambda _device: little)
    with watched(gpu) as seen:
        events = run_tiny(gpu_runs(), model, tmp_path, mode=MemoryMode.MINIMAL)
    assert plan_of(events).component("transformer").file_blocks
    assert all_equal(seen.latents, wanted)
    assert {wait for one in seen.passes for wait in one.waits} <= ONLY_EVENTS


@pytest.mark.parametrize("limit_bytes", [0, 150_000])
def test_what_may_not_be_locked_draws_the_same(
    gpu: PretendGpu, model: Path, wanted: list[torch.Tensor], tmp_path: Path, limit_bytes: int
) -> None:
    gpu.lock_limit_bytes = limit_bytes
    with watched(gpu) as seen:
        events = run_tiny(gpu_runs(), model, tmp_path, mode=MemoryMode.MINIMAL)
    assert isinstance(events[-1], JobFinished)
    assert bool(gpu.locked) == bool(limit_bytes)
    assert all_equal(seen.latents, wanted)
    # Here copies keep the host, one at a time.
    waits = {wait for one in seen.passes for wait in one.waits}
    assert waits == ONLY_EVENTS | {"a copy from RAM that is not locked"}


def test_attention_is_chosen_by_trying_it(
    gpu: PretendGpu, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del gpu
    # This one is always awake.
    monkeypatch.setattr(probe, "WARM_UP_S", 0.0)
    monkeypatch.setattr(probe, "REPEATS_S", 0.01)
    for attention in (Attention.AUTO, Attention.SAGE):
        events = run_tiny(
            gpu_runs(), model, tmp_path / attention.value, attention=attention,
            precisions=Precisions(),
        )  # fmt: skip
        used = plan_of(events).attention
        if attention is Attention.AUTO:
            assert used in {Attention.SDPA, Attention.FLASH, Attention.EFFICIENT, Attention.CUDNN}
        else:
            assert used is Attention.SDPA
        assert len(of_kind(events, Notice)) == (attention is Attention.SAGE)


def test_tiles_join_to_the_picture_of_the_cpu(gpu: PretendGpu, model: Path, tmp_path: Path) -> None:
    asked = job(model, tmp_path, width_px=96, height_px=96)
    asked = replace(asked, policy=replace(asked.policy, tile_px=64))
    events = gpu_runs().run(asked)
    assert plan_of(events).tile_px == 64
    expected, _latents = on_cpu(replace(asked, id="cpu"))
    assert same(pixels(events), pixels(expected), levels=1)


def test_a_gpu_without_bf16_computes_in_half_precision(
    gpu: PretendGpu, model: Path, tmp_path: Path
) -> None:
    gpu.has_bf16 = False
    with watched(gpu) as seen:
        events = run_tiny(gpu_runs(), model, tmp_path, precisions=Precisions())
    assert isinstance(events[-1], JobFinished)
    assert {one.dtype for one in seen.latents} == {torch.float16}


def test_compiling_falls_back_with_a_word(
    gpu: PretendGpu, model: Path, wanted: list[torch.Tensor], tmp_path: Path
) -> None:
    with watched(gpu) as seen:
        events = run_tiny(gpu_runs(), model, tmp_path, compile=True)
    assert [one.message for one in of_kind(events, Notice)] == [
        "The blocks run without being compiled: Triton, which torch compiles with, is not "
        "installed for this GPU."
    ]
    assert all_equal(seen.latents, wanted)


def test_a_prompt_that_was_encoded_needs_no_text_encoder(
    gpu: PretendGpu, model: Path, tmp_path: Path
) -> None:
    with watched(gpu) as seen:
        run_tiny(gpu_runs(), model, tmp_path / "first")
        events = run_tiny(gpu_runs(), model, tmp_path / "again")
    [encode] = [one for one in of_kind(events, PhaseStarted) if one.phase is Phase.ENCODE]
    assert encode.note == "cached"
    assert all_equal(seen.latents[3:], seen.latents[:3])


def demo(folder: Path, out: Path, precision: Precision) -> Job:
    """One small picture, as quickly as it can be made."""
    asked = job(
        folder, out, prompt=PROMPT, images=1, steps=1, width_px=64, height_px=64, job_id="demo"
    )
    # Beside 8 bits all is in bf16, as the products of GPUs want it.
    precisions = Precisions(text_encoder=Precision.BF16, transformer=precision)
    policy = replace(asked.policy, precisions=precisions, mode=MemoryMode.MINIMAL)
    return replace(asked, policy=policy, previews=False)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    """The demo's latents in full precision by the CPU."""
    asked = demo(DEMO, tmp_path_factory.mktemp("cpu"), Precision.AUTO)
    return on_cpu(replace(asked, policy=POLICY))[1][-1]


def off(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found.float() - exact).norm() / exact.norm())


@pytest.mark.parametrize(
    ("precision", "way", "operation", "most_off"),
    [
        (Precision.FP8, Way.FP8_ROWS, "_scaled_mm", 0.1),
        (Precision.FP8, Way.FP8_SCALED_AFTER, "_scaled_mm", 0.1),
        (Precision.INT8, Way.INT8_ROWS, "_int_mm", 0.1),
        (Precision.NF4, Way.DEQUANTIZE, "index_select", 0.3),
    ],
)
def test_quantized_weights_draw_nearly_what_full_precision_draws(
    gpu: PretendGpu,
    drawn: torch.Tensor,
    tmp_path: Path,
    precision: Precision,
    way: Way,
    operation: str,
    most_off: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Tables are kept for tensors that are no stand-ins, which these only pretend to be.
    monkeypatch.setattr(formats, "_is_real", lambda _tensor: False)
    with forced_way(precision, way), watched(gpu) as seen:
        events = gpu_runs().run(demo(DEMO, tmp_path, precision))
    transformer = plan_of(events).component("transformer")
    assert transformer.precision is precision
    assert transformer.streamed_blocks
    assert gpu.timeline.operations[operation] > 0
    assert off(seen.latents[-1], drawn) < most_off


def test_a_gguf_file_is_drawn_from(gpu: PretendGpu, drawn: torch.Tensor, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(DEMO, folder)
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    write_gguf(folder / "transformer" / "demo.gguf", "Q8_0", outside="Q8_0")
    with watched(gpu) as seen:
        events = gpu_runs().run(demo(folder, tmp_path, Precision.AUTO))
    assert plan_of(events).component("transformer").stored_as == "gguf Q8_0"
    assert off(seen.latents[-1], drawn) < 0.1
