import io
import struct
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.bench_result import BenchResult
from app.core.errors import ErrorInfo, ProtocolError
from app.core.events import (
    BenchDone,
    CalibrationDone,
    Converting,
    Downshifted,
    EngineLog,
    EngineMemory,
    EngineReady,
    ImageDone,
    ImagesDeferred,
    JobCancelled,
    JobFailed,
    JobFinished,
    Loading,
    Notice,
    PhaseFinished,
    PhaseStarted,
    PlanMade,
    Preview,
    RunResumed,
    StepDone,
    WaitedForMemory,
    WaitingForMemory,
)
from app.core.jobs import Job, JobState, OutputTarget, Phase
from app.core.machine_speeds import MachineSpeeds
from app.core.plan import (
    ComponentPlan,
    GenerationPlan,
    PhasePlan,
    Placement,
    PlanChange,
    Rung,
    Verdict,
)
from app.core.policy import Budget, MemoryMode, MemoryPolicy, Precision, Precisions
from app.core.request import MAX_SEED, GenerationRequest
from app.engine import protocol
from app.engine.protocol import (
    Bench,
    Calibrate,
    CancelJob,
    ChangeBudget,
    Hello,
    OfferMemory,
    RelieveJob,
    RunJob,
    Shutdown,
    decode,
    encode,
    read_message,
)

MEMORY = EngineMemory(
    device_allocated_bytes=24 * 1024**3,
    device_reserved_bytes=None,
    device_peak_bytes=2**40,
    host_rss_bytes=1,
    host_peak_rss_bytes=2,
)
JOB = Job(
    id="a1",
    request=GenerationRequest(prompt="赤い円\0", seed=MAX_SEED, images=3),
    model_folder="/models/ü",
    output=OutputTarget(folder="/p", file="/p/out.png", metadata=False),
    policy=MemoryPolicy(
        limit_bytes=8 << 30,
        mode=MemoryMode.MINIMAL,
        strict=True,
        tile_px=512,
        precisions=Precisions(transformer=Precision.FP8),
    ),
    state=JobState.RUNNING,
    saved=(0, 2),
    attempts=1,
    error=ErrorInfo(code="engine.crashed", message="It ended."),
)
PLAN = GenerationPlan(
    verdict=Verdict.STREAMS,
    model="klein-4b",
    width_px=1024,
    height_px=768,
    images=2,
    images_later=1,
    batch=1,
    decode_batch=1,
    tile_px=512,
    components=(
        ComponentPlan(
            name="transformer",
            precision=Precision.BF16,
            placement=Placement.STREAMED,
            weights_bytes=7_750_000_000,
            device_bytes=2**31,
            streamed_blocks=(0, 3, 5),
        ),
    ),
    phases=(PhasePlan(phase=Phase.DENOISE, weights_bytes=2**31, working_bytes=7, seconds=2.5),),
    changes=(PlanChange(rung=Rung.SPLIT, before="2", after="1", reason="Short."),),
    reasons=("It fits.",),
    budget_bytes=2**33,
    total_bytes=2**34,
)
MESSAGES = [
    Hello(protocol_version=1, app_version="0.1.0"),
    RunJob(job=JOB),
    CancelJob(job_id="a1"),
    Calibrate(model_folders=("/m",), scratch_folder="/c"),
    CalibrationDone(error=ErrorInfo(code="c", message="m")),
    CalibrationDone(
        speeds=MachineSpeeds(
            device="cuda:0",
            device_name="GPU",
            torch_version="2.13.0",
            precision="bfloat16",
            compute_flops=1e14,
            pinned_bytes_per_s=2e10,
            reserved_bytes=2**31,
            seconds=4.5,
            remarks=("One.", "Two."),
        )
    ),
    Bench(),
    BenchDone(error=ErrorInfo(code="b", message="m")),
    BenchDone(
        result=BenchResult(
            device="cuda:0",
            device_name="GPU",
            torch_version="2.13.0",
            precision="bfloat16",
            blocks=8,
            block_bytes=2**25,
            tokens=4608,
            compute_step_s=0.01,
            compute_flops=1e14,
            copy_bytes_per_s=2e10,
            pinned=True,
            slots_bytes=2**27,
            streamed_step_s=0.0125,
            predicted_step_s=0.0124,
            achieved_bytes_per_s=1.9e10,
            hidden_share=0.75,
            seconds=4.5,
            remarks=("One.",),
        )
    ),
    ChangeBudget(
        job_id="a1",
        budget=Budget(headroom_bytes=1 << 30, limit_bytes=None, mode=MemoryMode.BALANCED),
    ),
    OfferMemory(job_id="a1", reason="Another program gave 2.1 GB back."),
    RelieveJob(job_id="a1", device_bytes=2**31, host_bytes=0, reason="A game started."),
    Shutdown(),
    EngineReady(pid=1, device="cpu", device_name="x", torch_version="2", diffusers_version="0"),
    PhaseStarted(job_id="a1", phase=Phase.DENOISE, note="cached"),
    PhaseFinished(job_id="a1", phase=Phase.LOAD, seconds=0.5, memory=MEMORY),
    Loading(job_id="a1", done_bytes=2**33, total_bytes=2**34),
    Converting(
        job_id="a1",
        component="transformer",
        precision=Precision.FP8,
        done_bytes=1,
        total_bytes=2**34,
    ),
    StepDone(
        job_id="a1",
        step=1,
        steps=8,
        seconds=0.1,
        memory=MEMORY,
        preview=Preview(width_px=2, height_px=1, rgb=b"\0\xff\1\2\3\4"),
    ),
    ImageDone(
        job_id="a1",
        index=0,
        seed=MAX_SEED,
        path=None,
        problem=ErrorInfo(code="output.disk_full", message="Full."),
        png=b"\x89PNG",
    ),
    Notice(job_id="a1", code="prompt.cut", message="Cut."),
    PlanMade(job_id="a1", plan=PLAN),
    Downshifted(
        job_id="a1",
        phase=Phase.DECODE,
        step=4,
        rung=Rung.TILE,
        before="whole",
        after="512 px tiles",
        reason="Another program took 2.1 GB.",
        foreseen=True,
    ),
    WaitingForMemory(
        job_id="a1", phase=Phase.ENCODE, missing_bytes=1, others_bytes=5 << 30, left_s=59.5
    ),
    WaitedForMemory(job_id="a1", seconds=8.5, enough=True),
    ImagesDeferred(job_id="a1", first_index=2, images=1, reason="Short."),
    RunResumed(job_id="a1", step=19, steps=28),
    JobFinished(job_id="a1", seconds=2.0, memory=MEMORY),
    JobCancelled(job_id="a1"),
    JobFailed(job_id="a1", error=ErrorInfo(code="x", message="y", traceback_text="z")),
    EngineLog(level=30, logger="app", message="m"),
]


class Trickle(io.RawIOBase):
    """A pipe that gives one byte at a time."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = io.BytesIO(data)

    def read(self, size: int = -1, /) -> bytes:
        return self._data.read(min(1, size))


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_every_message_comes_back_equal(message: Any):
    assert read_message(io.BytesIO(encode(message))) == message


def test_every_message_of_the_protocol_is_tested():
    names: dict[str, type] = vars(protocol)["_MESSAGES"]
    assert {type(message) for message in MESSAGES} == set(names.values())


def test_messages_follow_each_other_and_then_the_stream_ends():
    stream = io.BytesIO(b"".join(encode(message) for message in MESSAGES))
    assert [read_message(stream) for _ in MESSAGES] == MESSAGES
    assert read_message(stream) is None


def test_a_slow_pipe_gives_whole_messages():
    stream = Trickle(encode(RunJob(job=JOB)))
    assert read_message(stream) == RunJob(job=JOB)
    assert read_message(stream) is None


def test_stream_that_ends_in_a_frame_is_at_its_end():
    data = encode(RunJob(job=JOB))
    for length in range(len(data)):
        assert read_message(io.BytesIO(data[:length])) is None


def test_frame_is_length_then_name_and_message():
    frame = encode(CancelJob(job_id="a1"))
    assert struct.unpack("<I", frame[:4]) == (len(frame) - 4,)
    assert msgspec.msgpack.decode(frame[4:]) == ["CancelJob", {"job_id": "a1"}]


@dataclass(frozen=True)
class Stranger:
    pass


def test_only_messages_of_the_protocol_are_sent():
    impostor = type("Hello", (), {})()
    for message in (Stranger(), "text", None, JOB, impostor):
        with pytest.raises(ProtocolError, match="cannot be told"):
            encode(message)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"not msgpack",
        msgspec.msgpack.encode("Hello"),
        msgspec.msgpack.encode(["Hello"]),
        msgspec.msgpack.encode(["Unknown", {}]),
        msgspec.msgpack.encode([5, {}]),
        msgspec.msgpack.encode(["CancelJob", {}]),
        msgspec.msgpack.encode(["CancelJob", {"job_id": 5}]),
        msgspec.msgpack.encode(["Hello", {"protocol_version": "1", "app_version": "x"}]),
        encode(Shutdown())[4:] + b"more",
        msgspec.msgpack.encode(["CancelJob", {"job_id": "??"}]).replace(b"??", b"\xff\xff"),
        msgspec.msgpack.encode(["??", {}]).replace(b"??", b"\xff\xff"),
        b"\x91" * 100_000,
    ],
)
def test_bytes_that_are_no_message_are_a_protocol_error(body: bytes):
    with pytest.raises(ProtocolError) as caught:
        decode(body)
    assert caught.value.code == "engine.protocol"
    assert "restarted" in caught.value.message


def test_keys_of_another_version_are_ignored():
    body = msgspec.msgpack.encode(["CancelJob", {"job_id": "a1", "reason": "new"}])
    assert decode(body) == CancelJob(job_id="a1")


def test_huge_frame_is_refused_before_it_is_read():
    stream = io.BytesIO(struct.pack("<I", protocol.MAX_FRAME_BYTES + 1) + b"x")
    with pytest.raises(ProtocolError) as caught:
        read_message(stream)
    assert "frame of" in caught.value.details
    assert stream.read() == b"x"


@given(st.binary(max_size=200))
def test_random_bytes_are_a_message_or_a_protocol_error(body: bytes):
    try:
        message = decode(body)
    except ProtocolError:
        return
    assert decode(encode(message)[4:]) == message
