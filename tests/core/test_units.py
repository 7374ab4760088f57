import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.units import (
    GIB,
    KIB,
    MIB,
    format_bytes,
    format_need,
    format_part,
    format_rate,
    format_seconds,
)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (-5, "-5 B"),
        (KIB, "1.0 KB"),
        (100 * KIB, "100 KB"),
        (3 * MIB + 400 * KIB, "3.4 MB"),
        (1023 * KIB + 1023, "1.0 MB"),
        (1024 * MIB - 1, "1.0 GB"),
        (12 * GIB, "12.0 GB"),
        (-2 * GIB, "-2.0 GB"),
        (2048 * GIB, "2048 GB"),
    ],
)
def test_format_bytes(size_bytes: int, text: str):
    assert format_bytes(size_bytes) == text


@pytest.mark.parametrize(
    ("needed_gb", "budget_gb", "texts"),
    [
        (9.14, 11.26, ("9.1", "11.3")),
        (9.98, 10.02, ("10.0", "10.0")),
        (10.04, 10.0, ("10.04", "10.00")),
        (10.004, 10.004 - 2**-30, ("10.01", "10.00")),
        (10.06, 10.0, ("10.1", "10.0")),
        (0.0, 0.0, ("0.0", "0.0")),
    ],
)
def test_format_need(needed_gb: float, budget_gb: float, texts: tuple[str, str]):
    assert format_need(round(needed_gb * GIB), round(budget_gb * GIB)) == texts


@given(st.integers(0, 100 * GIB), st.integers(-(2**27), 2**27))
def test_what_is_needed_reads_as_it_compares(budget_bytes: int, more_bytes: int):
    needed_bytes = max(0, budget_bytes + more_bytes)
    needed, budget = map(float, format_need(needed_bytes, budget_bytes))
    assert (needed <= budget) == (needed_bytes <= budget_bytes)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.00 s"),
        (0.421, "0.42 s"),
        (9.996, "10 s"),
        (12.4, "12 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.7, "1 h 00 min"),
        (7800, "2 h 10 min"),
    ],
)
def test_format_seconds(seconds: float, text: str):
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("seconds_per_step", "text"),
    [(0.0, "–"), (-1.0, "–"), (0.5, "2.0 it/s"), (1.0, "1.0 s/it"), (1.84, "1.8 s/it")],
)
def test_format_rate(seconds_per_step: float, text: str):
    assert format_rate(seconds_per_step) == text


@pytest.mark.parametrize(
    ("done", "total", "told"),
    [
        (0, 8 * GIB, "0.0 of 8.0 GB"),
        (3 * GIB + GIB // 8, 7 * GIB + GIB // 2, "3.1 of 7.5 GB"),
        (12 * GIB, 250 * GIB, "12 of 250 GB"),
        (MIB, 8 * MIB, "1.0 of 8.0 MB"),
        (5, 10, "5 of 10 B"),
    ],
)
def test_part_is_told_in_the_unit_of_the_whole(done: int, total: int, told: str):
    assert format_part(done, total) == told
