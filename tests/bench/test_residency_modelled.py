"""The modelled table: its rules by hand, and that it is what is committed."""

import json
from typing import Any

import pytest

from bench.report import RESULTS
from bench.residency_parts.cases import (
    CAPS,
    GIB,
    GROUP,
    GROUP_BLOCKING,
    GROUP_LOW,
    GROUP_RECORD,
    HEADROOM,
    LEAST,
    MODEL,
    MODELS,
    PRECISIONS,
    SEQUENTIAL,
    Case,
    parse_cap,
)
from bench.residency_parts.diffusers_rules import (
    RULES,
    Speeds,
    Work,
    device_weights_bytes,
    host_bytes,
    step_seconds_of,
)
from bench.residency_parts.gpus import GPUS
from bench.residency_parts.modelled import modelled_rows
from bench.residency_parts.page import PAGE, page
from bench.residency_parts.rows import OK, Row, full, key_of, new_row
from bench.residency_parts.targets import check_targets, floor_s
from bench.residency_parts.work import block_work, coefficients_of, weights_of

SPEEDS = Speeds(bytes_per_s=100.0, pageable_bytes_per_s=50.0, pinning_bytes_per_s=25.0)
WORK = Work(compute_s=[3.0, 3.0, 3.0], rest_s=1.0, block_bytes=[200, 100, 100], rest_bytes=50)


@pytest.mark.parametrize(
    ("mode", "seconds"),
    [
        (MODEL, 10.0),
        (SEQUENTIAL, 10.0 + 450 / 50),
        (GROUP_BLOCKING, 10.0 + 2 * 450 / 50),
        # The rest comes (1) and the first block (2), during which the rest computes; then three
        # blocks, each longer than the copy beside it; the rest goes (1).
        (GROUP, 1 + 2 + 9 + 1),
        # The same with each block pinned anew before the block that is before it: 8, 4 and 4.
        (GROUP_LOW, 1 + 8 + 2 + (4 + 3) + (4 + 3) + 3 + 1),
        (GROUP_RECORD, 1 + 2 + 9 + 1),
    ],
)
def test_rules_of_diffusers_by_hand(mode: str, seconds: float) -> None:
    assert step_seconds_of(mode, WORK, SPEEDS, room_bytes=10_000) == pytest.approx(seconds)


def test_a_full_card_makes_recorded_streams_wait() -> None:
    quick = Speeds(bytes_per_s=1e6, pageable_bytes_per_s=1e6, pinning_bytes_per_s=1e6)
    roomy = step_seconds_of(GROUP_RECORD, WORK, quick, room_bytes=10_000)
    tight = step_seconds_of(GROUP_RECORD, WORK, quick, room_bytes=300)
    assert roomy <= tight <= step_seconds_of(GROUP, WORK, quick, room_bytes=0) + 1e-3


@pytest.mark.parametrize("model", MODELS)
def test_work_of_the_blocks_is_nearly_all_of_the_forecast(model: str) -> None:
    work = block_work(model, 1024)
    forecast = coefficients_of(model).denoise_step_flops(images=1, width_px=1024, height_px=1024)
    assert work.total == pytest.approx(forecast)
    assert 0 < work.rest < 0.01 * forecast


def test_group_offload_holds_the_two_largest_neighbours() -> None:
    rest, blocks = weights_of("klein-4b", "bf16")
    assert device_weights_bytes(GROUP, "klein-4b", "bf16") == rest + 2 * max(blocks)
    assert device_weights_bytes(MODEL, "klein-4b", "bf16") == rest + sum(blocks)


def test_pinned_tensors_take_powers_of_two() -> None:
    rest, blocks = weights_of("klein-9b", "bf16")
    # All matrices of klein 9B have 4096 rows or columns and three times a power of two of the other
    # at most; so a pinned one takes between one and two times its size.
    pinned = host_bytes(GROUP, "klein-9b", "bf16") - rest
    assert sum(blocks) < pinned < 2 * sum(blocks)
    assert host_bytes(GROUP_LOW, "klein-9b", "bf16") == rest + sum(blocks)


@pytest.fixture(scope="module")
def committed() -> list[Row]:
    found = json.loads((RESULTS / "residency_modelled.json").read_text(encoding="utf-8"))
    assert "not measured" in found["note"]
    assert set(found["figures"]["rules"]) == set(RULES)
    return [full(row) for row in found["figures"]["rows"]]


def test_every_card_model_and_precision_is_in_the_table(committed: list[Row]) -> None:
    cases = {(row["cap_bytes"], row["model"], row["precision"]) for row in committed}
    assert cases == {
        (parse_cap(cap), model, precision)
        for cap in CAPS
        for model in MODELS
        for precision in PRECISIONS
    }


def test_no_step_is_below_its_floors(committed: list[Row]) -> None:
    ran = [row for row in committed if row["status"] == OK]
    assert len(ran) > 300
    for row in ran:
        own_copies = row["mode"] in (HEADROOM, LEAST)
        floor = floor_s(row) if own_copies else row["compute_s"]
        assert floor is not None
        assert row["step_s"] >= floor * 0.999, key_of(row)


def test_the_committed_table_is_what_the_model_says(committed: list[Row]) -> None:
    by_key = {key_of(row): row for row in committed}
    made = list(modelled_rows(["klein-4b"], [8 * GIB], ["fp8"], 1024, GPUS[:1]))
    assert len(made) == 9
    for row in made:
        told = by_key[key_of(row)]
        why = "run: python bench/residency.py --modelled, then --page"
        assert told["status"] == row["status"], why
        if row["status"] == OK:
            assert told["step_s"] == pytest.approx(row["step_s"], rel=0.02), why


def test_the_committed_page_is_made_of_the_result_files() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python bench/residency.py --page"


def row_of(mode: str, precision: str = "fp8", **figures: Any) -> Row:
    case = Case(
        model="klein-4b",
        mode=mode,
        precision=precision,
        cap_bytes=8 * GIB,
        device="cuda",
        size_px=1024,
        steps=4,
    )
    return new_row(case, OK, **figures)


def test_aims_are_held_against_the_right_rows() -> None:
    rows = [
        row_of(
            HEADROOM,
            step_s=1.1,
            compute_s=1.0,
            bytes_per_s=10.0,
            streamed_bytes=5,
            weights_bytes=100,
            ram_bytes=104,
        ),
        row_of(LEAST, step_s=2.0, peak_vram_bytes=1_900_000_000),
        row_of(SEQUENTIAL, step_s=5.5, streamed_bytes=100),
        row_of(GROUP, step_s=4.4, streamed_bytes=100),
        row_of(GROUP, "bf16", step_s=2.2, streamed_bytes=100),
    ]
    found = {(one["mode"], one["aim"]): one for one in check_targets(rows)}
    over = found[HEADROOM, "step over the larger floor"]
    assert (over["value"], over["met"]) == (pytest.approx(1.1), False)
    assert found[HEADROOM, "RAM over the weights"]["met"]
    same = found[HEADROOM, f"faster than {GROUP} in fp8"]
    assert (same["value"], same["limit"], same["met"]) == (pytest.approx(4.0), 3.0, True)
    assert not found[HEADROOM, f"faster than {GROUP} in bf16"]["met"]
    assert found[LEAST, "VRAM"]["met"]


def test_where_nothing_has_to_come_in_nobody_is_held_to_be_faster() -> None:
    rows = [row_of(HEADROOM, step_s=1.0), row_of(MODEL, step_s=1.0, streamed_bytes=0)]
    assert not [one for one in check_targets(rows) if one["aim"].startswith("faster")]
