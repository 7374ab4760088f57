"""The form: defaults per model, what was typed, seeds, problems, the session."""

import json

import pytest
from pytestqt.qtbot import QtBot

from app.core.request import MAX_SEED, GenerationRequest
from app.ui.models.form import ModelDefaults, SessionFile
from tests.fakes.window import WindowParts


def values(parts: WindowParts) -> tuple[int, int, int, float]:
    now = parts.form.values()
    return now.width_px, now.height_px, now.steps, now.guidance


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("demo", (128, 128, 8, 1.0)),
        ("klein-base-4b", (1024, 1024, 50, 4.0)),
        ("dev", (1024, 1024, 28, 4.0)),
    ],
)
def test_model_brings_its_own_defaults(
    ready: WindowParts, model: str, expected: tuple[int, int, int, float]
):
    ready.form.set_model(model)
    assert values(ready) == expected


def test_typed_values_stay_with_their_model(ready: WindowParts):
    ready.form.set_steps(4)
    ready.form.set_model("dev")
    ready.form.set_guidance(2.5)
    assert values(ready) == (1024, 1024, 28, 2.5)
    ready.form.set_model("demo")
    assert values(ready) == (128, 128, 4, 1.0)
    ready.form.set_model("dev")
    assert values(ready) == (1024, 1024, 28, 2.5)


def test_restore_defaults_forgets_what_was_typed(ready: WindowParts):
    ready.form.set_steps(4)
    ready.form.set_size(256, 96)
    ready.form.restore_defaults()
    assert values(ready) == (128, 128, 8, 1.0)


@pytest.mark.parametrize(
    ("asked", "used", "said"),
    [
        (1000, 1008, "no multiple of 16"),
        (0, 64, "out of range"),
        (999_999, 8192, "out of range"),
        (512, 512, ""),
    ],
)
def test_size_becomes_one_that_can_be_made_and_says_so(
    ready: WindowParts, qtbot: QtBot, asked: int, used: int, said: str
):
    with qtbot.waitSignal(ready.form.size_noted) as noted:
        ready.form.set_width(asked)
    assert ready.form.values().width_px == used
    assert noted.args is not None
    assert said in noted.args[0]
    assert bool(noted.args[0]) == bool(said)
    assert not ready.form.request().problems() or ready.form.form.prompt == ""


@pytest.mark.parametrize(
    ("across", "down", "size"),
    [(1, 1, (1024, 1024)), (16, 9, (1360, 768)), (2, 3, (832, 1248)), (9, 16, (768, 1360))],
)
def test_ratio_keeps_about_the_models_number_of_pixels(
    ready: WindowParts, across: int, down: int, size: tuple[int, int]
):
    ready.form.set_model("dev")
    ready.form.set_ratio(across, down)
    now = ready.form.values()
    assert (now.width_px, now.height_px) == size
    assert now.width_px * now.height_px == pytest.approx(1024 * 1024, rel=0.05)


def test_swap_turns_the_size(ready: WindowParts):
    ready.form.set_size(256, 96)
    ready.form.swap_size()
    assert values(ready)[:2] == (96, 256)


def test_unlocked_seed_changes_with_each_request_and_is_shown(ready: WindowParts):
    ready.form.set_prompt("a ring")
    taken = [ready.form.take_request() for _ in range(8)]
    seeds = {request.seed for request in taken if request is not None}
    assert len(seeds) == 8
    assert taken[-1] is not None
    assert ready.form.form.seed == taken[-1].seed


def test_typed_seed_is_kept_for_the_next_request(ready: WindowParts):
    ready.form.set_prompt("a ring")
    ready.form.set_seed_text("42")
    assert ready.form.form.seed_locked
    request = ready.form.take_request()
    assert request is not None
    assert request.seed == 42


def test_refused_request_draws_no_seed(ready: WindowParts):
    ready.form.set_seed(42)
    assert ready.form.take_request() is None
    assert ready.form.form.seed == 42


def test_unlocked_seed_is_drawn_over_what_is_none(ready: WindowParts):
    ready.form.set_prompt("a ring")
    ready.form.set_seed_text("x")
    ready.form.set_seed_locked(locked=False)
    assert ready.form.take_request() is not None
    assert ready.form.problems() == ()


def test_locked_seed_survives_all_its_64_bits(ready: WindowParts):
    ready.form.set_prompt("a ring")
    ready.form.set_seed_text(str(MAX_SEED))
    ready.form.set_seed_locked(locked=True)
    request = ready.form.take_request()
    assert request is not None
    assert request.seed == MAX_SEED == 2**64 - 1


@pytest.mark.parametrize("text", [str(2**64), "", "-1", "1.5", "x", "٣"])
def test_what_is_no_seed_is_refused_until_mended(ready: WindowParts, qtbot: QtBot, text: str):
    ready.form.set_prompt("a ring")
    ready.form.set_seed_locked(locked=True)
    ready.form.set_seed_text(text)
    with qtbot.waitSignal(ready.form.refused) as refused:
        assert ready.form.take_request() is None
    assert refused.args is not None
    assert [problem.field for problem in refused.args[0]] == ["seed"]
    ready.form.set_seed_text(" 7 ")
    request = ready.form.take_request()
    assert request is not None
    assert request.seed == 7


def test_empty_prompt_is_refused_with_a_sentence(ready: WindowParts, qtbot: QtBot):
    ready.form.set_prompt("  \n")
    with qtbot.waitSignal(ready.form.refused) as refused:
        assert ready.form.take_request() is None
    assert refused.args is not None
    assert "prompt is empty" in refused.args[0][0].message


def test_use_restores_a_request_exactly(ready: WindowParts):
    request = GenerationRequest(
        prompt="ein Ring, 赤い円",
        model="dev",
        width_px=256,
        height_px=96,
        steps=3,
        guidance=2.0,
        seed=MAX_SEED,
        images=2,
    )
    ready.form.use(request)
    assert ready.form.request() == request
    assert ready.form.take_request() == request


def test_session_comes_back_after_a_restart(ready: WindowParts):
    ready.form.set_prompt("ein Ring")
    ready.form.set_model("dev")
    ready.form.set_steps(7)
    ready.form.set_seed(MAX_SEED)
    ready.form.set_seed_locked(locked=True)
    ready.form.set_images(3)
    ready.form.flush()
    assert SessionFile(ready.home / "data" / "session.json").load() == ready.form.form


def test_session_is_written_by_itself_soon_after_a_change(ready: WindowParts, qtbot: QtBot):
    path = ready.home / "data" / "session.json"
    ready.form.set_prompt("typed just before the power went")
    qtbot.waitUntil(path.exists)
    assert json.loads(path.read_text("utf-8"))["prompt"] == "typed just before the power went"


@pytest.mark.parametrize("content", [b"", b"{", b'{"seed": "x"}', b"[]", b"\xff"])
def test_broken_session_gives_an_empty_form_and_is_kept(
    ready: WindowParts, expect_log, content: bytes
):
    expect_log("last session cannot be read")
    path = ready.home / "last.json"
    path.write_bytes(content)
    file = SessionFile(path)
    assert file.load().prompt == ""
    file.save(ready.form.form)
    assert path.with_name("last.broken.json").read_bytes() == content


def test_session_seed_out_of_range_is_dropped(ready: WindowParts):
    path = ready.home / "seed.json"
    path.write_text('{"prompt": "kept", "seed": -5}', "utf-8")
    form = SessionFile(path).load()
    assert (form.prompt, form.seed) == ("kept", 0)


def test_unwritable_session_is_told_not_raised(ready: WindowParts, expect_log, qtbot: QtBot):
    expect_log("state cannot be saved")
    ready.form.flush()
    (ready.home / "data").mkdir(exist_ok=True)
    session = ready.home / "data" / "session.json"
    session.unlink(missing_ok=True)
    session.mkdir()
    ready.form.set_prompt("typed")
    ready.form.flush()
    assert ready.form.form.prompt == "typed"


def test_defaults_are_the_demos_before_the_catalog_is_read(parts: WindowParts):
    assert parts.form.values() == ModelDefaults()
