"""From arguments to a request and a place for its images; everything wrong gets a sentence."""

import errno
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from app.cli.arguments import GenerateArguments
from app.cli.references import reference_paths
from app.core.errors import RequestError
from app.core.events import Notice
from app.core.folder_check import obstacle_to_writing
from app.core.jobs import OutputTarget
from app.core.paths import app_paths
from app.core.request import (
    MAX_SIZE_PX,
    MIN_SIZE_PX,
    GenerationRequest,
    is_text,
    rounded_size_px,
)
from app.core.settings import Settings
from app.engine.catalog import KNOWN_MODELS
from app.engine.model_folder import ModelInfo

RANDOM_SEEDS = 2**63
"""Random ones leave room for a batch's seeds, and other programs can read them as signed."""
SUFFIX = ".png"
_KNOWN_NAMES = frozenset(known.name for known in KNOWN_MODELS)
Tell = Callable[[Notice], None]


def request_of(arguments: GenerateArguments, model: ModelInfo, *, tell: Tell) -> GenerationRequest:
    """The request, with the model's defaults for what was left out.

    Args:
        arguments: What was typed.
        model: What it is for.
        tell: Told what is not exactly as typed.

    Raises:
        RequestError: It cannot be run; the sentence names everything that is wrong.
    """
    seed = secrets.randbelow(RANDOM_SEEDS) if arguments.seed is None else arguments.seed
    name = arguments.model.strip().lower()
    request = GenerationRequest(
        prompt=arguments.prompt,
        model=name if name in _KNOWN_NAMES else str(model.folder),
        width_px=_size(arguments.width_px, model.default_width_px, "width", tell),
        height_px=_size(arguments.height_px, model.default_height_px, "height", tell),
        steps=model.default_steps if arguments.steps is None else arguments.steps,
        guidance=model.default_guidance if arguments.guidance is None else arguments.guidance,
        seed=seed,
        images=arguments.images,
        references=reference_paths(arguments.references),
    )
    problems = request.problems()
    if problems:
        # A size out of range may also be no multiple of 16, which nobody needs to hear as well.
        by_field = {problem.field: problem.message for problem in reversed(problems)}
        message = " ".join(reversed(by_field.values()))
        raise RequestError(message, code=problems[0].code)
    if arguments.seed is None:
        _notify(tell, "request.seed_random", f"The seed is {seed}.")
    return request


def output_target(arguments: GenerateArguments, settings: Settings) -> OutputTarget:
    """Where the images go: a file that may be replaced, or a folder.

    Raises:
        RequestError: Nothing can be written there.
    """
    metadata = settings.metadata if arguments.metadata is None else arguments.metadata
    folder = Path(settings.pictures_folder or app_paths().pictures)
    file: Path | None = None
    if arguments.out is not None:
        if not arguments.out.strip():
            raise RequestError("--out is empty: give a .png file or a folder.", code="output.name")
        out = _absolute(arguments.out)
        _check_name(out)
        file = out if _is_file_name(out, typed=arguments.out) else None
        folder = out if file is None else out.parent
    _check_folder(folder)
    return OutputTarget(
        folder=str(folder),
        name_template=settings.name_template,
        file=None if file is None else str(file),
        metadata=metadata,
    )


def _absolute(typed: str) -> Path:
    try:
        # Not the path's own method, which raises for an unknown user.
        return Path(os.path.expanduser(typed)).absolute()
    except OSError as error:
        raise RequestError(
            f"The folder this was started in is gone, so “{typed[:80]}” is nowhere: "
            "give a whole path with --out.",
            code="output.folder",
        ) from error


def _check_name(out: Path) -> None:
    if not is_text(str(out)):
        raise RequestError(
            "--out holds bytes that are no text: give another name.", code="output.name"
        )
    try:
        os.stat(out)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise RequestError(
                f"The name given with --out is too long ({len(out.name)} characters): "
                "give a shorter one.",
                code="output.name",
            ) from error


def _is_file_name(out: Path, *, typed: str) -> bool:
    # Not the methods of paths, here and below, which raise where looking is not permitted.
    if os.path.isdir(out) or typed.endswith(("/", os.sep)):
        return False
    if out.suffix.lower() == SUFFIX:
        return True
    if os.path.exists(out):
        # Replacing a picture is what --out is for; replacing anything else is an accident.
        raise RequestError(
            f"{out} is a file that is no PNG: give a name that ends in .png, or a folder.",
            code="output.name",
        )
    return False


def _check_folder(folder: Path) -> None:
    """Say now what would otherwise be said after minutes of work."""
    obstacle = obstacle_to_writing(folder)
    if obstacle is None:
        return
    if obstacle.is_file:
        raise RequestError(
            f"Images cannot be saved in {folder}, because {obstacle.at} is a file: "
            "give another folder with --out.",
            code="output.folder",
        )
    raise RequestError(
        f"Images cannot be saved in {folder} ({obstacle.reason}): "
        f"give another folder with --out, or change the permissions of {obstacle.at}.",
        code="output.permission",
    )


def _size(typed: int | None, default: int, name: str, tell: Tell) -> int:
    if typed is None:
        return default
    rounded = rounded_size_px(typed)
    if rounded == typed or not MIN_SIZE_PX <= typed <= MAX_SIZE_PX:
        return typed
    _notify(
        tell,
        "request.size_rounded",
        f"The {name} is {rounded} px instead of {typed} px: FLUX.2 makes multiples of 16.",
    )
    return rounded


def _notify(tell: Tell, code: str, message: str) -> None:
    tell(Notice(job_id="", code=code, message=message))
