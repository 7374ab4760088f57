"""A budget that changed in the middle of a run, and what it did to the weights, for people."""

from collections.abc import Iterator

from app.core.plan import ComponentPlan, GenerationPlan, Placement
from app.core.policy import MemoryMode, MemoryPolicy
from app.core.units import format_bytes
from app.engine.planning.changes import COMPONENT_WORDS
from app.engine.planning.figures import and_list
from app.engine.planning.problem import PlanProblem

_MODES = {
    MemoryMode.AUTO: "as many weights as have room stay on the GPU",
    MemoryMode.RESIDENT: "as many weights as have room stay on the GPU",
    MemoryMode.BALANCED: "weights that stay on the GPU leave half of it free",
    MemoryMode.MINIMAL: "as few weights as possible stay on the GPU",
}


def wish_words(before: MemoryPolicy, after: MemoryPolicy) -> str:
    """What the user wants otherwise, without a full stop; "" when it is nothing."""
    parts: list[str] = []
    if after.headroom_bytes != before.headroom_bytes:
        headroom = after.headroom_bytes
        left = f"{format_bytes(headroom)} of the GPU are" if headroom else "nothing of the GPU is"
        parts.append(f"{left} left to other programs")
    if after.limit_bytes != before.limit_bytes:
        limit = after.limit_bytes
        parts.append(
            "there is no limit to what is used of the GPU"
            if limit is None
            else f"at most {format_bytes(limit)} of the GPU are used"
        )
    if after.mode is not before.mode:
        parts.append(_MODES[after.mode])
    return f"From now on {and_list(parts)}" if parts else ""


def weights_words(problem: PlanProblem, before: GenerationPlan, after: GenerationPlan) -> str:
    """Where weights are now that were elsewhere before, without a full stop; "" for none."""
    parts = [
        words
        for one in after.components
        for words in _component(problem, before.component(one.name), one)
    ]
    return and_list(parts) if parts else ""


def refit_message(
    reason: str, weights: str, *, over_bytes: int, had_room: bool, may_grow: bool
) -> str:
    """All of it in sentences.

    Args:
        reason: Why, without a full stop.
        weights: See `weights_words`.
        over_bytes: By which the run is over what it may use, all the same.
        had_room: Whether the device had room for what was tried.
        may_grow: Whether more weights may be on the device than before.
    """
    sentences = [f"{reason}: {weights}. The picture stays the same." if weights else f"{reason}."]
    if not had_room:
        sentences.append("There was no room for more weights after all, so they are as before.")
    elif not may_grow:
        sentences.append(
            "This run needed more memory than was foreseen, so no weights come back before the "
            "next one."
        )
    if over_bytes > 0:
        sentences.append(
            f"This run cannot do with so little: it uses {format_bytes(over_bytes)} more until "
            "its end; the next one is planned for what there is."
        )
    return " ".join(sentences)


def _component(problem: PlanProblem, was: ComponentPlan, now: ComponentPlan) -> Iterator[str]:
    word = COMPONENT_WORDS[now.name]
    if now.placement is Placement.STREAMED:
        coming, blocks = len(now.streamed_blocks), len(problem.blocks[now.name])
        if now.streamed_blocks != was.streamed_blocks:
            all_of = "all" if coming == blocks else f"{coming} of {blocks}"
            yield f"{all_of} blocks of the {word} come in each time it runs"
        elif now.slots_bytes != was.slots_bytes:
            ahead = "further" if now.slots_bytes > was.slots_bytes else "less far"
            yield f"blocks of the {word} come in {ahead} ahead of the one that runs"
    elif now.placement is not was.placement:
        if now.placement is Placement.RESIDENT:
            yield f"the whole {word} stays on the GPU"
        elif was.placement is Placement.RESIDENT:
            yield f"the {word} is on the GPU only while in use"
        else:
            yield f"the whole {word} is on the GPU while in use"
