import pytest

from app.core.units import GIB, KIB, MIB, format_bytes, format_rate, format_seconds


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (-5, "-5 B"),
        (KIB, "1.0 KiB"),
        (100 * KIB, "100 KiB"),
        (3 * MIB + 400 * KIB, "3.4 MiB"),
        (1023 * KIB + 1023, "1.0 MiB"),
        (1024 * MIB - 1, "1.0 GiB"),
        (12 * GIB, "12.0 GiB"),
        (-2 * GIB, "-2.0 GiB"),
        (2048 * GIB, "2048 GiB"),
    ],
)
def test_format_bytes(size_bytes: int, text: str):
    assert format_bytes(size_bytes) == text


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
