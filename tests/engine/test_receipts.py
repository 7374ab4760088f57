"""A picture that was saved and never told of is told of by the next engine, not saved again."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.core.events import ImageDone, JobFinished
from app.core.jobs import Job, OutputTarget
from app.engine import saving
from app.engine.compute_device import CpuDevice
from app.engine.kept_runs import forget_run, receipts_file
from app.engine.receipts import Receipts
from tests.engine_process import make_job
from tests.engine_runs import POLICY, Runs, of_kind

pytestmark = pytest.mark.usefixtures("quick_forecasts")

PNG = b"a picture"


def job(model: Path, out: Path) -> Job:
    made = make_job(model, out, images=2, steps=1, seed=7)
    return replace(made, policy=POLICY, previews=False)


def test_what_lies_whole_where_it_was_to_be_is_saved(tmp_path: Path):
    there = tmp_path / "there.png"
    Receipts(tmp_path, "a").note(0, there, PNG)
    assert Receipts(tmp_path, "a").saved() == {}, "killed before it was there"
    there.write_bytes(PNG)
    assert Receipts(tmp_path, "a").saved() == {0: str(there)}
    assert Receipts(tmp_path, "b").saved() == {}, "of another job"


def test_a_picture_that_was_changed_or_removed_since_is_made_again(tmp_path: Path):
    changed, gone = tmp_path / "changed.png", tmp_path / "gone.png"
    receipts = Receipts(tmp_path, "a")
    for index, path in enumerate((changed, gone)):
        receipts.note(index, path, PNG)
        path.write_bytes(PNG)
    changed.write_bytes(b"another picture")
    gone.unlink()
    assert Receipts(tmp_path, "a").saved() == {}


def test_of_several_names_that_were_tried_the_last_counts(tmp_path: Path):
    receipts = Receipts(tmp_path, "a")
    for name in ("one", "one-2"):
        receipts.note(0, tmp_path / f"{name}.png", PNG)
    (tmp_path / "one-2.png").write_bytes(PNG)
    assert Receipts(tmp_path, "a").saved() == {0: str(tmp_path / "one-2.png")}


def test_notes_that_cannot_be_used_cost_nothing_but_themselves(tmp_path: Path):
    receipts_file(tmp_path, "a").write_bytes(b"{broken")
    receipts = Receipts(tmp_path, "a")
    assert receipts.saved() == {}
    blocked = Receipts(tmp_path / "file", "a")
    (tmp_path / "file").write_bytes(b"")
    blocked.note(0, tmp_path / "x.png", PNG)


def test_the_notes_go_with_their_job(tmp_path: Path):
    Receipts(tmp_path, "a").note(0, tmp_path / "x.png", PNG)
    assert receipts_file(tmp_path, "a").exists()
    forget_run(tmp_path, "a")
    assert not receipts_file(tmp_path, "a").exists()


def test_memory_that_runs_out_behind_the_writing_has_nothing_written_again(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out, keep = tmp_path / "out", tmp_path / "runs"
    write_png, left = saving.write_png, 1

    def runs_out_behind_it(*args: Any, **named: Any) -> Path:
        nonlocal left
        path = write_png(*args, **named)
        if left:
            left -= 1
            raise MemoryError
        return path

    monkeypatch.setattr(saving, "write_png", runs_out_behind_it)
    events = Runs(CpuDevice()).run(job(model, out), keep_folder=keep)
    assert isinstance(events[-1], JobFinished)
    assert [one.index for one in of_kind(events, ImageDone)] == [0, 1]
    assert sorted(one.path or "" for one in of_kind(events, ImageDone)) == sorted(
        str(path) for path in out.iterdir()
    )


class KilledError(Exception):
    """Stands for the end of the process."""


def killed_at_the_second_image(asked: Job, keep: Path) -> dict[int, str]:
    """Run a job in an engine that is killed while it tells of image 1; where both images are."""
    runs = Runs(CpuDevice())
    left: dict[Path, bytes] = {}
    paths: dict[int, str] = {}

    def die(event: object) -> None:
        if isinstance(event, ImageDone) and not left:
            assert event.path is not None
            paths[event.index] = event.path
            if event.index == 1:
                left.update({path: path.read_bytes() for path in keep.glob("*.json")})
                raise KilledError

    runs.on_event = die
    runs.run(asked, keep_folder=keep)
    # What a process that is gone could not have removed.
    for path, data in left.items():
        path.write_bytes(data)
    return paths


@pytest.mark.parametrize("told", [(), (0,)])
def test_killed_between_writing_and_telling_nothing_is_saved_twice(
    told: tuple[int, ...], model: Path, tmp_path: Path, expect_log: Callable[..., None]
):
    expect_log("failed in phase", level="ERROR")
    out, keep = tmp_path / "out", tmp_path / "runs"
    asked = job(model, out)
    paths = killed_at_the_second_image(asked, keep)
    again = Runs(CpuDevice()).run(replace(asked, saved=told), keep_folder=keep)
    assert isinstance(again[-1], JobFinished)
    assert {one.index: one.path for one in of_kind(again, ImageDone)} == {
        index: path for index, path in paths.items() if index not in told
    }
    assert {str(path) for path in out.glob("*.png")} == set(paths.values())
    assert not any(keep.glob("*")), "nothing more is to be told"


def test_a_file_that_was_named_is_not_written_twice_either(
    model: Path, tmp_path: Path, expect_log: Callable[..., None]
):
    expect_log("failed in phase", level="ERROR")
    keep, file = tmp_path / "runs", tmp_path / "out" / "mine.png"
    target = OutputTarget(folder=str(file.parent), file=str(file))
    asked = replace(job(model, tmp_path), output=target)
    killed_at_the_second_image(asked, keep)
    Runs(CpuDevice()).run(asked, keep_folder=keep)
    assert sorted(one.name for one in file.parent.glob("*.png")) == ["mine-2.png", "mine.png"]
