"""What `plan` may be asked."""

import argparse
from dataclasses import dataclass

from app.cli.argument_types import (
    add_weights,
    decimal,
    device,
    gibibytes,
    memory_size,
    whole,
)
from app.cli.reference_arguments import add_planned_references
from app.core.policy import MemoryMode, Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanArguments:
    """What `plan` was asked; None means the preset's or the model's, or this machine's own figure.

    Attributes:
        model: A known name, or a folder.
        prompt: What would be drawn; it counts only where its embeddings are kept.
        width_px: Of the images.
        height_px: Of the images.
        images: How many.
        steps: Denoising steps.
        guidance: Guidance scale.
        references: How many reference images of about a megapixel.
        reference: Files, or sizes such as "1600x1200", of further ones.
        preset: Name of one; "none" is without any.
        precision: Of text encoder and transformer.
        memory: How eagerly weights stay on the GPU.
        tile_px: Side of decode tiles; 0 is whole.
        strict: Never fewer images, never a smaller size.
        vram_gib: Of a GPU to plan for instead of this machine's.
        ram_gib: Of a computer to plan for instead of this one.
        headroom_gib: Left free of the GPU, or of the RAM on the CPU.
        limit_gib: Never more than this of the device.
        device: Of this machine.
        solve: Also say what would fit.
        as_json: For programs.
    """

    model: str
    prompt: str | None
    width_px: int | None
    height_px: int | None
    images: int
    steps: int | None
    guidance: float | None
    references: int
    reference: tuple[str, ...]
    preset: str | None
    precision: Precision | None
    memory: MemoryMode | None
    tile_px: int | None
    strict: bool
    vram_gib: float | None
    ram_gib: float | None
    headroom_gib: float | None
    limit_gib: float | None
    device: str | None
    solve: bool
    as_json: bool


def add_plan(parser: argparse.ArgumentParser) -> None:
    """Let a parser take them."""
    parser.add_argument(
        "--model",
        default="demo",
        metavar="NAME_OR_FOLDER",
        help="a name that “headroom models” lists, installed or not, or a folder (default: demo)",
    )
    parser.add_argument(
        "--prompt",
        metavar="TEXT",
        help="what would be drawn: one that was drawn before needs no text encoder again",
    )
    for name, what in (
        ("width", "in pixels, 64 to 8192; rounded to a multiple of 16"),
        ("height", "in pixels, 64 to 8192; rounded to a multiple of 16"),
        ("steps", "denoising steps, 1 to 1000"),
    ):
        whose = "the preset's, else the model's" if name == "steps" else "the model's"
        parser.add_argument(f"--{name}", type=whole, metavar="N", help=f"{what} (default: {whose})")
    parser.add_argument(
        "--guidance",
        type=decimal,
        metavar="N",
        help="guidance scale (default: the preset's, else the model's)",
    )
    parser.add_argument(
        "--images", type=whole, default=1, metavar="N", help="how many, 1 to 64 (default: 1)"
    )
    add_planned_references(parser)
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help="how memory is used, see “headroom presets list”; “none” is without one "
        "(default: this GPU's; with --vram-gib: none)",
    )
    add_weights(parser, otherwise="the preset's")
    parser.add_argument(
        "--tile",
        type=whole,
        metavar="PX",
        help="side of decode tiles; 0 decodes whole (default: the preset's, else as memory allows)",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="never fewer images or a smaller size: say what is missing instead",
    )
    parser.add_argument(
        "--vram-gib",
        type=memory_size,
        metavar="X",
        help="plan for a GPU with so much memory, all of it free, instead of this machine's",
    )
    parser.add_argument(
        "--ram-gib",
        type=memory_size,
        metavar="Y",
        help="plan for a computer with so much RAM (default: this one's; with --vram-gib: plenty)",
    )
    parser.add_argument(
        "--headroom-gib",
        type=gibibytes,
        metavar="Z",
        help="left free for other programs, of the GPU or, on the CPU, of the RAM (an eighth of it "
        "at most) "
        "(default: the preset's)",
    )
    parser.add_argument(
        "--limit-gib",
        type=memory_size,
        metavar="L",
        help="never more than this of the GPU's memory (default: the preset's)",
    )
    parser.add_argument(
        "--device",
        type=device,
        metavar="D",
        help="of this machine: auto, cpu, cuda, cuda:1, ... (default: as in the settings); "
        "not beside --vram-gib",
    )
    parser.add_argument(
        "--solve", action="store_true", help="also say what would fit: size, images, references"
    )


def plan_arguments(found: argparse.Namespace) -> PlanArguments:
    """What the parser has taken."""
    return PlanArguments(
        model=found.model,
        prompt=found.prompt,
        width_px=found.width,
        height_px=found.height,
        images=found.images,
        steps=found.steps,
        guidance=found.guidance,
        references=found.references,
        reference=tuple(found.reference),
        preset=found.preset,
        precision=found.precision,
        memory=found.memory,
        tile_px=found.tile,
        strict=found.strict,
        vram_gib=found.vram_gib,
        ram_gib=found.ram_gib,
        headroom_gib=found.headroom_gib,
        limit_gib=found.limit_gib,
        device=found.device,
        solve=found.solve,
        as_json=found.json,
    )
