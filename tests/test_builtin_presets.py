"""The presets that come with the app are those the planner makes, and hold what they promise."""

from pathlib import Path

import pytest

from app.core.paths import resource
from app.core.plan import Verdict
from app.core.policy import Precision
from app.core.preset import Preset
from app.core.preset_file import read_preset
from app.core.preset_store import PresetStore
from app.core.request import MAX_SIZE_PX, GenerationRequest
from app.core.units import GIB
from app.engine.coefficients import shipped_coefficients
from app.engine.machine import described_device, described_host
from app.engine.planner import plan_generation
from scripts.make_presets import CLASSES, CardClass, files, preset_for


def test_the_files_are_what_the_script_makes():
    folder = resource("presets")
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert found == files(), "run scripts/make_presets.py and commit what it writes"


def test_the_files_are_understood_whole(tmp_path: Path):
    entries = PresetStore(tmp_path).entries()
    assert [entry.name for entry in entries] == [
        "6 GB",
        "8 GB",
        "12 GB",
        "16 GB",
        "24 GB",
        "32 GB and more",
    ]
    for entry in entries:
        assert entry.builtin
        assert entry.whole
        assert read_preset(entry.path.read_bytes(), name="x").preset == entry.preset
        # Nothing is asked for that cannot run.
        precisions = entry.preset.policy.precisions
        assert {precisions.transformer, precisions.text_encoder, precisions.autoencoder} == {
            Precision.AUTO
        }


@pytest.mark.parametrize("card", CLASSES, ids=lambda card: f"{card.vram_gib}-gb")
def test_the_largest_picture_of_a_preset_fits(card: CardClass):
    preset, model = preset_for(card)
    side = int((preset.limits.max_pixels or 2048**2) ** 0.5)
    assert side >= 2048
    wide = preset.limits.max_side_px or 2 * side
    low = (side * side // wide) // 16 * 16
    for width, height in ((side, side), (1024, 1024), (wide, low), (low, wide)):
        plan = plan_on(card, preset, model, width, height)
        assert plan.verdict in {Verdict.FITS, Verdict.STREAMS}, (width, height, plan.reasons)
        assert (plan.width_px, plan.height_px, plan.images) == (width, height, 1)


@pytest.mark.parametrize("card", CLASSES[:-1], ids=lambda card: f"{card.vram_gib}-gb")
def test_what_is_above_the_limits_is_made_smaller(card: CardClass):
    preset, model = preset_for(card)
    plan = plan_on(card, preset, model, MAX_SIZE_PX, MAX_SIZE_PX)
    assert plan.verdict is Verdict.SMALLER
    assert plan.width_px**2 <= (preset.limits.max_pixels or 0)


def test_every_card_gets_the_preset_of_its_class(tmp_path: Path):
    store = PresetStore(tmp_path)
    for card in CLASSES:
        best = store.best_for("Some GPU", card.vram_gib * GIB, "klein-4b")
        assert best is not None
        assert best.preset.vram_bytes == card.vram_gib * GIB


def plan_on(card: CardClass, preset: Preset, model: str, width_px: int, height_px: int):
    coefficients = shipped_coefficients(model)
    assert coefficients is not None
    return plan_generation(
        GenerationRequest(prompt=".", model=model, width_px=width_px, height_px=height_px, steps=4),
        described_device(card.vram_gib),
        described_host(card.ram_gib),
        preset.policy,
        coefficients,
        preset.limits,
    )


def test_the_page_about_presets_is_true():
    page = (Path(__file__).resolve().parents[1] / "docs" / "presets.md").read_text(encoding="utf-8")
    example = page.partition("```toml\n")[2].partition("```")[0]
    read = read_preset(example.encode(), name="x")
    assert read.problems == ()
    assert read.preset.limits.max_images == 4
    for card in CLASSES:
        preset, model = preset_for(card)
        pixels = preset.limits.max_pixels
        side = None if pixels is None else round(pixels**0.5)
        size = "no limit" if side is None else f"{side} × {side} px"
        row = f"| {preset.name} | {card.headroom_gib:g} GB | {size} | {model}, {card.ram_gib} GB of"
        assert row in page, "the table of docs/presets.md is out of date"
