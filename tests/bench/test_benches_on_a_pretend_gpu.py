"""The benches as they run on a GPU, with small layers and networks on a pretend one."""

from collections.abc import Iterator

import pytest
import torch

from app.core.paths import resource
from app.core.policy import Precision
from app.engine.coefficients import shipped_coefficients
from app.engine.forecast.model_spec import spec_of
from app.engine.model_folder import inspect_model_folder
from app.engine.quantize import formats
from app.engine.quantize.kept_ways import Way
from app.engine.quantize.ways import forced_way
from bench import quantize
from bench.forecast import GpuMeter, gpu_benches, passes
from bench.residency_parts import measured, places
from bench.residency_parts.cases import FILE, FLOORS, LEAST, RESIDENT, SMALL, Case
from tests.fakes.pretend_cuda import PretendGpu
from tests.fakes.pretend_cuda_guard import can_pretend
from tests.fakes.pretend_cuda_runs import gpu_at_hand

pytestmark = pytest.mark.skipif(not can_pretend(), reason="this torch is built for a GPU")
GIB = 1 << 30


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendGpu]:
    # Tables are kept for tensors that are no stand-ins, which these only pretend to be.
    monkeypatch.setattr(formats, "_is_real", lambda _tensor: False)
    with gpu_at_hand(32 * GIB) as found:
        yield found


def test_layers_are_multiplied_with_in_each_way(
    gpu: PretendGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(quantize.TOKENS, "cuda", 64)
    monkeypatch.setattr(quantize, "candidates", dict)
    found = quantize.measure_layer(256, 128, torch.device("cuda"), 1)
    names = [figures["layer"] for figures in found]
    assert names == ["torch Linear", *(f"Headroom, {way.value}" for _, _, way in quantize.WAYS)]
    assert all(figures["error"] < 0.15 for figures in found)
    assert gpu.timeline.operations["_scaled_mm"] > 0
    assert gpu.timeline.operations["_int_mm"] > 0


@pytest.mark.parametrize("precision", [Precision.BF16, Precision.FP8])
def test_what_is_forecast_is_what_the_allocator_sees(gpu: PretendGpu, precision: Precision) -> None:
    del gpu
    coefficients = shipped_coefficients("demo")
    assert coefficients is not None
    models = [(coefficients, spec_of(inspect_model_folder(resource("models/demo"))))]
    benches = gpu_benches(models, [precision], device="cuda", meter=GpuMeter())
    with forced_way(precision, Way.DEQUANTIZE):
        rows = [row for bench in benches for row in bench.rows((64,), (1,))]
    phases = ["encode", "denoise", "decode"]
    assert [row.phase for row in rows] == phases[: 2 if precision is Precision.FP8 else 3]
    assert all(row.measured_bytes and passes(row) for row in rows), rows


@pytest.mark.parametrize("mode", [FLOORS, LEAST, FILE, RESIDENT])
def test_residency_is_measured(gpu: PretendGpu, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    del gpu
    monkeypatch.setattr(places, "_used_bytes", lambda: 0)
    monkeypatch.setitem(measured.COPY_BYTES, "cuda", 1 << 20)
    case = Case(
        model=SMALL, precision="bf16", mode=mode, cap_bytes=GIB, device="cuda", size_px=64, steps=1
    )
    row = measured.measure(case)
    assert row["status"] == "ok", row
    assert row["step_s"] > 0
