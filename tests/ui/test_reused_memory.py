"""Precision, memory mode and attention of a picture, brought back; and taken out again."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtWidgets import QLabel, QToolButton
from pytestqt.qtbot import QtBot

from app.core.metadata import ImageRecord, record_from_json, record_to_json
from app.core.plan import GenerationPlan
from app.core.policy import Attention, MemoryMode, MemoryPolicy, Precision, Precisions
from app.core.request import GenerationRequest
from app.core.units import GIB
from app.ui.main_window import MainWindow
from app.ui.models.memory_choices import fidelity, given_precision
from app.ui.models.picture_memory import PictureMemory
from app.ui.models.policy_file import PolicyState
from app.ui.models.reused_memory import reused_memory
from app.ui.widgets.choice_box import ChoiceBox
from tests.fakes.described import machine
from tests.fakes.plans import plan
from tests.fakes.widgets import child
from tests.fakes.window import WindowParts

NAMES = ("text_encoder", "transformer", "autoencoder")


def picture(ran_in: str, asked: str = "", **changes: Any) -> PictureMemory:
    """One whose networks all ran so; its autoencoder in bf16."""
    values: dict[str, Any] = {
        "ran_in": {**dict.fromkeys(NAMES, ran_in), "autoencoder": "bf16"},
        "asked": {**dict.fromkeys(NAMES, asked), "autoencoder": "auto"} if asked else {},
        "mode": "auto",
        "attention": "auto",
    }
    return PictureMemory(**{**values, **changes})


def runs_in(precision: Precision) -> GenerationPlan:
    """What automatic comes to here."""
    made = plan()
    *others, autoencoder = made.components
    return replace(
        made, components=(*(replace(one, precision=precision) for one in others), autoencoder)
    )


def test_everything_that_was_asked_for_comes_back_and_is_said():
    given = picture("fp8", "fp8", mode="minimal", attention="chunked", compiled=True)
    given = replace(given, tells_tiles=True, tile_px=512)
    before = MemoryPolicy(headroom_bytes=3 * GIB, limit_bytes=9 * GIB, strict=True)
    found = reused_memory(given, before, runs_in(Precision.FP8))
    fp8 = Precisions(text_encoder=Precision.FP8, transformer=Precision.FP8)
    assert found.policy == replace(
        before,
        precisions=fp8,
        mode=MemoryMode.MINIMAL,
        attention=Attention.CHUNKED,
        compile=True,
        tile_px=512,
    )
    assert found.sentences() == (
        "Changed under Memory: weights in: fp8, on the GPU: as little as possible, attention: in "
        "parts, blocks are compiled, decode tiles: 512 px.",
    )


@pytest.mark.parametrize(
    ("ran_in", "asked", "here", "chosen"),
    [
        ("fp8", "auto", Precision.FP8, Precision.AUTO),
        ("fp8", "auto", Precision.BF16, Precision.FP8),
        ("bf16", "auto", Precision.NF4, Precision.BF16),
        ("fp32", "auto", Precision.BF16, Precision.AUTO),
        ("fp8", "auto", None, Precision.AUTO),
        ("fp8", "", Precision.FP8, Precision.AUTO),
        ("fp8", "", None, Precision.FP8),
        ("fp8", "fp8", Precision.FP8, Precision.FP8),
    ],
)
def test_automatic_stays_automatic_where_the_picture_comes_out_the_same(
    ran_in: str, asked: str, here: Precision | None, chosen: Precision
):
    automatic = None if here is None else runs_in(here)
    found = reused_memory(picture(ran_in, asked), MemoryPolicy(), automatic)
    assert found.policy.precisions.transformer is chosen
    assert found.policy.precisions.text_encoder is chosen


def test_what_is_unknown_is_left_and_said():
    given = picture("fp6", "fp6", mode="magic", attention="x" * 90)
    before = MemoryPolicy(
        mode=MemoryMode.BALANCED, precisions=Precisions(transformer=Precision.INT8)
    )
    found = reused_memory(given, before, None)
    assert found.policy == replace(
        before, precisions=replace(before.precisions, autoencoder=Precision.AUTO)
    )
    (said,) = found.sentences()
    assert said == (
        "Unknown here, and left as it was: precision “fp6”, memory mode “magic”, attention "
        f"“{'x' * 19}…”."
    )


def test_an_autoencoder_is_never_quantized_whatever_a_picture_says():
    given = replace(picture("fp8"), ran_in={"autoencoder": "fp8"})
    found = reused_memory(given, MemoryPolicy(), None)
    assert found.policy == MemoryPolicy()
    assert found.unknown == ("precision “fp8”",)


def test_a_picture_that_tells_nothing_changes_nothing_and_that_is_said():
    record = record_from_json(record_to_json(ImageRecord(request=GenerationRequest(prompt="a"))))
    assert record is not None
    policy = MemoryPolicy(compile=True, tile_px=256, attention=Attention.MATH)
    found = reused_memory(PictureMemory.of_record(record), policy, None)
    assert found.policy == policy
    assert found.untold
    assert len(found.sentences()) == 1


def test_a_file_and_a_run_of_this_session_tell_the_same():
    asked = Precisions(transformer=Precision.FP8)
    policy = MemoryPolicy(mode=MemoryMode.MINIMAL, precisions=asked, attention=Attention.MATH)
    made = runs_in(Precision.FP8)
    record = ImageRecord(
        request=GenerationRequest(prompt="a"),
        precisions={one.name: one.precision.value for one in made.components},
        memory_mode="minimal",
        asked_precisions={"text_encoder": "auto", "transformer": "fp8", "autoencoder": "auto"},
        asked_attention="math",
    )
    told = PictureMemory.of_record(record)
    assert told == replace(PictureMemory.of_run(policy, made), compiled=False)


# In the window.


@pytest.fixture
def window(ready: WindowParts, qtbot: QtBot) -> MainWindow:
    """On a GPU of 12 GB, for which something was chosen before."""
    made = ready.window()
    qtbot.addWidget(made)
    made.show()
    sample = machine()
    assert sample.device is not None
    ready.planning.policy.set_device(sample.device.name)
    ready.planning.policy.set_state(PolicyState(policy=MemoryPolicy(headroom_bytes=GIB)))
    ready.planning.on_sample(sample)
    qtbot.waitUntil(lambda: ready.planning.plans.state.plan is not None)
    return made


def test_a_dropped_picture_brings_its_memory_back_and_undo_takes_all_of_it_out(
    window: MainWindow, ready: WindowParts, qtbot: QtBot, tmp_path: Path
):
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    record = ImageRecord(
        request=GenerationRequest(prompt="theirs", model="dev", seed=7),
        seed=7,
        precisions={**dict.fromkeys(NAMES, "int8"), "autoencoder": "bf16"},
        memory_mode="minimal",
        asked_precisions=dict.fromkeys(NAMES, "auto"),
        asked_attention="auto",
    )
    text = PngInfo()
    text.add_itxt("headroom", record_to_json(record))
    path = tmp_path / "theirs.png"
    Image.new("RGB", (16, 16)).save(path, pnginfo=text)
    ready.form.set_prompt("mine")
    before = (ready.form.form, ready.planning.policy.state)
    window.open_files((str(path),))
    policy = ready.planning.policy.policy
    assert (policy.mode, policy.headroom_bytes) == (MemoryMode.MINIMAL, GIB)
    assert policy.precisions.transformer is Precision.INT8
    assert child(window, ChoiceBox, "memory_precision").value is Precision.INT8
    assert ready.form.form.prompt == "theirs"
    bar = child(window, QLabel, "window_message_text")
    assert bar.isVisible()
    assert "weights in: int8" in bar.text()
    child(window, QToolButton, "window_message_undo_use").click()
    assert not bar.isVisible()
    assert (ready.form.form, ready.planning.policy.state) == before
    # Undone once is undone: what is chosen afterwards stays.
    ready.form.set_prompt("later")
    ready.studio.undo_use()
    assert ready.form.form.prompt == "later"


def test_what_is_said_goes_with_the_next_picture(window: MainWindow, ready: WindowParts):
    ready.studio.use(GenerationRequest(prompt="theirs"))
    bar = child(window, QLabel, "window_message_text")
    assert bar.isVisible()
    assert bar.text() == "The picture's settings are back."
    ready.studio.generate()
    assert not bar.isVisible()


@pytest.mark.parametrize("asked", ["auto", "nf4"])
def test_of_weights_that_others_have_quantized_only_what_was_asked_comes_back(asked: str):
    given = picture("gguf Q8_0", asked)
    found = reused_memory(given, MemoryPolicy(), runs_in(Precision.FP8))
    assert found.unknown == ()
    assert found.policy.precisions.transformer is Precision(asked)
    run = PictureMemory.of_run(MemoryPolicy(), stored("gguf Q8_0"))
    assert run.ran_in["transformer"] == "gguf Q8_0"


def stored(word: str) -> GenerationPlan:
    """Of a transformer that others have quantized."""
    made = plan()
    return replace(
        made,
        components=tuple(
            replace(one, precision=Precision.FP8, stored_as=word)
            if one.name == "transformer"
            else one
            for one in made.components
        ),
    )


@pytest.mark.parametrize(("word", "hinted"), [("fp8", True), ("gguf Q8_0", False)])
@pytest.mark.parametrize("chosen", [Precision.AUTO, Precision.NF4])
def test_memory_choices_tell_what_others_have_stored(word: str, chosen: Precision, *, hinted: bool):
    made = stored(word)
    encoder = made.component("text_encoder").precision.value
    assert given_precision(made) == f"{word}, text encoder {encoder}"
    assert fidelity(chosen, made) == (fidelity(Precision.FP8, None) if hinted else "")
