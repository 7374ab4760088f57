"""The short bench: on the CPU, and with the code that streams on a simulated GPU."""

import weakref

import pytest
import torch

from app.core.errors import ErrorInfo
from app.engine import bench_run
from app.engine.bench_run import bench, measure, shape_for
from app.engine.bench_stack import StackShape, make_stack
from app.engine.compute_device import CpuDevice
from app.engine.residency.host_network import HostBuffer
from app.engine.simulated_device import SimulatedDevice
from app.engine.simulated_story import Story

SHAPE = StackShape(blocks=6, width=64, hidden=128, tokens=32)
BLOCK_BYTES = 2 * 64 * 128 * 4
WEIGHTS_BYTES = 6 * BLOCK_BYTES
STEP_FLOPS = SHAPE.step_flops + 2 * 32 * 64 * 64


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_run, "MAX_STEPS", 6)


def gpu(*, step_s: float, copy_s: float) -> SimulatedDevice:
    """On which a step computes, and all weights are copied, in about so many seconds."""
    story = Story(
        capacity_bytes=1 << 24,
        tflops=STEP_FLOPS / step_s / 1e12,
        copy_bytes_per_s=WEIGHTS_BYTES / copy_s,
    )
    return SimulatedDevice(story)


@pytest.mark.parametrize(
    ("step_s", "copy_s", "hidden"),
    [(1.0, 0.25, 1.0), (1.0, 0.9, 1.0), (0.25, 1.0, 0.25), (0.001, 1.0, 0.001)],
)
def test_streaming_takes_what_the_slower_of_both_takes(step_s: float, copy_s: float, hidden: float):
    found = measure(gpu(step_s=step_s, copy_s=copy_s), shape=SHAPE)
    assert found.compute_step_s == pytest.approx(step_s, rel=0.02)
    assert found.copy_bytes_per_s == pytest.approx(WEIGHTS_BYTES / copy_s, rel=0.01)
    assert found.streamed_step_s == pytest.approx(max(step_s, copy_s), rel=0.05)
    assert found.predicted_step_s == pytest.approx(found.streamed_step_s, rel=0.05)
    assert found.achieved_bytes_per_s == pytest.approx(found.copy_bytes_per_s, rel=0.01)
    assert found.hidden_share == pytest.approx(hidden, abs=0.1)
    assert found.over_floor == pytest.approx(1.0, abs=0.05)


def test_what_was_measured_is_described():
    found = measure(gpu(step_s=1.0, copy_s=0.5), shape=SHAPE)
    assert (found.blocks, found.block_bytes, found.tokens) == (6, BLOCK_BYTES, 32)
    assert found.device == "simulated"
    assert found.compute_flops == pytest.approx(SHAPE.step_flops, rel=0.02)
    assert found.slots_bytes == 3 * BLOCK_BYTES
    assert any("simulated" in remark for remark in found.remarks)


def test_nothing_stays_on_the_device():
    device = gpu(step_s=1.0, copy_s=0.5)
    measure(device, shape=SHAPE)
    assert device.allocated_bytes() == 0


def test_ram_that_the_device_copied_from_is_free_when_what_was_kept_is_given_back(monkeypatch):
    buffers: list[weakref.ref[torch.UntypedStorage]] = []
    alive: list[int] = []
    device = gpu(step_s=1.0, copy_s=0.5)
    allocate, release = device.transfers.host_buffer, device.release_cached

    def noted(size_bytes: int) -> HostBuffer:
        made = allocate(size_bytes)
        buffers.append(weakref.ref(made[0].untyped_storage()))
        return made

    def released() -> None:
        alive.append(sum(one() is not None for one in buffers))
        release()

    monkeypatch.setattr(device.transfers, "host_buffer", noted)
    monkeypatch.setattr(device, "release_cached", released)
    monkeypatch.setattr(bench_run, "shape_for", lambda _device, _dtype: SHAPE)
    assert bench(device).error is None
    assert len(buffers) == 1 + SHAPE.blocks
    assert alive == [0]


def test_the_cpu_is_measured_and_says_that_nothing_streams():
    found = measure(CpuDevice(), shape=SHAPE)
    assert found.device == "cpu"
    assert found.compute_step_s > 0
    assert found.compute_flops == pytest.approx(SHAPE.step_flops / found.compute_step_s)
    assert found.copy_bytes_per_s is found.streamed_step_s is found.over_floor is None
    assert any("nothing streams" in remark for remark in found.remarks)


def test_a_device_without_room_is_told_and_left_empty(expect_log):
    expect_log("the bench failed", level="ERROR")
    device = SimulatedDevice(Story(capacity_bytes=1 << 20))
    done = bench(device)
    assert done.result is None
    assert isinstance(done.error, ErrorInfo)
    assert device.allocated_bytes() == 0


def test_the_stack_is_as_large_as_there_is_room():
    dtype = torch.bfloat16
    whole = bench_run.GPU_SHAPE
    roomy = SimulatedDevice(Story(capacity_bytes=1 << 36))
    assert shape_for(roomy, dtype) == whole
    assert whole.blocks * whole.block_bytes(dtype) < 300 << 20
    small = SimulatedDevice(Story(capacity_bytes=4 * 5 * whole.block_bytes(dtype)))
    assert shape_for(small, dtype).blocks == 5
    assert shape_for(CpuDevice(), torch.float32).width == bench_run.CPU_SHAPE.width


def test_numbers_stay_finite_through_many_blocks():
    shape = StackShape(blocks=8, width=128, hidden=256, tokens=16)
    stack = make_stack(shape, torch.bfloat16)
    tokens = torch.randn(16, 128, dtype=torch.bfloat16)
    with torch.no_grad():
        out = stack(stack(tokens))
    assert bool(torch.isfinite(out).all())
    assert 0.03 < float(out.std()) < 30
    assert all(
        torch.equal(one, other)
        for one, other in zip(
            stack.parameters(), make_stack(shape, torch.bfloat16).parameters(), strict=True
        )
    )
