"""What `presets` may be asked."""

import argparse
from dataclasses import dataclass

from app.cli.argument_types import (
    PRECISIONS,
    decimal,
    device,
    gibibytes,
    memory_mode,
    precision,
    whole,
)
from app.cli.attention_argument import attention
from app.core.policy import AUTOENCODER_PRECISIONS, Attention, MemoryMode, Precision

TILE_AUTO = "auto"
TILE_WHOLE = "whole"


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveOptions:
    """What a preset to be saved has of its own; None leaves it as in the preset it begins with.

    Attributes:
        base: Name of the preset it begins with; None is the one in use here.
        replacing: Whether a preset of the same name is replaced.
        any_gpu: Whether it is for every GPU instead of this one.
        model: It is for.
        headroom_gib: Left free of the GPU, or of the RAM on the CPU.
        limit_gib: Never more than this of the device; 0 is no limit.
        ram_headroom_gib: Left free of the RAM.
        mode: How eagerly weights stay on the GPU.
        tile: "auto", "whole" or a number of pixels.
        strict: Never fewer images, never a smaller size.
        upscale_back: Resample what was made smaller.
        attention: What computes it.
        compile: Compile the blocks that repeat.
        text_encoder: Precision of its weights.
        transformer: Precision of its weights.
        autoencoder: Precision of its weights.
        max_side: Of an image, in pixels; 0 is no limit.
        max_pixels: Of an image; 0 is no limit.
        max_images: At once; 0 is no limit.
        steps: To begin with; 0 is the model's.
        guidance: To begin with.
    """

    base: str | None
    replacing: bool
    any_gpu: bool
    model: str | None
    headroom_gib: float | None
    limit_gib: float | None
    ram_headroom_gib: float | None
    mode: MemoryMode | None
    tile: str | None
    strict: bool | None
    upscale_back: bool | None
    attention: Attention | None
    compile: bool | None
    text_encoder: Precision | None
    transformer: Precision | None
    autoencoder: Precision | None
    max_side: int | None
    max_pixels: int | None
    max_images: int | None
    steps: int | None
    guidance: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetsArguments:
    """What `presets` was asked.

    Attributes:
        action: "list", "show", "save", "apply", "rename", "delete", "import" or "export".
        name: Of the preset, where the action has one; None with "apply" is the automatic choice.
        target: The file of "import" and "export", the new name of "rename".
        device: Of this machine; None is as in the settings.
        save: For "save" only.
        as_json: For programs.
    """

    action: str
    name: str | None
    target: str | None
    device: str | None
    save: SaveOptions | None
    as_json: bool


def add_presets(parser: argparse.ArgumentParser) -> None:
    """Let a parser take them."""
    parser.add_argument(
        "--device",
        type=device,
        metavar="D",
        help="of this machine: auto, cpu, cuda, cuda:1, ... (default: as in the settings)",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def add(name: str, what: str) -> argparse.ArgumentParser:
        action = actions.add_parser(name, help=what, allow_abbrev=False)
        # After the action too; what was said before it counts unless it is said again.
        action.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
        return action

    add("list", "all presets; a star marks the one in use")
    add("show", "what a preset says").add_argument("name", metavar="NAME")
    save = add("save", "save a preset for this GPU: the one in use, with these changes")
    save.add_argument("name", metavar="NAME")
    _add_save(save)
    apply = add("apply", "make a preset the default of this GPU")
    which = apply.add_mutually_exclusive_group(required=True)
    which.add_argument("name", nargs="?", metavar="NAME")
    which.add_argument(
        "--automatic", action="store_true", help="have it chosen by GPU and model again"
    )
    rename = add("rename", "give a preset of yours another name")
    rename.add_argument("name", metavar="NAME")
    rename.add_argument("target", metavar="NEW_NAME")
    add("delete", "move a preset of yours to the trash").add_argument("name", metavar="NAME")
    add("import", "take a preset from a file").add_argument("target", metavar="FILE")
    export = add("export", "write a preset to a file that does not exist, or into a folder")
    export.add_argument("name", metavar="NAME")
    export.add_argument("target", metavar="FILE")


def presets_arguments(found: argparse.Namespace) -> PresetsArguments:
    """What the parser has taken."""
    return PresetsArguments(
        action=found.action,
        name=getattr(found, "name", None),
        target=getattr(found, "target", None),
        device=found.device,
        save=_save_options(found) if found.action == "save" else None,
        as_json=found.json,
    )


def _add_save(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--from", dest="base", metavar="NAME", help="begin with this preset (default: in use here)"
    )
    parser.add_argument("--replace", action="store_true", help="replace a preset of this name")
    parser.add_argument("--any-gpu", action="store_true", help="for every GPU, not for this one")
    parser.add_argument("--model", metavar="NAME", help="for this model only")
    for option, kind, what in (
        ("headroom-gib", gibibytes, "left free on the GPU"),
        ("limit-gib", gibibytes, "never more than this of the GPU; 0 is no limit"),
        ("ram-headroom-gib", gibibytes, "left free of the RAM"),
    ):
        parser.add_argument(f"--{option}", type=kind, metavar="X", help=what)
    parser.add_argument(
        "--mode",
        "--memory",
        type=memory_mode,
        metavar="MODE",
        help="how eagerly weights stay on the GPU: " + ", ".join(mode.value for mode in MemoryMode),
    )
    parser.add_argument("--tile", metavar="PX", help="auto, whole, or a side in pixels")
    for option, what in (
        ("strict", "never fewer images or a smaller size"),
        ("upscale-back", "resample what was made smaller to the size asked for"),
        ("compile", "compile the blocks that repeat, where that works"),
    ):
        parser.add_argument(f"--{option}", action=argparse.BooleanOptionalAction, help=what)
    parser.add_argument(
        "--attention",
        type=attention,
        metavar="KIND",
        help=f"what computes attention: {', '.join(kind.value for kind in Attention)}",
    )
    for option in ("text-encoder", "transformer"):
        parser.add_argument(
            f"--{option}",
            type=precision,
            metavar="P",
            help=f"precision of its weights: {', '.join(PRECISIONS)}",
        )
    parser.add_argument(
        "--autoencoder",
        choices=[one.value for one in AUTOENCODER_PRECISIONS],
        help="precision of its weights",
    )
    for option, what in (
        ("max-side", "longest side in pixels; 0 is no limit"),
        ("max-pixels", "width times height; 0 is no limit"),
        ("max-images", "at once; 0 is no limit"),
        ("steps", "denoising steps to begin with; 0 is the model's"),
    ):
        parser.add_argument(f"--{option}", type=whole, metavar="N", help=what)
    parser.add_argument("--guidance", type=decimal, metavar="X", help="guidance to begin with")


def _save_options(found: argparse.Namespace) -> SaveOptions:
    return SaveOptions(
        base=found.base,
        replacing=found.replace,
        any_gpu=found.any_gpu,
        model=found.model,
        headroom_gib=found.headroom_gib,
        limit_gib=found.limit_gib,
        ram_headroom_gib=found.ram_headroom_gib,
        mode=found.mode,
        tile=found.tile,
        strict=found.strict,
        upscale_back=found.upscale_back,
        attention=found.attention,
        compile=found.compile,
        text_encoder=found.text_encoder,
        transformer=found.transformer,
        autoencoder=None if found.autoencoder is None else Precision(found.autoencoder),
        max_side=found.max_side,
        max_pixels=found.max_pixels,
        max_images=found.max_images,
        steps=found.steps,
        guidance=found.guidance,
    )
