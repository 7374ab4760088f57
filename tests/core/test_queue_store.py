"""The queue file: written whole, read with care, never overwritten when it is not understood."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from app.core.errors import ErrorInfo
from app.core.jobs import Job, JobState, OutputTarget
from app.core.queue_store import SCHEMA_VERSION, QueueStore
from app.core.request import MAX_SEED, GenerationRequest


def make_job(name: str, state: JobState = JobState.QUEUED) -> Job:
    return Job(
        id=name,
        request=GenerationRequest(prompt="красный круг 🔴", seed=MAX_SEED, guidance=3.5),
        model_folder="/models/demo",
        output=OutputTarget(folder="/pictures", file="/pictures/a.png", metadata=False),
        state=state,
        previews=False,
        saved=(0, 2),
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "queue.json"


def test_jobs_come_back_as_they_were(path: Path) -> None:
    jobs = (make_job("a"), make_job("b"))
    assert QueueStore(path).save(jobs) == ""
    store = QueueStore(path)
    assert store.load() == jobs
    assert store.problem == ""


def test_no_file_is_an_empty_queue_and_none_is_written_for_it(path: Path) -> None:
    store = QueueStore(path)
    assert store.load() == ()
    store.save(())
    assert not path.exists()


def test_running_jobs_wait_again_with_all_their_attempts_and_ended_ones_are_left_out(
    path: Path,
) -> None:
    crashed = replace(
        make_job("a", JobState.RUNNING), attempts=2, error=ErrorInfo(code="x", message="y")
    )
    ended = tuple(
        make_job(state.value, state)
        for state in (JobState.FINISHED, JobState.CANCELLED, JobState.FAILED)
    )
    QueueStore(path).save((crashed, *ended, make_job("b"), make_job("b")))
    assert QueueStore(path).load() == (make_job("a"), make_job("b"))


def test_an_unchanged_queue_is_not_written_again(path: Path) -> None:
    store = QueueStore(path)
    store.save((make_job("a"),))
    path.unlink()
    store.save((make_job("a"),))
    assert not path.exists()
    store.save((make_job("a"), make_job("b")))
    assert path.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe\x00",
        b'{"schema_version": 1}',
        b'{"schema_version": "one", "jobs": []}',
        b'{"schema_version": 1, "jobs": [{"id": "a"}]}',
    ],
)
def test_a_file_that_cannot_be_understood_is_set_aside(
    path: Path, content: bytes, expect_log: Callable[..., None]
) -> None:
    expect_log("cannot be understood")
    path.parent.mkdir()
    path.write_bytes(content)
    store = QueueStore(path)
    assert store.load() == ()
    assert "queue.broken.json" in store.problem
    store.save((make_job("a"),))
    assert path.with_name("queue.broken.json").read_bytes() == content
    assert QueueStore(path).load() == (make_job("a"),)


def test_a_newer_file_is_set_aside_beside_an_older_one(
    path: Path, expect_log: Callable[..., None]
) -> None:
    expect_log("newer version")
    path.parent.mkdir()
    path.with_name("queue.broken.json").write_text("older")
    newer = json.dumps({"schema_version": SCHEMA_VERSION + 1, "jobs": "another shape"})
    path.write_text(newer)
    store = QueueStore(path)
    assert store.load() == ()
    assert "newer version" in store.problem
    assert path.with_name("queue.broken.json").read_text() == "older"
    assert path.with_name("queue.broken-2.json").read_text() == newer


def test_what_can_neither_be_read_nor_moved_is_left_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch, expect_log: Callable[..., None]
) -> None:
    expect_log("cannot be set aside")
    expect_log("cannot be understood")
    path.parent.mkdir()
    path.write_text("{")

    def refuse(self: Path, target: Path) -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    store = QueueStore(path)
    assert store.load() == ()
    assert "is not saved" in store.problem
    assert store.save((make_job("a"),)) == ""
    assert path.read_text() == "{"


def test_a_folder_in_its_place_is_told(path: Path, expect_log: Callable[..., None]) -> None:
    expect_log("cannot be read")
    path.mkdir(parents=True)
    store = QueueStore(path)
    assert store.load() == ()
    assert store.problem.startswith("The saved queue cannot be read")


def test_a_failed_save_is_told_once_until_one_succeeds(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = QueueStore(path)
    store.load()

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        first = store.save((make_job("a"),))
        assert "No space left on device" in first
        assert store.save((make_job("a"),)) == ""
    assert store.save((make_job("a"),)) == ""
    assert QueueStore(path).load() == (make_job("a"),)
    monkeypatch.setattr(os, "replace", full)
    assert store.save((make_job("b"),)) == first
