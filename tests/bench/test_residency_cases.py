"""What the residency bench runs, and what becomes of cases that go wrong; needs no torch."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench import report, residency
from bench.residency_parts.cases import (
    FLOORS,
    GIB,
    HEADROOM,
    LEAST,
    MODES,
    RESIDENT,
    SMALL,
    Case,
    all_cases,
    cap_text,
    parse_cap,
)
from bench.residency_parts.rows import (
    FAILED,
    OK,
    OUT_OF_RAM,
    OUT_OF_RAM_CODE,
    TIME_LIMIT,
    Row,
    compact,
    full,
    new_row,
)
from bench.residency_parts.runner import run_all, run_in_process

CASE = Case(
    model=SMALL,
    mode=HEADROOM,
    precision="bf16",
    cap_bytes=6 << 20,
    device="cpu",
    size_px=64,
    steps=1,
)


@pytest.mark.parametrize(
    ("text", "cap_bytes", "shown"),
    [("8", 8 * GIB, "8 GB"), ("24GB", 24 * GIB, "24 GB"), (" 6mb ", 6 << 20, "6 MB")],
)
def test_caps_are_read_as_cards_are_sold(text: str, cap_bytes: int, shown: str) -> None:
    assert parse_cap(text) == cap_bytes
    assert cap_text(cap_bytes) == shown


@pytest.mark.parametrize("text", ["", "0", "-8", "8 TB", "eight"])
def test_what_is_no_cap_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no size of a card"):
        parse_cap(text)


def test_a_wrong_cap_ends_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        residency.main(["--caps", "eight"])
    assert "no size of a card" in capsys.readouterr().err


def test_floors_come_before_what_is_held_against_them() -> None:
    cases = list(
        all_cases(
            ["klein-4b"],
            [12 * GIB, 8 * GIB],
            ["bf16", "fp8"],
            list(MODES),
            device="cuda",
            size_px=1024,
            steps=4,
        )
    )
    for precision in ("bf16", "fp8"):
        modes = [case.mode for case in cases if case.precision == precision]
        assert modes[0] == FLOORS
        assert modes.count(LEAST) == 1
        assert modes.count(HEADROOM) == 2
    assert Case.from_json(cases[1].to_json()) == cases[1]


def test_rows_have_all_figures_and_no_others() -> None:
    row = new_row(CASE, OK, step_s=0.5)
    assert row["step_s"] == 0.5
    assert row["peak_vram_bytes"] is None
    assert full(json.loads(json.dumps(compact(row)))) == row
    with pytest.raises(ValueError, match="no such"):
        new_row(CASE, OK, step_ms=500)
    with pytest.raises(ValueError, match="no such"):
        new_row(CASE, "fine")


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (f"import sys; sys.exit({OUT_OF_RAM_CODE})", OUT_OF_RAM),
        ("raise SystemExit('no such driver')", FAILED),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", OUT_OF_RAM),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_process_that_ends_early_is_a_row(code: str, status: str) -> None:
    row = run_in_process(CASE, 60.0, (sys.executable, "-S", "-c", code))
    assert row["status"] == status
    assert row["note"]


def test_a_case_that_takes_too_long_is_ended() -> None:
    forever = "import threading; threading.Event().wait()"
    row = run_in_process(CASE, 0.2, (sys.executable, "-S", "-c", forever))
    assert row["status"] == TIME_LIMIT


def test_a_case_is_told_to_its_process_and_its_row_comes_back() -> None:
    code = (
        "import json, pathlib, sys; case = json.loads(sys.argv[1]);"
        "pathlib.Path(sys.argv[2]).write_text(json.dumps({'mode': case['mode']}))"
    )
    assert run_in_process(CASE, 60.0, (sys.executable, "-c", code)) == {"mode": HEADROOM}


def test_what_the_floors_show_is_told_to_the_cases_after_them() -> None:
    seen: list[Case] = []

    def run(case: Case) -> Row:
        seen.append(case)
        figures = {"compute_s": 2.0, "bytes_per_s": 1e9, "context_bytes": 7}
        return new_row(case, OK, **(figures if case.mode == FLOORS else {}))

    other = replace(CASE, precision="fp8")
    rows = list(run_all([replace(CASE, mode=FLOORS), CASE, other], run))
    assert (seen[1].compute_s, seen[1].bytes_per_s, seen[1].context_bytes) == (2.0, 1e9, 7)
    assert rows[1]["compute_s"] == 2.0
    assert seen[2].compute_s == 0


def test_an_interrupted_run_keeps_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setattr(residency, "RESULTS", tmp_path)
    left = 3

    def run(case: Case, limit_s: float) -> Row:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        assert limit_s == residency.LIMIT_S
        return new_row(case, OK, step_s=float(left))

    def rows() -> list[Row]:
        found = json.loads((tmp_path / "residency_cpu.json").read_text(encoding="utf-8"))
        assert set(found) >= {"bench", "date", "note", "machine", "figures"}
        return [full(row) for row in found["figures"]["rows"]]

    monkeypatch.setattr(residency, "run_in_process", run)
    asked = [
        "--parts",
        "steps",
        "--device",
        "cpu",
        "--caps",
        "6MB",
        "--modes",
        HEADROOM,
        RESIDENT,
        "--precisions",
    ]
    with pytest.raises(KeyboardInterrupt):
        residency.main([*asked, "bf16", "fp8"])
    assert [row["mode"] for row in rows()] == [FLOORS, HEADROOM, RESIDENT]
    left = 3
    residency.main([*asked, "fp8"])
    assert [row["precision"] for row in rows()] == ["bf16"] * 3 + ["fp8"] * 3
