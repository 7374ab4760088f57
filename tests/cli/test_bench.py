"""`bench`: what was measured is told, compared with what was predicted, and kept for plans."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from app.cli import bench, kept_speeds, main
from app.cli.gpu_here import GpuHere
from app.core.bench_result import BenchResult
from app.core.calibration_store import CalibrationStore
from app.core.errors import EngineError, ErrorInfo
from app.core.events import BenchDone
from app.core.machine_speeds import MachineSpeeds
from app.core.paths import app_paths
from app.core.processor import cpu_device_name
from app.engine.calibration_run import bench_with_engine
from app.engine.client import Deliver, EngineClient, StartEngine
from app.engine.machine import calibration_key
from app.engine.protocol import Bench, Command
from tests.fakes import hardware
from tests.fakes.clock import FakeClock
from tests.fakes.engine import FakeEngineClient

CPU = BenchResult(
    device="cpu",
    device_name=cpu_device_name(),
    torch_version="2.13.0+cpu",
    precision="float32",
    blocks=8,
    block_bytes=8 << 20,
    tokens=256,
    compute_step_s=0.1,
    compute_flops=8.6e10,
    seconds=2.0,
    remarks=("Nothing streams.",),
)
GPU = replace(
    CPU,
    device="cuda:0",
    device_name="Torch's name",
    precision="bfloat16",
    block_bytes=32 << 20,
    compute_step_s=0.008,
    compute_flops=1.5e14,
    copy_bytes_per_s=25 * 2**30,
    pinned=True,
    slots_bytes=96 << 20,
    streamed_step_s=0.0105,
    predicted_step_s=0.0100,
    achieved_bytes_per_s=24.5 * 2**30,
    hidden_share=0.765,
    remarks=(),
)
RTX = GpuHere(snapshot=hardware.device(engine_gib=2), driver="NVIDIA 580.65")


@pytest.fixture
def finds(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """An engine that finds this."""

    def install(result: BenchResult, gpu: GpuHere | None = None) -> None:
        def measure(start: StartEngine) -> BenchResult:
            return result

        monkeypatch.setattr(bench, "bench_with_engine", measure)
        monkeypatch.setattr(kept_speeds, "gpu_here", lambda _device, pid=None: gpu)

    return install


def kept(name: str, driver: str) -> MachineSpeeds | None:
    key = calibration_key(name, driver=driver, torch_version=CPU.torch_version)
    return CalibrationStore(app_paths().calibration_file).speeds(key)


def test_a_gpu_is_told_as_a_table_with_the_prediction_beside(finds, capsys):
    finds(GPU, RTX)
    assert main(["bench", "--device", "cuda:0"]) == 0
    out = capsys.readouterr().out
    for line in (
        "stack               8 blocks, 256 MB in bfloat16, 256 tokens\n",
        "computing alone     8.0 ms, 150.0 TFLOPS\n",
        "copying alone       10.0 ms, 25.0 GB/s from pinned RAM\n",
        "floor               10.0 ms\n",
        "streamed            10.5 ms through 96.0 MB of slots, 1.05 × the floor\n",
        "predicted           10.0 ms (-5% of what was measured)\n",
        "link, streaming     24.5 GB/s, 76 % hidden\n",
    ):
        assert line in out


def test_a_gpu_is_kept_for_plans_under_its_drivers_name(finds, capsys):
    finds(GPU, RTX)
    assert main(["bench"]) == 0
    found = kept("Fake GPU", "NVIDIA 580.65")
    assert found is not None
    assert (found.compute_flops, found.pinned_bytes_per_s) == (1.5e14, 25 * 2**30)
    assert found.pageable_bytes_per_s is None


def test_what_the_calibration_knew_besides_stays(finds, capsys):
    key = calibration_key("Fake GPU", driver="NVIDIA 580.65", torch_version=CPU.torch_version)
    before = MachineSpeeds(
        device="cuda:0",
        device_name="x",
        torch_version=CPU.torch_version,
        precision="bfloat16",
        compute_flops=1e12,
        pinned_bytes_per_s=1e9,
        read_bytes_per_s=3e9,
        context_bytes=300 << 20,
        seconds=1.0,
    )
    CalibrationStore(app_paths().calibration_file).record_speeds(key, before)
    finds(GPU, RTX)
    assert main(["bench"]) == 0
    found = kept("Fake GPU", "NVIDIA 580.65")
    assert found is not None
    assert (found.read_bytes_per_s, found.context_bytes) == (3e9, 300 << 20)
    assert found.pinned_bytes_per_s == 25 * 2**30


def test_a_processor_is_told_that_nothing_streams(finds, capsys):
    finds(CPU)
    assert main(["bench"]) == 0
    out = capsys.readouterr().out
    assert "computing alone     100.0 ms, 86.0 GFLOPS\n" in out
    assert "Nothing streams.\n" in out
    assert "copying" not in out
    assert "streamed" not in out
    found = kept(cpu_device_name(), "")
    assert found is not None
    assert found.compute_flops == 8.6e10


def test_json_is_one_object_in_base_units(finds, capsys):
    finds(GPU, RTX)
    assert main(["bench", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["event"] == "bench"
    assert found["streamed_step_s"] == 0.0105
    assert found["over_floor"] == pytest.approx(1.05)
    assert found["remarks"] == []


def test_programs_are_told_of_measurements_that_cannot_be_read(finds, capsys):
    finds(GPU, RTX)
    app_paths().calibration_file.parent.mkdir(parents=True, exist_ok=True)
    app_paths().calibration_file.write_text("{", encoding="utf-8")
    assert main(["bench", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["remarks"]
    assert "cannot be read" in told


class Answers(FakeEngineClient):
    """Answers the bench."""

    def __init__(self, deliver: Deliver, answer: BenchDone | None) -> None:
        super().__init__(deliver, pid=5)
        self._answer = answer

    def send(self, command: Command) -> None:
        super().send(command)
        if isinstance(command, Bench) and self._answer is not None:
            self.say(self._answer)


class Engines:
    """Starts one that gives this answer, or dies of the question where it is None."""

    def __init__(self, answer: BenchDone | None) -> None:
        self.answer = answer
        self.client: Answers | None = None

    def __call__(self, deliver: Deliver) -> EngineClient:
        self.client = Answers(deliver, self.answer)
        self.client.start()
        self.client.get_ready()
        return self.client


def test_the_engine_is_asked_and_ended():
    engines = Engines(BenchDone(result=CPU))
    assert bench_with_engine(engines) == CPU
    assert engines.client is not None
    assert engines.client.ended_by == "stop"


def test_why_it_could_not_be_measured_is_told():
    engines = Engines(BenchDone(error=ErrorInfo(code="x", message="No memory is left.")))
    with pytest.raises(EngineError, match="No memory is left") as raised:
        bench_with_engine(engines)
    assert raised.value.code == "engine.bench"


def test_an_engine_that_does_not_answer_is_not_waited_for_for_ever():
    class Passing(FakeClock):
        def __call__(self) -> float:
            self.advance(50.0)
            return super().__call__()

    engines = Engines(None)
    with pytest.raises(EngineError, match="does not answer"):
        bench_with_engine(engines, clock=Passing())
    assert engines.client is not None
    assert engines.client.ended_by == "stop"


@pytest.fixture
def unwritable() -> None:
    app_paths().data.parent.mkdir(parents=True, exist_ok=True)
    app_paths().data.write_bytes(b"a file where the folder should be")


@pytest.mark.usefixtures("unwritable")
def test_what_cannot_be_kept_is_told_all_the_same(finds, capsys):
    finds(GPU, RTX)
    assert main(["bench"]) == 1
    told = capsys.readouterr()
    assert "streamed            10.5 ms" in told.out
    assert told.out.endswith("Measured in 2.00 s.\n")
    assert "What was measured cannot be kept (" in told.err
    assert str(app_paths().data) in told.err


@pytest.mark.usefixtures("unwritable")
def test_programs_are_told_both(finds, capsys):
    finds(GPU, RTX)
    assert main(["bench", "--json"]) == 1
    found, error = map(json.loads, capsys.readouterr().out.splitlines())
    assert (found["event"], found["streamed_step_s"]) == ("bench", 0.0105)
    assert (error["event"], error["code"]) == ("error", "output.failed")
