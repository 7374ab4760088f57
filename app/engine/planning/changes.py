"""Which rungs a way has taken, and why, in words for people."""

from collections.abc import Iterator

from app.core.jobs import Phase
from app.core.plan import Placement, PlanChange, Rung
from app.core.policy import MemoryMode
from app.core.units import format_need, format_seconds
from app.engine.planning.components import AUTOENCODER, COMPONENTS, TEXT_ENCODER, TRANSFORMER
from app.engine.planning.decode_ways import DecodeWay
from app.engine.planning.figures import and_list, gigabytes, size_text
from app.engine.planning.ladder import Ladder
from app.engine.planning.memory import needed_bytes
from app.engine.planning.mode_words import MODE_WORDS
from app.engine.planning.problem import PlanProblem
from app.engine.planning.way import Way, running

COMPONENT_WORDS = {
    TEXT_ENCODER: "text encoder",
    TRANSFORMER: "transformer",
    AUTOENCODER: "autoencoder",
}
_PHASES = {TEXT_ENCODER: Phase.ENCODE, TRANSFORMER: Phase.DENOISE}


def changes_of(problem: PlanProblem, way: Way) -> tuple[PlanChange, ...]:
    """The rungs, the gentlest first."""
    ladder = Ladder(problem, width_px=way.width_px, height_px=way.height_px, images=way.images)
    return (
        *_turns(problem, way, ladder),
        *_streams(problem, way, ladder),
        *_files(problem, way),
        *_decode(problem, way, ladder),
        *_split(problem, way, ladder),
        *_fewer(problem, way),
        *_smaller(problem, way),
    )


def _turns(problem: PlanProblem, way: Way, ladder: Ladder) -> Iterator[PlanChange]:
    leaving = [
        COMPONENT_WORDS[name]
        for name in COMPONENTS
        if way.kept[name].placement is not Placement.RESIDENT
        and (name == AUTOENCODER or name in running(problem))
    ]
    if not leaving:
        return
    yield PlanChange(
        rung=Rung.STREAM,
        before="all weights on the GPU all the time",
        after=f"{and_list(leaving)} while in use",
        reason=_why(problem, ladder.all_resident_bytes(), "With all weights on the GPU"),
    )


def _streams(problem: PlanProblem, way: Way, ladder: Ladder) -> Iterator[PlanChange]:
    for name, phase in _PHASES.items():
        kept = way.kept[name]
        if kept.placement is not Placement.STREAMED or name not in running(problem):
            continue
        need = way.encoding if phase is Phase.ENCODE else way.denoising
        others = need.weights_bytes - kept.device_bytes
        weights = problem.weights[name] + others
        forecast = need.forecast_bytes
        if phase is Phase.DENOISE:
            # As asked for: splitting the batch may have made it less since.
            forecast = ladder.needs.denoise_forecast(way.images)
        blocks = len(problem.blocks[name])
        coming = len(kept.streamed_blocks)
        word = COMPONENT_WORDS[name]
        staying = blocks - coming
        yield PlanChange(
            rung=Rung.STREAM,
            before=f"all {blocks} {word} blocks on the GPU while in use",
            after=(
                f"{staying} {word} blocks stay, {coming} come in"
                if staying
                else f"all {word} blocks come in"
            )
            + " each time it runs",
            reason=_why(
                problem, needed_bytes(problem, phase, weights, forecast), f"With the whole {word}"
            ),
        )


def _files(problem: PlanProblem, way: Way) -> Iterator[PlanChange]:
    for name in running(problem):
        kept = way.kept[name]
        if not kept.file_blocks:
            continue
        from_disk = len(kept.file_blocks)
        coming = len(kept.streamed_blocks)
        read_s = kept.file_bytes / problem.device.calibration.read_bytes_per_s
        yield PlanChange(
            rung=Rung.STREAM,
            before=f"blocks of the {COMPONENT_WORDS[name]} that come in wait in RAM",
            after=f"{'all' if from_disk == coming else from_disk} of its blocks are read from the "
            "disk each time it runs",
            reason=(
                f"RAM does not hold {gigabytes(kept.file_bytes, up=True)} GB of the "
                f"{COMPONENT_WORDS[name]}, and reading that takes {format_seconds(read_s)}."
            ),
        )


def _decode(problem: PlanProblem, way: Way, ladder: Ladder) -> Iterator[PlanChange]:
    asked = ladder.needs.decodes(way.batch)[0]
    if way.decode == asked:
        return
    others = way.decoding.weights_bytes
    if way.decode.on_cpu and way.kept[AUTOENCODER].placement is not Placement.RESIDENT:
        others += problem.weights[AUTOENCODER]
    needed = needed_bytes(problem, Phase.DECODE, others, asked.forecast_bytes)
    yield PlanChange(
        rung=Rung.TILE,
        before=f"decode {_decode_words(asked)}",
        after=f"decode {_decode_words(way.decode)}",
        reason=_why(problem, needed, f"To decode {_decode_words(asked)}"),
    )


def _split(problem: PlanProblem, way: Way, ladder: Ladder) -> Iterator[PlanChange]:
    if way.batch == way.images:
        return
    limit = problem.limits.max_images
    budget = gigabytes(problem.budget_bytes)
    if limit is not None and limit < way.images:
        reason = f"The preset allows at most {limit} images at once."
    elif ladder.best(may_split=False) is not None:
        reason = f"{way.images} images at once would fit into {budget} GB only in a slower way."
    else:
        reason = f"{way.images} images at once do not fit into {budget} GB."
    parts = -(-way.images // way.batch)
    yield PlanChange(
        rung=Rung.SPLIT,
        before=f"{way.images} images at once",
        after=f"{way.batch} at once, in {parts} parts",
        reason=reason,
    )


def _fewer(problem: PlanProblem, way: Way) -> Iterator[PlanChange]:
    asked = problem.request.images
    if way.images == asked:
        return
    yield PlanChange(
        rung=Rung.FEWER,
        before=f"{asked} images",
        after=f"{way.images} now, {asked - way.images} later",
        reason="More images do not fit even one after the other.",
    )


def _smaller(problem: PlanProblem, way: Way) -> Iterator[PlanChange]:
    request = problem.request
    asked = (request.width_px, request.height_px)
    if (way.width_px, way.height_px) == asked:
        return
    least = Ladder(
        problem, width_px=request.width_px, height_px=request.height_px, images=1
    ).least()
    missing = least.missing_bytes(problem)
    reason = (
        f"Even in the smallest way {size_text(*asked)} needs {gigabytes(missing, up=True)} GB more "
        "than there is."
        if missing
        else "The preset allows no larger size."
    )
    yield PlanChange(
        rung=Rung.SMALLER,
        before=size_text(*asked),
        after=size_text(way.width_px, way.height_px),
        reason=reason,
    )


def _why(problem: PlanProblem, needed: int, condition: str) -> str:
    if needed <= problem.budget_bytes and problem.policy.mode is MemoryMode.MINIMAL:
        return f"“{MODE_WORDS[MemoryMode.MINIMAL]}” leaves the GPU to other programs."
    if needed <= problem.budget_bytes and problem.policy.mode is MemoryMode.BALANCED:
        return (
            f"“{MODE_WORDS[MemoryMode.BALANCED]}” lets weights stay in half of the "
            f"{gigabytes(problem.budget_bytes)} GB that may be used."
        )
    needed_text, budget = format_need(needed, problem.budget_bytes)
    return f"{condition}, {needed_text} GB are needed; {budget} GB may be used."


def _decode_words(way: DecodeWay) -> str:
    images = "one image at a time" if way.batch == 1 else f"{way.batch} images at once"
    tiles = "" if way.tile_px is None else f" in tiles of {way.tile_px} px"
    return f"{images}{tiles}{' on the CPU' if way.on_cpu else ''}"
