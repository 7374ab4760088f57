"""The simulated device keeps a GPU's accounts, and its story happens when it is due."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from app.core.errors import SetupError
from app.core.jobs import Phase
from app.core.profile import HostProfile
from app.engine.compute_device import CpuDevice
from app.engine.device_choice import open_device
from app.engine.out_of_memory import is_out_of_memory
from app.engine.residency.host_network import packed_network, ram_buffer
from app.engine.residency.residence import Residence
from app.engine.residency.transfers import Times
from app.engine.simulated_device import SimulatedDevice
from app.engine.simulated_story import Failure, FailureKind, Moment, OtherUse, Story, read_story

KIB = 1024


def device(capacity_bytes: int = 64 * KIB, **story: Any) -> SimulatedDevice:
    return SimulatedDevice(Story(capacity_bytes=capacity_bytes, **story))


def kib(count: int) -> torch.Tensor:
    return torch.empty(count * KIB, dtype=torch.uint8)


def test_memory_is_refused_exactly_when_it_does_not_fit():
    simulated = device()
    with simulated.watch(Phase.DENOISE):
        first = kib(63)
        second = kib(1)
        assert simulated.free_bytes() == 0
        with pytest.raises(
            torch.OutOfMemoryError, match=r"Tried to allocate 512 B\..* 0 B is free"
        ):
            torch.empty(1)
        del first
        third = kib(63)
    assert simulated.allocated_bytes() == simulated.peak_bytes() == 64 * KIB
    del second, third
    assert simulated.allocated_bytes() == 0
    simulated.reset_peak()
    assert simulated.peak_bytes() == 0


def test_a_refused_result_is_gone_and_its_inputs_are_as_before():
    simulated = device()
    with simulated.watch(Phase.DECODE):
        held = torch.ones(40 * KIB // 4)
        with pytest.raises(torch.OutOfMemoryError):
            torch.mul(held, 2)
        assert simulated.allocated_bytes() == 40 * KIB
        held.add_(1)
    assert float(held.sum()) == 20 * KIB


def test_weights_and_slots_count_while_they_are_held():
    simulated = device(context_bytes=KIB)
    transfers = simulated.transfers
    buffer = transfers.allocate(16 * KIB)
    slots = transfers.allocate(4 * KIB - 1)
    assert simulated.weights_bytes() == simulated.peak_bytes() == 20 * KIB
    assert simulated.free_bytes() == (64 - 1 - 20) * KIB
    transfers.release(buffer)
    assert simulated.weights_bytes() == 20 * KIB, "memory is free with its last view"
    del buffer
    assert simulated.weights_bytes() == 4 * KIB
    del slots  # Of a network that is gone.
    assert simulated.free_bytes() == 63 * KIB


def test_weights_that_do_not_fit_are_refused():
    simulated = device(15 * KIB)
    with pytest.raises(torch.OutOfMemoryError):
        simulated.transfers.allocate(16 * KIB)
    assert simulated.allocated_bytes() == 0


def network_on(simulated: SimulatedDevice) -> tuple[torch.nn.Linear, Residence]:
    """A network in charge of a device, nowhere but in RAM."""
    network = torch.nn.Linear(4, 4)
    host = packed_network("autoencoder", network)
    return network, Residence(host, simulated.transfers)


def test_computing_with_weights_in_ram_fails_as_on_a_gpu():
    simulated = device()
    network, residence = network_on(simulated)
    inputs = torch.ones(4)
    with torch.no_grad(), simulated.watch(Phase.ENCODE):
        with pytest.raises(RuntimeError, match="same device"):
            network(inputs)
        residence.active = True
        residence.enter()
        outputs = network(inputs)
        residence.evict()
        with pytest.raises(RuntimeError, match="same device"):
            network(inputs)
        with simulated.on_host():
            assert torch.equal(network(inputs), outputs)


def test_computing_with_a_slot_that_is_not_ready_fails():
    simulated = device(1 << 20)
    transfers = simulated.transfers
    source = ram_buffer(KIB)[0].fill_(1)
    target = transfers.allocate(KIB)
    copied = transfers.copy(target, source, None)
    with simulated.watch(Phase.DENOISE):
        with pytest.raises(RuntimeError, match="before they have come"):
            target[8:16].view(torch.float32).add(1)
        transfers.wait(copied)
        assert torch.equal(target, source)
        target[8:16].view(torch.float32).add(1)


def test_copies_run_beside_the_computing():
    simulated = device(1 << 30, tflops=1e-9, copy_bytes_per_s=1000.0)
    transfers = simulated.transfers
    target = transfers.allocate(2 * KIB)
    source = ram_buffer(KIB)[0].fill_(1)
    left = torch.ones(10, 20)
    with simulated.watch(Phase.DENOISE):
        first = transfers.copy(target[:KIB], source, None)
        second = transfers.copy(target[KIB:], source, transfers.record())
        assert simulated.clock_s() == 0
        transfers.wait(first)
        assert simulated.clock_s() == pytest.approx(1.024)
        assert transfers.take_times() == Times(copied_bytes=KIB, copying_s=1.024, waited_s=1.024)
        torch.mm(left, left.T)
        assert simulated.clock_s() == pytest.approx(1.024 + 4)
        assert not transfers.is_done(second), "the host has told all this at once"
        simulated.synchronize()
        assert transfers.is_done(second)
        transfers.wait(second)  # It was hidden behind the products.
    assert simulated.clock_s() == pytest.approx(1.024 + 4)
    assert transfers.take_times() == Times(copied_bytes=KIB, copying_s=1.024, waited_s=0.0)
    # The host knows by now, so no copy begins earlier.
    assert transfers.copy(target[:KIB], source, None).began_s == simulated.clock_s()


def test_memory_of_a_copy_that_is_done_may_be_used_for_another():
    transfers = device(1 << 20).transfers
    source = ram_buffer(KIB)[0].fill_(1)
    target = transfers.allocate(KIB)
    copied = transfers.copy(target, source, None)
    assert transfers.is_done(copied)
    source.fill_(2)
    transfers.wait(copied)
    assert bool((target == 1).all())


def test_what_the_cpu_computes_for_itself_is_not_counted():
    simulated = device()
    with simulated.watch(Phase.DENOISE):
        with simulated.on_host():
            preview = kib(128)
        latents = kib(8)
        kept = simulated.to_host(latents)
        assert simulated.allocated_bytes() == 8 * KIB
        del latents
        back = simulated.to_device(kept)
        assert simulated.to_device(back) is back
        assert simulated.allocated_bytes() == 8 * KIB
        assert kept.data_ptr() != back.data_ptr()
        with pytest.raises(torch.OutOfMemoryError):
            simulated.to_device(preview)


def test_one_kernel_of_a_gpu_has_no_inner_memory():
    simulated = device()
    norm = torch.nn.RMSNorm(16)
    inputs = torch.ones(128, 16)
    expected = norm(inputs)
    with torch.no_grad(), simulated.watch(Phase.DENOISE):
        before = simulated.operations
        outputs = norm(inputs)
    assert torch.equal(outputs, expected)
    assert simulated.operations == before + 1
    assert simulated.peak_bytes() == outputs.nbytes


def test_other_programs_take_and_give_back():
    simulated = device(
        others=(
            OtherUse(bytes=4 * KIB),
            OtherUse(at=Moment(phase=Phase.DENOISE, step=2), bytes=60 * KIB),
            OtherUse(at=Moment(phase=Phase.DECODE), bytes=0),
        )
    )
    assert simulated.others_bytes() == 4 * KIB
    with simulated.watch(Phase.ENCODE):
        kib(60)
    with simulated.watch(Phase.DENOISE):
        simulated.note_step(1)
        kib(60)
        simulated.note_step(2)
        assert simulated.free_bytes() == 4 * KIB
        with pytest.raises(torch.OutOfMemoryError, match=r"other programs have 60\.0 KB"):
            kib(60)
    with simulated.watch(Phase.DECODE):
        assert simulated.free_bytes() == 64 * KIB


def test_a_leak_of_another_program_grows_with_virtual_time():
    simulated = device(copy_bytes_per_s=1000.0, others=(OtherUse(bytes=0, bytes_per_s=10.0),))
    assert simulated.others_bytes() == 0
    simulated.to_device(kib(10))
    assert simulated.clock_s() == pytest.approx(10.24)
    assert simulated.others_bytes() == 102


def test_products_and_attention_take_time():
    simulated = device(1 << 30, tflops=1e-6)
    left = torch.ones(10, 20)
    query = torch.ones(1, 2, 5, 4)
    with simulated.watch(Phase.DENOISE):
        torch.mm(left, left.T)
        assert simulated.clock_s() == pytest.approx(2 * 10 * 20 * 10 / 1e6)
        begun_s = simulated.clock_s()
        torch.nn.functional.scaled_dot_product_attention(query, query, query)
    assert simulated.clock_s() - begun_s == pytest.approx(2 * 2 * 5 * 5 * (4 + 4) / 1e6)


def test_a_forecast_that_is_too_low_shows_as_more_memory():
    simulated = device(working_factor=1.25)
    with simulated.watch(Phase.DENOISE):
        held = kib(40)
        assert simulated.allocated_bytes() == simulated.peak_bytes() == 50 * KIB
        with pytest.raises(torch.OutOfMemoryError):
            kib(12)
        del held


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (FailureKind.DEVICE, torch.OutOfMemoryError),
        (FailureKind.DRIVER, torch.AcceleratorError),
        (FailureKind.LIBRARY, RuntimeError),
        (FailureKind.HOST, MemoryError),
    ],
)
def test_a_failure_comes_when_it_is_due_and_as_often_as_told(
    kind: FailureKind, error: type[Exception]
):
    moment = Moment(phase=Phase.DENOISE, step=1, operation=2)
    simulated = device(failures=(Failure(at=moment, kind=kind, times=2),))
    values = torch.zeros(4)
    with simulated.watch(Phase.DENOISE):
        values.add_(1)
        values.add_(1)
        values.add_(1)
        simulated.note_step(1)
        values.add_(1)
        values.add_(1)
        for _attempt in range(2):
            with pytest.raises(error):
                values.add_(1)
        values.add_(1)
    # The operations that failed have changed nothing.
    assert torch.equal(values, torch.full((4,), 6.0))


def test_failures_are_taken_for_lack_of_memory():
    for kind in (FailureKind.DEVICE, FailureKind.HOST):
        simulated = device(failures=(Failure(kind=kind),))
        with (
            simulated.watch(Phase.LOAD),
            pytest.raises((torch.OutOfMemoryError, MemoryError)) as caught,
        ):
            torch.ones(1)
        assert is_out_of_memory(caught.value)


def test_a_failure_can_meet_weights_on_their_way():
    simulated = device(failures=(Failure(),))
    _network, residence = network_on(simulated)
    residence.active = True
    with pytest.raises(torch.OutOfMemoryError):
        residence.enter()
    assert simulated.allocated_bytes() == 0
    residence.enter()
    assert simulated.allocated_bytes() == residence.resident_bytes()


def test_story_of_a_file(tmp_path: Path):
    path = tmp_path / "story.json"
    path.write_text(
        json.dumps(
            {
                "capacity_bytes": 8 << 30,
                "name": "A card of 8 GB",
                "tflops": 60,
                "others": [{"at": {"phase": "denoise", "step": 12}, "bytes": 6_000_000_000}],
                "failures": [{"at": {"phase": "decode"}, "kind": "host", "times": 2}],
                "host": {"total_bytes": 16 << 30, "available_bytes": 8 << 30},
            }
        )
    )
    simulated = open_device(f"sim:{path}")
    assert isinstance(simulated, SimulatedDevice)
    assert simulated.simulated
    assert (simulated.name, simulated.kind) == ("A card of 8 GB", "cuda")
    assert simulated.free_bytes() == 8 << 30
    assert simulated.host_profile() == HostProfile(
        total_bytes=16 << 30, available_bytes=8 << 30, swap_free_bytes=0
    )
    assert read_story(path).others[0].at == Moment(phase=Phase.DENOISE, step=12)


@pytest.mark.parametrize("text", [None, "[]", '{"capacity_bytes": "much"}', "{"])
def test_a_story_that_cannot_be_read_is_told(tmp_path: Path, text: str | None):
    path = tmp_path / "story.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SetupError, match="simulated device"):
        open_device(f"sim:{path}")


def test_other_choices_are_real_devices():
    assert isinstance(open_device("cpu"), CpuDevice)
    with pytest.raises(SetupError):
        open_device("sim")
