"""The residency bench end to end, on the CPU: the real streamer with a small network."""

from dataclasses import replace

import pytest
import torch

from app.core.policy import Precision
from app.engine.quantize.recipe import Recipe
from app.engine.quantize.skeleton import quantized_skeleton
from app.engine.residency.blocks import streamable_blocks
from app.engine.residency.host_network import ram_buffer
from app.engine.residency.leaves import ModuleTensors
from bench.residency_parts import measured
from bench.residency_parts.cases import (
    FILE,
    FLOORS,
    GROUP,
    GROUP_BLOCKING,
    HEADROOM,
    LEAST,
    RESIDENT,
    SEQUENTIAL,
    SMALL,
    SMALL_CAPS,
    Case,
    parse_cap,
)
from bench.residency_parts.child import run
from bench.residency_parts.networks import (
    NAME,
    RandomWeights,
    host_network,
    meta_network,
    whole_network,
)
from bench.residency_parts.places import CopyingTransfers, allocator_share
from bench.residency_parts.rows import (
    DOES_NOT_FIT,
    FAILED,
    FIGURES,
    NOT_HERE,
    OK,
    OUT_OF_MEMORY,
    OUT_OF_RAM,
    Row,
)
from bench.residency_parts.work import weights_of

CASE = Case(
    model=SMALL,
    mode=HEADROOM,
    precision="bf16",
    cap_bytes=parse_cap(SMALL_CAPS[0]),
    device="cpu",
    size_px=64,
    steps=1,
)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def same_number_of_threads():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("precision", ["bf16", "nf4"])
def test_every_mode_computes_the_same_and_bytes_are_as_planned(precision: str) -> None:
    case = replace(CASE, precision=precision)
    rows = {
        mode: run(replace(case, mode=mode))
        for mode in (HEADROOM, LEAST, FILE, RESIDENT, GROUP_BLOCKING)
    }
    assert {row["status"] for row in rows.values()} == {OK}
    assert len({row["digest"] for row in rows.values()}) == 1
    assert rows[HEADROOM]["accounted"]
    assert rows[LEAST]["accounted"]
    assert rows[FILE]["accounted"]
    assert rows[FILE]["tier"] == "all blocks in a file"
    assert (rows[HEADROOM]["slots_bytes"] > 0) == (precision == "bf16")
    assert rows[LEAST]["streamed_bytes"] == sum(weights_of(SMALL, precision)[1])
    assert rows[LEAST]["device_weights_bytes"] < rows[LEAST]["weights_bytes"]
    assert set(rows[LEAST]) >= set(FIGURES)


def test_floors_are_measured() -> None:
    row = run(replace(CASE, mode=FLOORS))
    assert row["status"] == OK
    assert row["compute_s"] > 0
    assert row["bytes_per_s"] > 0


def test_modes_that_the_cpu_does_not_have_say_so() -> None:
    streams = run(replace(CASE, mode=GROUP))
    assert streams["status"] == NOT_HERE
    assert "stream" in streams["note"]
    quantized = run(replace(CASE, mode=SEQUENTIAL, precision="fp8"))
    assert quantized["status"] == NOT_HERE


def test_a_card_that_is_too_small_is_a_row() -> None:
    row = run(replace(CASE, cap_bytes=1 << 20))
    assert row["status"] == DOES_NOT_FIT
    assert row["note"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (torch.OutOfMemoryError("CUDA out of memory.\nmore"), OUT_OF_MEMORY),
        (MemoryError(), OUT_OF_RAM),
        (RuntimeError("the driver is gone"), FAILED),
    ],
)
def test_a_case_that_runs_out_is_a_row(
    monkeypatch: pytest.MonkeyPatch, error: Exception, status: str
) -> None:
    def fail(_case: Case) -> Row:
        raise error

    monkeypatch.setattr(measured, "_headroom", fail)
    assert run(CASE)["status"] == status


def test_weights_do_not_depend_on_how_they_are_kept() -> None:
    weights = RandomWeights("fp8", CPU)
    plain = whole_network(SMALL, weights)
    packed = host_network(SMALL, weights, ram_buffer)
    expected = plain.state_dict()
    assert set(expected) == set(packed.network.state_dict())
    for name, tensor in packed.network.state_dict().items():
        assert torch.equal(tensor.view(torch.uint8), expected[name].view(torch.uint8)), name
    rest_bytes, blocks = weights_of(SMALL, "fp8")
    assert packed.size_bytes == rest_bytes + sum(blocks)
    assert ModuleTensors(plain).layout.size_bytes == packed.size_bytes


@pytest.mark.parametrize(
    ("model", "precision"), [("klein-4b", "nf4"), ("klein-9b", "int8"), ("dev", "fp8")]
)
def test_real_size_networks_are_packed_as_planned(model: str, precision: str) -> None:
    network = meta_network(model)
    quantized_skeleton(network, Recipe(precision=Precision(precision)))
    modules = streamable_blocks(NAME, network)
    rest_bytes, blocks = weights_of(model, precision)
    assert tuple(ModuleTensors(block).layout.size_bytes for block in modules) == blocks
    assert ModuleTensors(network, without=modules).layout.size_bytes == rest_bytes


def test_the_stand_in_for_a_link_counts_what_it_copies() -> None:
    transfers = CopyingTransfers()
    target = transfers.allocate(1024)
    transfers.copy(target, torch.ones(1024, dtype=torch.uint8), None)
    times = transfers.take_times()
    assert (times.copied_bytes, transfers.held_bytes) == (1024, 1024)
    assert int(target.sum()) == 1024
    transfers.release(target)
    assert (transfers.take_times().copied_bytes, transfers.held_bytes) == (0, 0)


def test_a_cap_counts_the_context() -> None:
    assert allocator_share(8_000, 500, 24_000) == pytest.approx(7_500 / 24_000)
    assert allocator_share(24_000, 500, 16_000) == 1.0
    assert allocator_share(400, 500, 16_000) == 0.0
