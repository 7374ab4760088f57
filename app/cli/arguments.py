"""What may be typed, and the sentences for what may not."""

import argparse
import difflib
import logging
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, cast

from app import __version__
from app.cli.argument_types import (
    MAX_WAIT_S,
    add_weights,
    decimal,
    device,
    gibibytes,
    waiting_seconds,
    whole,
)
from app.cli.attention_argument import add_attention
from app.cli.models_arguments import ModelsArguments, add_models, models_arguments
from app.cli.plan_arguments import PlanArguments, add_plan, plan_arguments
from app.cli.presets_arguments import PresetsArguments, add_presets, presets_arguments
from app.cli.reference_arguments import add_references
from app.core.errors import RequestError
from app.core.jobs import DEFAULT_WAIT_S
from app.core.policy import Attention, MemoryMode, Precision

TOP_LEVEL_OPTIONS = ("--help", "-h", "--version")
_LOG_LEVELS = ("debug", "info", "warning", "error")
_EPILOG = """\
Without a verb the window opens; files named then are opened in it.

exit codes: 0 done, 1 failed, 2 the arguments cannot be used, 130 interrupted with Ctrl+C
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateArguments:
    """What `generate` was asked for; None means the model's or the user's default."""

    prompt: str
    model: str
    width_px: int | None
    height_px: int | None
    steps: int | None
    guidance: float | None
    seed: int | None
    images: int
    out: str | None
    device: str | None
    metadata: bool | None
    preset: str | None
    strict: bool
    headroom_gib: float | None
    precision: Precision | None
    memory: MemoryMode | None
    attention: Attention | None
    as_json: bool
    wait_s: float | None = None
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """A whole command; `generate`, `plan`, `models` and `presets` are set for those only."""

    verb: str
    log_level: int
    as_json: bool
    generate: GenerateArguments | None = None
    plan: PlanArguments | None = None
    models: ModelsArguments | None = None
    presets: PresetsArguments | None = None
    calibrate: bool = False
    device: str | None = None


def parse(argv: Sequence[str]) -> Arguments:
    """The command in the arguments.

    Raises:
        RequestError: They are none.
        SystemExit: Help or version was asked for and has been shown.
    """
    parser = _parser()
    if argv and argv[0].startswith("-") and argv[0] not in TOP_LEVEL_OPTIONS:
        # The parser itself would ask for a verb.
        parser.error(f"there is no option {argv[0][:40]} in front of a verb")
    parser.check_options(argv)
    found = parser.parse_args(argv)
    if found.verb == "doctor" and found.device is not None and not found.calibrate:
        parser.error("--device says what --calibrate measures: give both or none")
    generate = None
    if found.verb == "generate":
        generate = GenerateArguments(
            prompt=found.prompt,
            model=found.model,
            width_px=found.width,
            height_px=found.height,
            steps=found.steps,
            guidance=found.guidance,
            seed=found.seed,
            images=found.images,
            out=found.out,
            device=found.device,
            metadata=False if found.no_metadata else None,
            preset=found.preset,
            strict=found.strict,
            headroom_gib=found.headroom_gib,
            precision=found.precision,
            memory=found.memory,
            attention=found.attention,
            as_json=found.json,
            wait_s=found.wait,
            references=tuple(found.reference),
        )
    return Arguments(
        verb=found.verb,
        log_level=logging.getLevelNamesMapping()[found.log_level.upper()],
        as_json=found.json,
        generate=generate,
        plan=plan_arguments(found) if found.verb == "plan" else None,
        models=models_arguments(found) if found.verb == "models" else None,
        presets=presets_arguments(found) if found.verb == "presets" else None,
        calibrate=found.verb == "doctor" and found.calibrate,
        device=getattr(found, "device", None),
    )


class _Parser(argparse.ArgumentParser):
    def check_options(self, argv: Sequence[str]) -> None:
        """Refuse an option that no parser on the way knows, and say which one was meant.

        argparse itself would first miss the option that was mistyped.
        """
        verbs: dict[str, _Parser] = {}
        for action in self._actions:
            choices: Any = action.choices
            if isinstance(choices, Mapping):
                verbs = cast("dict[str, _Parser]", choices)
        for index, typed in enumerate(argv):
            if typed == "--":
                return
            if typed in verbs:
                verbs[typed].check_options(argv[index + 1 :])
                return
            if verbs and index == 0 and not typed.startswith("-"):
                return  # No such verb, which is to be said first.
            name = typed.partition("=")[0]
            # What has a space in it is a text that begins with dashes.
            if not typed.startswith("--") or " " in typed or name in self._option_string_actions:
                continue
            near = difflib.get_close_matches(name, self._option_string_actions, n=1)
            hint = f": did you mean {near[0]}?" if near else ""
            self.error(f"there is no option {name[:40]}{hint}")

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing: the caller knows how errors are to be told."""
        sentence = message[:1].upper() + message[1:].rstrip(".")
        raise RequestError(
            f"{sentence}; see “{self.prog} --help”.",
            code="request.arguments",
            details=self.format_usage(),
        )


def _parser() -> _Parser:
    parser = _Parser(
        prog="headroom",
        description="A desktop studio for FLUX.2, on the command line.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"headroom {__version__} (Python {platform.python_version()})",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    generate = verbs.add_parser("generate", help="make images of a prompt", allow_abbrev=False)
    _add_generate(generate)
    plan = verbs.add_parser(
        "plan", help="say what a run would need, and whether it fits", allow_abbrev=False
    )
    add_plan(plan)
    models = verbs.add_parser(
        "models", help="list the models, and what is kept on the disk", allow_abbrev=False
    )
    add_models(models)
    presets = verbs.add_parser("presets", help="how memory is used on this GPU", allow_abbrev=False)
    add_presets(presets)
    doctor = verbs.add_parser(
        "doctor", help="say what is missing on this machine", allow_abbrev=False
    )
    _add_doctor(doctor)
    bench = verbs.add_parser(
        "bench", help="measure computing, copying and streaming here", allow_abbrev=False
    )
    _add_bench(bench)
    for verb in (generate, plan, models, presets, doctor, bench):
        verb.add_argument("--json", action="store_true", help="JSON on stdout, for programs")
        verb.add_argument(
            "--log-level",
            choices=_LOG_LEVELS,
            default="info",
            help="what the log file keeps; debug also goes to stderr (default: info)",
        )
    return parser


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--calibrate",
        action="store_true",
        help="instead, measure how fast the device, its link and the disk are, for plans",
    )
    parser.add_argument(
        "--device",
        type=device,
        metavar="D",
        help="to calibrate: auto, cpu, cuda, cuda:1, ... (default: as in the settings)",
    )


def _add_bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        type=device,
        metavar="D",
        help="to measure: auto, cpu, cuda, cuda:1, ... (default: as in the settings)",
    )


def _add_generate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prompt", required=True, metavar="TEXT", help="what to draw")
    parser.add_argument(
        "--model",
        default="demo",
        metavar="NAME_OR_FOLDER",
        help="a name that “headroom models” lists, or a folder (default: demo)",
    )
    for name, kind, what in (
        ("width", whole, "in pixels, 64 to 8192; rounded to a multiple of 16"),
        ("height", whole, "in pixels, 64 to 8192; rounded to a multiple of 16"),
        ("steps", whole, "denoising steps, 1 to 1000"),
        ("guidance", decimal, "guidance scale, 0 to 100; distilled models ignore it"),
    ):
        whose = "the preset's, else the model's" if name in {"steps", "guidance"} else "the model's"
        parser.add_argument(f"--{name}", type=kind, metavar="N", help=f"{what} (default: {whose})")
    parser.add_argument(
        "--seed",
        type=whole,
        metavar="N",
        help="of the first image, 0 to 2**64 - 1; image i has seed + i (default: random, and told)",
    )
    parser.add_argument(
        "--images", type=whole, default=1, metavar="N", help="how many, 1 to 64 (default: 1)"
    )
    add_references(parser)
    parser.add_argument(
        "--out",
        metavar="FILE_OR_FOLDER",
        help="a .png file, which is replaced (further images get the next free -2, -3 ... and "
        "replace nothing), or a folder (default: the pictures folder)",
    )
    parser.add_argument(
        "--device",
        type=device,
        metavar="D",
        help="auto, cpu, cuda, cuda:1, xpu, ... (default: as in the settings)",
    )
    parser.add_argument(
        "--no-metadata", action="store_true", help="leave the settings out of the PNG"
    )
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help="how memory is used, see “headroom presets list”; “none” is without one "
        "(default: this GPU's)",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="never fewer images or a smaller size: say what is missing instead",
    )
    parser.add_argument(
        "--headroom-gib",
        type=gibibytes,
        metavar="X",
        help="left free for other programs, of the GPU or, on the CPU, of the RAM (an eighth of it "
        "at most)",
    )
    parser.add_argument(
        "--wait",
        type=waiting_seconds,
        metavar="SECONDS",
        help="how long to wait for GPU memory that other programs hold, before anything is given "
        f"up for it, 0 to {MAX_WAIT_S:.0f} (default: {DEFAULT_WAIT_S:.0f}, and 0 in strict mode)",
    )
    add_weights(parser, otherwise="the preset's")
    add_attention(parser)
