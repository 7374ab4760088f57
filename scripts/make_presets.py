"""Make the presets that come with the app, from the planner: `python -m scripts.make_presets`.

To be run again when the planner or the forecast changes; a test compares the files with this.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from app.core.policy import MemoryPolicy
from app.core.preset import Preset, PresetLimits
from app.core.preset_file import preset_text
from app.core.request import MAX_SIZE_PX, GenerationRequest
from app.core.units import GIB
from app.engine.coefficients import ModelCoefficients, shipped_coefficients
from app.engine.machine import described_device, described_host
from app.engine.solver import Solver

FOLDER = Path(__file__).resolve().parents[1] / "resources" / "presets"
MODELS = ("klein-9b", "klein-4b")
"""Recommended ones, the better first."""
USUAL_PX = 1024
MADE_FOR_PX = 2048
"""Side of the largest square that FLUX.2 was made for: the better model is taken if it fits so."""
STEP_PX = 64
"""Limits are rounded down to it, so that a byte more or less changes no file."""
WIDEST = 2
"""The longest side, over that of the square of the same area: four times as wide as high."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardClass:
    """A class of GPUs, and the computer that is usually around one.

    Attributes:
        vram_gib: Of the smallest card of the class.
        ram_gib: Of the computer; what is streamed waits there.
        headroom_gib: Left for the desktop: more where more screens and programs are usual.
    """

    vram_gib: int
    ram_gib: int
    headroom_gib: float


CLASSES = (
    CardClass(vram_gib=6, ram_gib=32, headroom_gib=0.5),
    CardClass(vram_gib=8, ram_gib=32, headroom_gib=0.5),
    CardClass(vram_gib=12, ram_gib=32, headroom_gib=0.75),
    CardClass(vram_gib=16, ram_gib=32, headroom_gib=1.0),
    CardClass(vram_gib=24, ram_gib=64, headroom_gib=1.5),
    CardClass(vram_gib=32, ram_gib=64, headroom_gib=2.0),
)


def preset_for(card: CardClass) -> tuple[Preset, str]:
    """The preset of a class, and the name of the model its limits are for.

    Raises:
        LookupError: None of the models fits, which the planner has to answer for.
    """
    policy = MemoryPolicy(headroom_bytes=round(card.headroom_gib * GIB))
    for name in MODELS:
        coefficients = shipped_coefficients(name)
        side_px = 0 if coefficients is None else largest_square_px(card, policy, coefficients)
        if side_px >= MADE_FOR_PX:
            side_px -= side_px % STEP_PX
            last = card is CLASSES[-1]
            limits = PresetLimits(
                max_side_px=min(MAX_SIZE_PX, WIDEST * side_px), max_pixels=side_px**2
            )
            preset = Preset(
                name=f"{card.vram_gib} GB{' and more' if last else ''}",
                vram_bytes=card.vram_gib * GIB,
                policy=policy,
                # The largest cards differ too much for one limit.
                limits=PresetLimits() if last else limits,
            )
            return preset, name
    raise LookupError(f"nothing fits on {card.vram_gib} GB")


def largest_square_px(
    card: CardClass, policy: MemoryPolicy, coefficients: ModelCoefficients
) -> int:
    """Side of the largest square picture, or 0."""
    request = GenerationRequest(
        prompt=".",
        model=coefficients.name,
        width_px=USUAL_PX,
        height_px=USUAL_PX,
        steps=coefficients.default_steps,
    )
    device, host = described_device(card.vram_gib, growing=False), described_host(card.ram_gib)
    found = Solver(request, device, host, policy, coefficients).largest_size()
    return 0 if found is None else found.request.width_px


def files() -> dict[str, str]:
    """Names and texts of all files."""
    made: dict[str, str] = {}
    for card in CLASSES:
        preset, model = preset_for(card)
        head = (
            f"# For GPUs with {preset.name} of memory, made by scripts/make_presets.py.\n"
            f"# Best there, with {card.ram_gib} GB of RAM: {model}.\n"
        )
        made[f"{card.vram_gib:02d}-gb.toml"] = head + preset_text(preset)
    return made


def main() -> int:
    """Write the files; returns the exit code."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    made = files()
    for old in FOLDER.glob("*.toml"):
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text, encoding="utf-8", newline="\n")
        print(FOLDER / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
