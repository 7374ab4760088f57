"""The choices about memory: kept for each GPU, over restarts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.core.policy import MemoryMode, MemoryPolicy, Precision, Precisions
from app.core.preset import PresetLimits
from app.core.units import GIB
from app.ui.models.background import Background
from app.ui.models.policy_file import PolicyFile, PolicyState
from app.ui.models.policy_model import PolicyModel


@pytest.fixture
def background(qapp) -> Iterator[Background]:
    made = Background()
    yield made
    made.close()


@pytest.fixture
def file(tmp_path: Path) -> PolicyFile:
    return PolicyFile(tmp_path / "data" / "memory.json")


def model(file: PolicyFile, background: Background) -> PolicyModel:
    return PolicyModel(file, background)


def test_every_choice_is_told_and_survives_a_restart(qtbot, file, background):
    first = model(file, background)
    first.set_device("Fake GPU")
    with qtbot.waitSignal(first.changed):
        first.set_headroom(round(1.5 * GIB))
    first.set_mode(MemoryMode.MINIMAL)
    first.set_strict(strict=True)
    first.set_upscale_back(upscale_back=True)
    first.flush()
    again = model(file, background)
    again.set_device("Fake GPU")
    assert again.policy == MemoryPolicy(
        headroom_bytes=round(1.5 * GIB),
        mode=MemoryMode.MINIMAL,
        strict=True,
        upscale_back=True,
    )


def test_each_gpu_has_choices_of_its_own(file, background):
    made = model(file, background)
    made.set_device("Large GPU")
    made.set_headroom(4 * GIB)
    made.set_device("Small GPU")
    assert made.policy == MemoryPolicy()
    assert not made.remembers("Small GPU")
    made.set_headroom(GIB)
    made.set_device("Large GPU")
    assert made.policy.headroom_bytes == 4 * GIB


def test_what_is_chosen_before_the_gpu_is_known_is_for_that_gpu(file, background):
    made = model(file, background)
    made.set_strict(strict=True)
    made.set_device("Fake GPU")
    assert made.policy.strict
    assert made.remembers("Fake GPU")


def test_what_was_kept_for_the_gpu_goes_before_what_was_chosen_too_early(file, background):
    kept = PolicyState(policy=MemoryPolicy(headroom_bytes=3 * GIB), preset="Evening")
    file.save({"Fake GPU": kept})
    made = model(file, background)
    made.set_strict(strict=True)
    made.set_device("Fake GPU")
    assert made.state == kept


def test_nothing_is_told_when_nothing_changes(qtbot, file, background):
    made = model(file, background)
    made.set_device("Fake GPU")
    with qtbot.assertNotEmitted(made.changed):
        made.set_headroom(made.policy.headroom_bytes)
        made.set_device("Fake GPU")


def test_a_state_with_everything_in_it_comes_back_from_the_file(file):
    state = PolicyState(
        policy=MemoryPolicy(
            limit_bytes=8 * GIB, tile_px=512, precisions=Precisions(transformer=Precision.FP8)
        ),
        limits=PresetLimits(max_side_px=1536, max_images=4),
        preset="Evening",
    )
    file.save({"Fake GPU": state})
    assert file.load() == {"Fake GPU": state}


def test_a_broken_file_is_reported_and_costs_only_what_was_in_it(file, tmp_path, expect_log):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "memory.json").write_bytes(b"{not json")
    expect_log("memory settings cannot be read")
    assert file.load() == {}
