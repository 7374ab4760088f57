"""The demo drawn by the engine itself with quantized weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.core.events import Converting, JobFinished, Notice
from app.core.jobs import Job
from app.core.paths import app_paths, resource
from app.core.policy import Precision, Precisions
from app.engine.compute_device import CpuDevice
from app.engine.planning.precisions import PRECISION_WORDS
from app.engine.quantize.kept_files import kept_files, remove
from tests.engine_process import make_job
from tests.engine_runs import POLICY, Runs, of_kind, pixels


def job(precision: Precision, folder: Path, *, number: int = 0) -> Job:
    made = make_job(
        resource("models/demo"),
        folder / f"{precision.value}-{number}",
        prompt="a large red circle in the centre on a white background",
        width_px=128,
        height_px=128,
        steps=4,
    )
    precisions = Precisions(text_encoder=precision, transformer=precision)
    return replace(made, policy=replace(POLICY, precisions=precisions))


def drawn(events: list[Any]) -> np.ndarray:
    assert isinstance(events[-1], JobFinished), events[-1]
    return pixels(events)[0]


@pytest.mark.slow
@pytest.mark.parametrize("precision", [Precision.FP8, Precision.INT8, Precision.NF4])
def test_demo_is_drawn_in_fewer_bits_and_files_are_kept(precision, tmp_path):
    runs = Runs(CpuDevice())
    plain = drawn(runs.run(job(Precision.AUTO, tmp_path)))
    events = runs.run(job(precision, tmp_path))
    found = drawn(events)
    off = np.abs(found - plain).mean()
    assert 0 < off < 12
    told = [notice.message for notice in of_kind(events, Notice)]
    words = PRECISION_WORDS[precision]
    assert [f" {words}" in message for message in told] == [True, True], told
    ends = [one for one in of_kind(events, Converting) if one.done_bytes == one.total_bytes]
    assert [one.component for one in ends] == ["text_encoder", "transformer"]
    kept = kept_files(app_paths().converted_folder)
    assert {(file.component, file.precision) for file in kept} == {
        ("text_encoder", precision),
        ("transformer", precision),
    }
    # Loaded anew from the files, by an engine that knows nothing: the same picture, no converting.
    again = Runs(CpuDevice())
    events = again.run(job(precision, tmp_path, number=1))
    assert np.array_equal(drawn(events), found)
    assert of_kind(events, Notice) == of_kind(events, Converting) == []


@pytest.mark.slow
def test_weights_whose_file_was_removed_between_two_runs_are_converted_again(tmp_path):
    runs = Runs(CpuDevice())
    found = drawn(runs.run(job(Precision.FP8, tmp_path)))
    files = {file.component: file for file in kept_files(app_paths().converted_folder)}
    remove(files["transformer"])
    events = runs.run(job(Precision.FP8, tmp_path, number=1))
    assert np.array_equal(drawn(events), found)
    assert {one.component for one in of_kind(events, Converting)} == {"transformer"}
    assert files["transformer"].path.is_file()
    events = runs.run(job(Precision.FP8, tmp_path, number=2))
    assert of_kind(events, Converting) == []
