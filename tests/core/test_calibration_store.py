"""What was measured here is kept, corrects the next plan, and survives any file."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from app.core.calibration_store import MAX_ENTRIES, CalibrationStore
from app.core.jobs import Phase
from app.core.machine_speeds import MachineSpeeds
from app.core.measured_run import CalibrationKey, MeasuredPhase, MeasuredRun
from app.core.plan import GenerationPlan, PhasePlan
from app.core.profile import Calibration
from app.core.units import GIB, MIB
from tests.fakes import plans

KEY = CalibrationKey(gpu_name="RTX 3060", driver="NVIDIA 580.1", torch_version="2.13.0")
DEFAULT = Calibration(
    context_bytes=300 * MIB,
    workspace_bytes=9 * MIB,
    reserve_bytes=64 * MIB,
    reserve_share=0.05,
    compute_flops=1e13,
    copy_bytes_per_s=1e10,
    read_bytes_per_s=1e9,
)
SPEEDS = MachineSpeeds(
    device="cuda:0",
    device_name="RTX 3060",
    torch_version="2.13.0",
    precision="bfloat16",
    compute_flops=4e13,
    pinned_bytes_per_s=2.4e10,
    pageable_bytes_per_s=6e9,
    read_bytes_per_s=3e9,
    context_bytes=250 * MIB,
    seconds=3.0,
)
WEIGHTS = 4 * GIB


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "calibration.json"


def plan_with(
    calibration: Calibration, *, working_bytes: int = GIB, seconds: float = 10.0
) -> GenerationPlan:
    """What a planner gives that corrects its forecast of one phase."""
    bytes_factor = calibration.bytes_factor.get(Phase.DENOISE, 1.0)
    time_factor = calibration.time_factor.get(Phase.DENOISE, 1.0)
    phase = PhasePlan(
        phase=Phase.DENOISE,
        weights_bytes=WEIGHTS,
        working_bytes=round(working_bytes * bytes_factor),
        overhead_bytes=309 * MIB,
        seconds=seconds * time_factor,
    )
    return plans.plan(phases=(phase,), measured_runs=calibration.runs)


def run_of(working_bytes: float, seconds: float | None = 10.0) -> MeasuredRun:
    found = MeasuredPhase(seconds=seconds, peak_bytes=WEIGHTS + round(working_bytes))
    return MeasuredRun(phases={Phase.DENOISE: found})


def learn(store: CalibrationStore, *ratios: float, time_ratio: float = 1.0) -> Calibration:
    """Run after run, each planned with what was learnt before."""
    for ratio in ratios:
        plan = plan_with(store.calibration(KEY, DEFAULT))
        store.record_run(KEY, plan, run_of(GIB * ratio, 10.0 * time_ratio))
    return store.calibration(KEY, DEFAULT)


def test_nothing_measured_gives_the_default_and_no_file(path: Path):
    store = CalibrationStore(path)
    assert store.calibration(KEY, DEFAULT) is DEFAULT
    assert store.speeds(KEY) is None
    assert not path.parent.exists()


def test_runs_correct_the_next_plan_and_narrow_it(path: Path):
    found = learn(CalibrationStore(path), *[1.1] * 6, time_ratio=3.0)
    assert found.runs == 6
    assert found.bytes_factor[Phase.DENOISE] == pytest.approx(1.1, rel=1e-3)
    assert found.time_factor[Phase.DENOISE] == pytest.approx(3.0, rel=1e-3)
    assert found.spread == pytest.approx(DEFAULT.spread / 7, rel=0.01)
    assert found.time_spread == pytest.approx(DEFAULT.time_spread / 7, rel=0.01)
    # Another process reads the same.
    assert CalibrationStore(path).calibration(KEY, DEFAULT) == found


def test_a_corrected_forecast_is_never_too_low_by_more_than_a_percent(path: Path):
    store = CalibrationStore(path)
    for ratio in (1.06, 1.055, 1.062, 1.05, 1.06, 1.058, 1.061):
        calibration = store.calibration(KEY, DEFAULT)
        if calibration.runs:
            planned = plan_with(calibration).phase(Phase.DENOISE).working_bytes
            assert planned >= GIB * ratio * 0.99
        learn(store, ratio)


def test_a_plan_that_is_older_than_the_last_run_teaches_the_same(path: Path):
    store = CalibrationStore(path)
    learn(store, 1.1)
    stale = plan_with(store.calibration(KEY, DEFAULT))
    learn(store, 1.1, 1.1)
    store.record_run(KEY, stale, run_of(GIB * 1.1))
    found = store.calibration(KEY, DEFAULT)
    assert found.bytes_factor[Phase.DENOISE] == pytest.approx(1.1, rel=1e-3)
    assert found.spread < DEFAULT.spread / 4


def test_small_tensors_teach_time_only(path: Path):
    store = CalibrationStore(path)
    plan = plan_with(DEFAULT, working_bytes=20 * MIB)
    store.record_run(KEY, plan, run_of(90 * MIB, 20.0))
    found = store.calibration(KEY, DEFAULT)
    assert (found.runs, found.bytes_factor, found.spread) == (1, {}, DEFAULT.spread)
    assert found.time_factor[Phase.DENOISE] == pytest.approx(2.0)


def test_previews_that_not_every_run_fits_teach_nothing_about_bytes(path: Path):
    store = CalibrationStore(path)
    (phase,) = plan_with(DEFAULT).phases
    plan = replace(plan_with(DEFAULT), phases=(replace(phase, phase=Phase.LOAD),))
    measured = MeasuredPhase(seconds=20.0, peak_bytes=WEIGHTS + MIB)
    store.record_run(KEY, plan, MeasuredRun(phases={Phase.LOAD: measured}))
    found = store.calibration(KEY, DEFAULT)
    assert (found.bytes_factor, found.spread) == ({}, DEFAULT.spread)
    assert found.time_factor[Phase.LOAD] == pytest.approx(2.0)


def test_a_process_is_counted_with_what_it_needs_besides_tensors(path: Path):
    store = CalibrationStore(path)
    besides = 309 * MIB + 400 * MIB
    run = replace(run_of(GIB * 1.1 + besides), of_process=True, idle_bytes=400 * MIB)
    store.record_run(KEY, plan_with(DEFAULT), run)
    factor = store.calibration(KEY, DEFAULT).bytes_factor[Phase.DENOISE]
    assert factor == pytest.approx(1.1)


@pytest.mark.parametrize(
    "found",
    [
        MeasuredPhase(),
        MeasuredPhase(seconds=0.0, peak_bytes=0),
        MeasuredPhase(seconds=-1.0, peak_bytes=WEIGHTS - 1),
    ],
)
def test_figures_that_say_nothing_teach_nothing(path: Path, found: MeasuredPhase):
    store = CalibrationStore(path)
    run = MeasuredRun(phases={Phase.DENOISE: found, Phase.SAVE: MeasuredPhase(seconds=1.0)})
    store.record_run(KEY, plan_with(DEFAULT), run)
    found_here = store.calibration(KEY, DEFAULT)
    assert (found_here.bytes_factor, found_here.time_factor) == ({}, {})


def test_speeds_take_the_place_of_assumptions_and_begin_times_anew(path: Path):
    store = CalibrationStore(path)
    learn(store, 1.1, 1.1, time_ratio=0.25)
    stale = plan_with(store.calibration(KEY, DEFAULT))
    store.record_speeds(KEY, SPEEDS)
    found = store.calibration(KEY, DEFAULT)
    assert found.compute_flops == 4e13
    assert found.copy_bytes_per_s == 2.4e10
    assert found.read_bytes_per_s == 3e9
    assert found.context_bytes == 250 * MIB
    assert found.time_factor == {}
    assert found.bytes_factor[Phase.DENOISE] == pytest.approx(1.1, rel=1e-3)
    assert store.speeds(KEY) == SPEEDS
    # What was measured replaces; what was not stays as it was assumed.
    unknown = replace(SPEEDS, pinned_bytes_per_s=None, read_bytes_per_s=None, context_bytes=None)
    store.record_speeds(KEY, unknown)
    found = store.calibration(KEY, DEFAULT)
    assert found.copy_bytes_per_s == 6e9
    assert (found.read_bytes_per_s, found.context_bytes) == (1e9, 300 * MIB)
    store.record_run(KEY, stale, run_of(GIB * 1.1, stale.seconds))
    assert store.calibration(KEY, DEFAULT).time_factor[Phase.DENOISE] == pytest.approx(1.0)


def test_another_gpu_driver_or_torch_is_another_measurement(path: Path):
    store = CalibrationStore(path)
    learn(store, 1.1)
    for key in (
        replace(KEY, gpu_name="RTX 3090"),
        replace(KEY, driver="NVIDIA 600.0"),
        replace(KEY, torch_version="2.14.0"),
    ):
        assert store.calibration(key, DEFAULT) is DEFAULT


def test_an_unknown_driver_finds_the_newest_measurement(path: Path):
    store = CalibrationStore(path)
    unknown = replace(KEY, driver="")
    learn(store, 1.1)
    store.record_run(replace(KEY, driver="NVIDIA 600.0"), plan_with(DEFAULT), run_of(GIB * 1.05))
    assert store.calibration(unknown, DEFAULT).bytes_factor[Phase.DENOISE] == pytest.approx(1.05)
    learn(store, 1.1)
    assert store.calibration(unknown, DEFAULT).runs == 2
    assert store.calibration(KEY, DEFAULT).runs == 2


def test_a_driver_that_becomes_known_is_kept(path: Path):
    store = CalibrationStore(path)
    store.record_speeds(replace(KEY, driver=""), SPEEDS)
    learn(store, 1.0)
    assert store.speeds(KEY) == SPEEDS
    assert store.speeds(replace(KEY, driver="NVIDIA 600.0")) is None


def test_what_another_process_wrote_is_seen_and_kept(path: Path):
    ours, theirs = CalibrationStore(path), CalibrationStore(path)
    learn(ours, 1.1)
    learn(theirs, 1.1)
    assert learn(ours, 1.1).runs == 3


def test_the_file_does_not_grow_without_end(path: Path):
    store = CalibrationStore(path)
    for number in range(MAX_ENTRIES + 3):
        store.record_speeds(replace(KEY, torch_version=f"2.{number}"), SPEEDS)
    assert len(json.loads(path.read_bytes())["entries"]) == MAX_ENTRIES
    assert store.speeds(replace(KEY, torch_version="2.2")) is None
    learn(store, *[1.0] * 60)
    assert path.stat().st_size < MAX_ENTRIES * 8000


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b"{}", b'{"entries": 1}', b"[" * 3000])
def test_a_broken_file_is_set_aside(path: Path, data: bytes):
    path.parent.mkdir()
    path.write_bytes(data)
    store = CalibrationStore(path)
    assert store.calibration(KEY, DEFAULT) is DEFAULT
    assert "kept as calibration.broken.json" in store.problem
    assert (path.parent / "calibration.broken.json").read_bytes() == data
    assert learn(store, 1.0).runs == 1
    assert learn(CalibrationStore(path), 1.0).runs == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("runs", -1),
        ("bytes_ratios", {"denoise": [1e9]}),
        ("bytes_ratios", {"lunch": [0.0]}),
        ("time_ratios", {"denoise": "x"}),
        ("published", [{"runs": 1, "bytes_factor": {"denoise": 0.0}}]),
        ("key", None),
    ],
)
def test_a_broken_entry_costs_only_itself(path: Path, name: str, value: object):
    store = CalibrationStore(path)
    learn(store, 1.1)
    other = replace(KEY, gpu_name="other")
    store.record_speeds(other, SPEEDS)
    raw = json.loads(path.read_bytes())
    raw["entries"][0][name] = value
    path.write_text(json.dumps(raw), encoding="utf-8")
    fresh = CalibrationStore(path)
    assert fresh.calibration(KEY, DEFAULT) is DEFAULT
    assert fresh.problem == "A part of this machine's measurements cannot be used."
    assert fresh.speeds(other) == SPEEDS


@pytest.mark.parametrize("flops", [0.0, -1.0])
def test_impossible_speeds_are_not_used(path: Path, flops: float):
    store = CalibrationStore(path)
    store.record_speeds(KEY, replace(SPEEDS, compute_flops=flops))
    assert CalibrationStore(path).calibration(KEY, DEFAULT) is DEFAULT


def test_a_newer_file_is_used_and_left_alone(path: Path):
    learn(CalibrationStore(path), 1.1)
    raw = json.loads(path.read_bytes())
    raw["schema_version"] = 2
    raw["entries"][0]["future"] = True
    path.write_text(json.dumps(raw), encoding="utf-8")
    store = CalibrationStore(path)
    assert store.calibration(KEY, DEFAULT).bytes_factor[Phase.DENOISE] == pytest.approx(1.1)
    assert "newer Headroom" in store.problem
    assert learn(store, 1.1).runs == 2
    assert json.loads(path.read_bytes()) == raw


def test_a_disk_that_cannot_be_written_teaches_nothing(tmp_path: Path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    store = CalibrationStore(tmp_path / "file" / "calibration.json")
    with pytest.raises(OSError, match="file"):
        store.record_speeds(KEY, SPEEDS)
    assert store.speeds(KEY) is None
