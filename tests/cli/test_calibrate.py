"""`doctor --calibrate`: what is measured is told and kept."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from app.cli import calibrate, kept_speeds, main
from app.cli.gpu_here import GpuHere
from app.core.calibration_store import CalibrationStore
from app.core.errors import EngineError
from app.core.machine_speeds import MachineSpeeds
from app.core.paths import app_paths
from app.core.processor import cpu_device_name
from app.engine.client import StartEngine
from app.engine.machine import calibration_key
from app.engine.protocol import Calibrate
from tests.fakes import hardware

CPU = MachineSpeeds(
    device="cpu",
    device_name=cpu_device_name(),
    torch_version="2.13.0+cpu",
    precision="float32",
    compute_flops=1.5e11,
    seconds=4.0,
    remarks=("The disk could not be measured (it is busy).",),
)
GPU = replace(
    CPU,
    device="cuda:0",
    device_name="Torch's name",
    precision="bfloat16",
    compute_flops=4.25e13,
    pinned_bytes_per_s=25e9,
    pageable_bytes_per_s=8e9,
    read_bytes_per_s=3e9,
    reserved_bytes=100,
    context_bytes=300 << 20,
    remarks=("Read.",),
)
RTX = GpuHere(snapshot=hardware.device(engine_gib=2), driver="NVIDIA 580.65")


@pytest.fixture
def measures(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Calibrate]]:
    """An engine that measures these speeds; what it was asked for."""

    def install(speeds: MachineSpeeds, gpu: GpuHere | None = None) -> list[Calibrate]:
        asked: list[Calibrate] = []

        def measure(
            start: StartEngine, command: Calibrate, *, own_bytes: Callable[[int], int | None]
        ) -> MachineSpeeds:
            asked.append(command)
            assert own_bytes(5) == (None if gpu is None else 2 << 30)
            return speeds

        monkeypatch.setattr(calibrate, "measure_with_engine", measure)
        for module in (calibrate, kept_speeds):
            monkeypatch.setattr(module, "gpu_here", lambda _device, pid=None: gpu)
        return asked

    return install


def kept(name: str, driver: str) -> MachineSpeeds | None:
    key = calibration_key(name, driver=driver, torch_version=CPU.torch_version)
    return CalibrationStore(app_paths().calibration_file).speeds(key)


def test_a_processor_is_told_and_kept(
    measures: Callable[..., list[Calibrate]], capsys: pytest.CaptureFixture[str]
):
    asked = measures(CPU)
    assert main(["doctor", "--calibrate"]) == 0
    out = capsys.readouterr().out
    assert f"device              {cpu_device_name()}, torch 2.13.0+cpu\n" in out
    assert "compute             150.0 GFLOPS in float32\n" in out
    assert "copy" not in out
    assert "The disk could not be measured (it is busy).\n" in out
    assert out.endswith("Measured in 4.00 s; plans reckon with it from now on.\n")
    assert kept(cpu_device_name(), "") == CPU
    assert asked[0].scratch_folder == str(app_paths().cache)
    assert any(folder.endswith("demo") for folder in asked[0].model_folders)


def test_a_gpu_is_kept_under_its_drivers_name(
    measures: Callable[..., list[Calibrate]], capsys: pytest.CaptureFixture[str]
):
    measures(GPU, RTX)
    assert main(["doctor", "--calibrate", "--device", "cuda:0"]) == 0
    out = capsys.readouterr().out
    for line in (
        "compute             42.5 TFLOPS in bfloat16\n",
        "copy, pinned        23.3 GB/s\n",
        "copy, pageable      7.5 GB/s\n",
        "disk                2.8 GB/s\n",
        "context             300 MB\n",
    ):
        assert line in out
    assert kept("Fake GPU", "NVIDIA 580.65") == GPU


def test_json_is_one_object(
    measures: Callable[..., list[Calibrate]], capsys: pytest.CaptureFixture[str]
):
    measures(GPU, RTX)
    assert main(["doctor", "--calibrate", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["event"] == "calibration"
    assert found["compute_flops"] == 4.25e13
    assert found["context_bytes"] == 300 << 20
    assert found["remarks"] == ["Read."]


def test_programs_are_told_of_measurements_that_cannot_be_read(
    measures: Callable[..., list[Calibrate]], capsys: pytest.CaptureFixture[str]
):
    measures(CPU)
    app_paths().calibration_file.parent.mkdir(parents=True, exist_ok=True)
    app_paths().calibration_file.write_text("{", encoding="utf-8")
    assert main(["doctor", "--calibrate", "--json"]) == 0
    *_, last = json.loads(capsys.readouterr().out)["remarks"]
    assert "cannot be read" in last


def test_a_failure_is_exit_1(
    measures: Callable[..., list[Calibrate]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    measures(CPU)

    def fail(*_arguments: object, **_options: object) -> MachineSpeeds:
        raise EngineError("The machine could not be measured: No memory.")

    monkeypatch.setattr(calibrate, "measure_with_engine", fail)
    assert main(["doctor", "--calibrate"]) == 1
    assert "could not be measured: No memory." in capsys.readouterr().err
    assert not app_paths().calibration_file.exists()


def test_measurements_that_cannot_be_kept_are_told(
    measures: Callable[..., list[Calibrate]], capsys: pytest.CaptureFixture[str]
):
    measures(CPU)
    app_paths().calibration_file.parent.parent.mkdir(parents=True, exist_ok=True)
    app_paths().calibration_file.parent.write_text("", encoding="utf-8")
    assert main(["doctor", "--calibrate"]) == 1
    told = capsys.readouterr()
    assert "cannot be kept" in told.err
    assert "compute  " in told.out
    assert "from now on" not in told.out


@pytest.mark.slow
def test_the_real_engine_measures_this_machine(capsys: pytest.CaptureFixture[str]):
    assert main(["doctor", "--calibrate", "--device", "cpu", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["device"], found["device_name"]) == ("cpu", cpu_device_name())
    assert found["compute_flops"] > 1e6
    key = calibration_key(cpu_device_name(), driver="", torch_version=found["torch_version"])
    speeds = CalibrationStore(app_paths().calibration_file).speeds(key)
    assert speeds is not None
    assert speeds.compute_flops == found["compute_flops"]
