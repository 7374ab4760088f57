"""What changed between two plans of one run, in words for people."""

from collections.abc import Iterator
from dataclasses import replace

from app.core.plan import GenerationPlan, Placement, PlanChange, Rung
from app.engine.planning.changes import COMPONENT_WORDS
from app.engine.planning.figures import and_list, size_text


def changes_between(
    before: GenerationPlan, after: GenerationPlan, reason: str
) -> tuple[PlanChange, ...]:
    """The rungs from one plan to the other, the gentlest first."""
    return tuple(
        PlanChange(rung=rung, before=was, after=now, reason=reason)
        for rung, was, now in (
            *_turns(before, after),
            *_streams(before, after),
            *_decode(before, after),
            *_split(before, after),
            *_fewer(before, after),
            *_smaller(before, after),
        )
    )


Words = tuple[Rung, str, str]


def _turns(before: GenerationPlan, after: GenerationPlan) -> Iterator[Words]:
    leaving = [
        COMPONENT_WORDS[one.name]
        for one in before.components
        if one.placement is Placement.RESIDENT
        and after.component(one.name).placement is Placement.TURNS
    ]
    if leaving:
        names = and_list(leaving)
        yield Rung.STREAM, f"{names} always on the GPU", f"{names} there only while in use"


def _streams(before: GenerationPlan, after: GenerationPlan) -> Iterator[Words]:
    for one in after.components:
        was = before.component(one.name)
        if one.placement is not Placement.STREAMED:
            continue
        word = COMPONENT_WORDS[one.name]
        if one.streamed_blocks == was.streamed_blocks:
            if one.slots_bytes < was.slots_bytes:
                yield (
                    Rung.STREAM,
                    f"blocks of the {word} come in two ahead of the one that runs",
                    f"blocks of the {word} come in one ahead of the one that runs",
                )
            continue
        former, now = len(was.streamed_blocks), len(one.streamed_blocks)
        yield (
            Rung.STREAM,
            _coming_in(former, word) if former else f"the whole {word} on the GPU while in use",
            _coming_in(now, word),
        )


def _coming_in(blocks: int, word: str) -> str:
    # A text of its own on both sides: what gives way is also told without what was before.
    noun = f"block of the {word} comes" if blocks == 1 else f"blocks of the {word} come"
    return f"{blocks} {noun} in each time it runs"


def _decode(before: GenerationPlan, after: GenerationPlan) -> Iterator[Words]:
    # A part that is smaller is decoded in smaller parts by that alone.
    alone = replace(before, decode_batch=min(before.decode_batch, after.batch))
    was, now = decode_words(before), decode_words(after)
    if decode_words(alone) != now:
        yield Rung.TILE, f"decode {was}", f"decode {now}"


def decode_words(plan: GenerationPlan) -> str:
    """How a plan decodes: "one image at a time in tiles of 512 px"."""
    single = plan.decode_batch == 1
    images = "one image at a time" if single else f"{plan.decode_batch} images at once"
    tiles = "" if plan.tile_px is None else f" in tiles of {plan.tile_px} px"
    return f"{images}{tiles}{' on the CPU' if plan.decode_on_cpu else ''}"


def _split(before: GenerationPlan, after: GenerationPlan) -> Iterator[Words]:
    if after.batch < before.batch and after.images == before.images:
        yield Rung.SPLIT, f"{before.batch} images at once", f"{after.batch} at once, in parts"


def _fewer(before: GenerationPlan, after: GenerationPlan) -> Iterator[Words]:
    if after.images < before.images:
        later = before.images - after.images
        yield Rung.FEWER, f"{before.images} images", f"{after.images} now, {later} later"


def _smaller(before: GenerationPlan, after: GenerationPlan) -> Iterator[Words]:
    was = size_text(before.width_px, before.height_px)
    now = size_text(after.width_px, after.height_px)
    if was != now:
        yield Rung.SMALLER, was, now
