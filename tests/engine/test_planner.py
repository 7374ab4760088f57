"""The planner: the gentlest way that fits, and its own account of it."""

import re
import sys
from dataclasses import replace
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.jobs import Phase
from app.core.plan import GenerationPlan, Placement, Rung, Verdict
from app.core.policy import Attention, MemoryMode, MemoryPolicy, Precision, Precisions
from app.core.preset import PresetLimits
from app.core.profile import HostProfile
from app.core.request import GenerationRequest
from app.core.units import GIB, MIB
from app.engine.lines import Lines
from app.engine.planner import can_make
from app.engine.planning.at_hand import AtHand
from app.engine.planning.problem import pose
from app.engine.planning.streaming_cost import STREAM_S, STREAM_SHARE
from app.engine.residency.timeline import step_seconds
from tests.engine.planning_cases import (
    CALIBRATION,
    PLENTY,
    asking,
    card,
    computer,
    cpu,
    model,
    plan,
)

EPSILON_S = 1e-6
CLOSENESS = (Precision.FP32, Precision.BF16, Precision.FP8, Precision.INT8, Precision.NF4)
IN_BF16 = MemoryPolicy(
    precisions=Precisions(text_encoder=Precision.BF16, transformer=Precision.BF16)
)
"""What stays so however little RAM there is."""

sides = st.integers(4, 160).map(lambda tokens: tokens * 16)
requests = st.builds(
    asking,
    width=sides,
    height=sides,
    images=st.integers(1, 12),
    steps=st.integers(1, 30),
    guidance=st.sampled_from([1.0, 4.0]),
)
names = st.sampled_from(["demo", "klein-4b", "klein-base-4b", "dev"])
gibs = st.floats(0.5, 100)
policies = st.builds(
    MemoryPolicy,
    headroom_bytes=st.integers(0, 4 * GIB),
    limit_bytes=st.none() | st.integers(GIB, 64 * GIB),
    mode=st.sampled_from(MemoryMode),
    strict=st.booleans(),
    tile_px=st.sampled_from([None, 0, 256, 512, 1000]),
    precisions=st.builds(
        Precisions, transformer=st.sampled_from([Precision.AUTO, Precision.FP8, Precision.NF4])
    ),
)
calibrations = st.builds(
    replace,
    st.just(CALIBRATION),
    copy_bytes_per_s=st.floats(1e9, 6e10),
    compute_flops=st.floats(1e12, 1e15),
    time_factor=st.dictionaries(st.sampled_from(Phase), st.floats(0.2, 5)),
    bytes_factor=st.dictionaries(st.sampled_from(Phase), st.floats(0.8, 1.5)),
    runs=st.integers(0, 20),
)
cases = settings(max_examples=60, deadline=None)


def rungs(found: GenerationPlan) -> set[Rung]:
    return {change.rung for change in found.changes}


def made(found: GenerationPlan) -> tuple[int, int]:
    """What is made, the more the better: pixels of each image, then how many."""
    return (found.width_px * found.height_px, found.images)


# What it says of itself.


@cases
@given(requests, names, gibs, st.sampled_from([16, 64, 1024]), policies, calibrations)
def test_a_plan_that_fits_is_within_its_budgets(request, name, gib, ram_gib, policy, calibration):
    found = plan(
        request,
        card(gib, calibration=calibration),
        host=computer(ram_gib, swap_gib=8),
        policy=policy,
        coefficients=model(name),
    )
    if found.verdict is Verdict.DOES_NOT_FIT:
        return
    assert found.needed_bytes <= found.budget_bytes
    assert found.ram_peak_bytes <= found.ram_budget_bytes
    assert found.missing_bytes == 0
    assert 1 <= found.decode_batch <= found.batch <= found.images
    assert found.images + found.images_later == request.images
    assert [phase.phase for phase in found.phases] == list(Phase)


@cases
@given(requests, names, gibs, policies, calibrations)
def test_the_same_input_gives_the_same_plan(request, name, gib, policy, calibration):
    device = card(gib, calibration=calibration)
    found = [plan(request, device, policy=policy, coefficients=model(name)) for _ in range(2)]
    assert found[0] == found[1]


@cases
@given(requests, names, gibs, gibs, policies, calibrations, st.sampled_from([24, 1024]))
def test_more_vram_is_never_slower_or_smaller(
    request, name, gib, other_gib, policy, calibration, ram_gib
):
    less, more = (
        plan(
            request,
            card(size, calibration=calibration),
            policy=policy,
            coefficients=model(name),
            host=computer(ram_gib),
        )
        for size in sorted((gib, other_gib))
    )
    if less.verdict is Verdict.DOES_NOT_FIT:
        return
    assert more.verdict is not Verdict.DOES_NOT_FIT
    assert made(more) >= made(less)
    # Closer weights are larger: only of equal ones the times are to be compared.
    closer = [
        [
            CLOSENESS.index(found.component(name).precision)
            for name in ("text_encoder", "transformer")
        ]
        for found in (less, more)
    ]
    assert all(one <= other for one, other in zip(closer[1], closer[0], strict=True))
    if made(more) == made(less) and closer[1] == closer[0]:
        assert more.seconds <= less.seconds + EPSILON_S


@cases
@given(requests, names, gibs, st.integers(0, 8), st.integers(0, 8))
def test_less_headroom_is_never_slower_or_smaller(request, name, gib, one, other):
    less, more = (
        plan(
            request,
            card(gib),
            policy=MemoryPolicy(headroom_bytes=headroom * GIB),
            coefficients=model(name),
        )
        for headroom in sorted((one, other), reverse=True)
    )
    assert more.budget_bytes >= less.budget_bytes
    if less.verdict is not Verdict.DOES_NOT_FIT:
        assert made(more) >= made(less)
        assert made(more) > made(less) or more.seconds <= less.seconds + EPSILON_S


@cases
@given(requests, names, gibs, policies)
def test_strict_never_gives_less_than_asked(request, name, gib, policy):
    found = plan(request, card(gib), policy=replace(policy, strict=True), coefficients=model(name))
    assert found.verdict is not Verdict.SMALLER
    assert (found.width_px, found.height_px, found.images) == (
        request.width_px,
        request.height_px,
        request.images,
    )
    assert not rungs(found) & {Rung.FEWER, Rung.SMALLER}


# Rungs are taken only when the gentler ones do not suffice.


@cases
@given(requests, names, gibs)
def test_less_is_made_only_when_strict_does_not_fit(request, name, gib):
    found = plan(request, card(gib), coefficients=model(name))
    strict = plan(request, card(gib), policy=MemoryPolicy(strict=True), coefficients=model(name))
    if strict.verdict is Verdict.DOES_NOT_FIT:
        assert found.verdict in {Verdict.SMALLER, Verdict.DOES_NOT_FIT}
    else:
        assert replace(found) == strict


@cases
@given(requests, names, gibs)
def test_the_smaller_size_is_the_largest_that_fits(request, name, gib):
    found = plan(request, card(gib), coefficients=model(name))
    if Rung.SMALLER not in rungs(found):
        return
    assert min(found.width_px, found.height_px) >= 256
    assert found.width_px % 16 == found.height_px % 16 == 0
    ratio = request.width_px / request.height_px
    long, short = max(found.width_px, found.height_px), min(found.width_px, found.height_px)
    assert long / short == pytest.approx(max(ratio, 1 / ratio), rel=8 / long + 1e-9)
    one_larger = round((short + 16) * max(ratio, 1 / ratio) / 16) * 16
    size = (one_larger, short + 16) if ratio > 1 else (short + 16, one_larger)
    problem = pose(request, card(gib), PLENTY, MemoryPolicy(), model(name))
    assert size >= (request.width_px, request.height_px) or not can_make(
        problem, *size, request.images
    )


@cases
@given(requests, names, gibs, calibrations)
def test_the_phases_in_no_trouble_keep_their_way(request, name, gib, calibration):
    """Tiles and streaming are taken only by a phase that would not fit without them."""
    device = card(gib, calibration=calibration)
    found = plan(request, device, coefficients=model(name))
    if found.verdict is Verdict.DOES_NOT_FIT:
        return
    coefficients = model(name)
    if found.tile_px is not None or found.decode_on_cpu:
        whole = plan(
            replace(
                request, width_px=found.width_px, height_px=found.height_px, images=found.images
            ),
            device,
            coefficients=coefficients,
            policy=MemoryPolicy(tile_px=0, strict=True),
        )
        assert whole.verdict is Verdict.DOES_NOT_FIT or whole.decode_on_cpu
    for component, phase in (("text_encoder", Phase.ENCODE), ("transformer", Phase.DENOISE)):
        kept = found.component(component)
        if kept.placement is Placement.STREAMED:
            there = found.phase(phase)
            missing = kept.weights_bytes - kept.device_bytes
            assert there.needed_bytes + missing > found.budget_bytes


@cases
@given(requests, names, gibs)
def test_a_batch_is_split_only_where_it_would_not_fit_or_take_longer(request, name, gib):
    found = plan(request, card(gib), coefficients=model(name))
    if Rung.SPLIT not in rungs(found) or found.verdict is Verdict.SMALLER:
        return
    more = plan(
        request, card(gib + 1000), coefficients=model(name), policy=MemoryPolicy(strict=True)
    )
    assert more.batch == request.images
    assert more.seconds <= found.seconds + EPSILON_S


def test_everything_stays_where_it_fits() -> None:
    found = plan(asking(), card(32))
    assert found.verdict is Verdict.FITS
    assert not found.changes
    assert all(part.placement is Placement.RESIDENT for part in found.components)
    assert found.reasons[0].startswith("Fits: needs ")


@pytest.mark.parametrize("images", [1, 16, 64])
def test_a_plan_is_little_work(images: int) -> None:
    """It is made at each keystroke, in the window's own thread: counted in calls, a few ms."""
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    request = asking(2048, 2048, images, steps=28, guidance=4.0)
    for name in ("klein-base-4b", "dev"):
        plan(request, card(12), coefficients=model(name))
        sys.setprofile(count)
        try:
            found = plan(request, card(12), coefficients=model(name))
        finally:
            sys.setprofile(None)
        assert found.verdict is not Verdict.DOES_NOT_FIT
        assert 0 < calls <= 9_000
        calls = 0


def test_what_just_fits_does_not_read_as_if_it_did_not() -> None:
    least = plan(asking(), card(32)).needed_bytes
    for spare_bytes in (0, 20 * MIB):
        device = card(32, free_bytes=least + spare_bytes)
        found = plan(asking(), device, policy=MemoryPolicy(headroom_bytes=0))
        assert (found.verdict, found.changes) == (Verdict.FITS, ())
        peak, budget = re.findall(r"[\d.]+", found.reasons[0].removesuffix("."))
        assert float(peak) <= float(budget)


def test_what_hardly_does_not_fit_reads_so() -> None:
    least = plan(asking(), card(32)).needed_bytes
    device = card(32, free_bytes=least - MIB)
    found = plan(asking(), device, policy=MemoryPolicy(headroom_bytes=0))
    (change,) = found.changes
    peak, budget = re.findall(r"\d+\.\d+", change.reason)
    assert float(peak) > float(budget)
    assert f"{peak} GB are needed; {budget} GB may be used." in change.reason


def test_turns_come_before_streaming() -> None:
    found = plan(asking(), card(12))
    assert found.verdict is Verdict.FITS
    assert rungs(found) == {Rung.STREAM}
    assert found.component("transformer").placement is Placement.TURNS
    assert found.component("text_encoder").placement is Placement.TURNS


def test_streamed_blocks_are_as_few_as_fit_and_spread() -> None:
    found = plan(asking(), card(8))
    assert found.verdict is Verdict.STREAMS
    transformer = found.component("transformer")
    assert transformer.placement is Placement.STREAMED
    gaps = [
        after - before
        for before, after in zip(
            transformer.streamed_blocks, transformer.streamed_blocks[1:], strict=False
        )
    ]
    assert max(gaps) - min(gaps) <= 1
    room = found.budget_bytes - found.needed_bytes
    assert room < max(model().block_bytes("transformer", Precision.BF16)) * 1.3


def test_a_decode_in_trouble_only_changes_the_decode() -> None:
    # One image at 2048 px decodes in 6 GB, which is far more than it denoises in.
    found = plan(asking(2048, 2048), card(24, free_bytes=10 * GIB), coefficients=model("demo"))
    tight = plan(
        asking(2048, 2048), card(24, free_bytes=int(1.9 * GIB)), coefficients=model("demo")
    )
    assert found.tile_px is None
    assert rungs(tight) == {Rung.TILE}
    assert tight.tile_px in {768, 512, 256}
    assert tight.phase(Phase.DENOISE).working_bytes == found.phase(Phase.DENOISE).working_bytes
    assert tight.batch == found.batch


def test_a_batch_is_decoded_one_by_one_before_it_is_split() -> None:
    sizes = [size / 4 for size in range(4, 160)]
    plans = [plan(asking(images=4), card(size), coefficients=model("demo")) for size in sizes]
    decoded = [found for found in plans if found.decode_batch < 4]
    assert any(found.batch == 4 and found.decode_batch == 1 for found in decoded)
    split = [found for found in plans if found.batch < 4]
    assert all(found.decode_batch == 1 for found in split)


def test_parts_are_as_large_as_fit() -> None:
    found = plan(asking(images=8), card(8, free_bytes=int(1.6 * GIB)), coefficients=model("demo"))
    assert found.images == 8
    assert 1 < found.batch < 8
    change = next(change for change in found.changes if change.rung is Rung.SPLIT)
    assert change.after == f"{found.batch} at once, in {-(-8 // found.batch)} parts"


def test_decoding_goes_to_the_cpu_last() -> None:
    sizes = [size / 20 for size in range(14, 60)]
    plans = [plan(asking(512, 512), card(size), coefficients=model("demo")) for size in sizes]
    on_cpu = [found for found in plans if found.decode_on_cpu]
    for found in on_cpu:
        assert found.component("autoencoder").device_bytes == 0
        assert found.phase(Phase.DECODE).working_bytes == 0
        assert found.phase(Phase.DECODE).seconds > plans[-1].phase(Phase.DECODE).seconds
    assert on_cpu


# What the user decides.


def test_the_budget_is_what_is_free_less_headroom_below_the_limit() -> None:
    device = card(16, free_bytes=12 * GIB)
    policy = MemoryPolicy(headroom_bytes=GIB)
    assert plan(asking(), device, policy=policy).budget_bytes == 11 * GIB
    limited = replace(policy, limit_bytes=6 * GIB)
    assert plan(asking(), device, policy=limited).budget_bytes == 6 * GIB
    greedy = replace(policy, headroom_bytes=40 * GIB)
    assert plan(asking(), device, policy=greedy).budget_bytes == 0


def test_resident_mode_keeps_everything_or_refuses() -> None:
    policy = MemoryPolicy(mode=MemoryMode.RESIDENT)
    assert plan(asking(), card(24), policy=policy).verdict is Verdict.FITS
    refused = plan(asking(), card(12), policy=policy)
    assert refused.verdict is Verdict.DOES_NOT_FIT
    assert "choose “Automatic”" in " ".join(refused.reasons)


def test_reasons_say_what_gives_way_and_each_reason_once() -> None:
    found = plan(asking(images=4), card(6), policy=MemoryPolicy(mode=MemoryMode.MINIMAL))
    for change in found.changes:
        (told,) = [reason for reason in found.reasons if change.after in reason]
        assert told.startswith(change.reason.removesuffix("."))


def test_a_limit_that_binds_is_what_a_refusal_speaks_of() -> None:
    limited = plan(asking(), card(12), policy=MemoryPolicy(limit_bytes=GIB))
    assert limited.reasons[-1] == "Allow more than 1.0 GB, or choose a smaller model."
    too_small = plan(asking(), card(1.5), policy=MemoryPolicy(limit_bytes=4 * GIB))
    assert too_small.reasons[-1].startswith("Close other programs")


def test_minimal_mode_streams_everything_even_where_it_fits() -> None:
    found = plan(asking(), card(80), policy=MemoryPolicy(mode=MemoryMode.MINIMAL))
    assert found.verdict is Verdict.STREAMS
    assert len(found.component("transformer").streamed_blocks) == 25
    assert found.peak_vram_bytes < 5 * GIB
    assert any("“As little as possible”" in change.reason for change in found.changes)


def test_balanced_mode_lets_weights_stay_in_half_of_what_there_is() -> None:
    policy = MemoryPolicy(mode=MemoryMode.BALANCED)
    found = plan(asking(), card(12), policy=policy)
    assert found.verdict is Verdict.STREAMS
    assert plan(asking(), card(12)).verdict is Verdict.FITS
    for part in found.components:
        assert part.device_bytes - part.slots_bytes <= found.budget_bytes / 2
    assert any("“Half of what is free”" in change.reason for change in found.changes)
    transformer = found.component("transformer")
    assert 0 < len(transformer.streamed_blocks) < 25
    assert plan(asking(), card(80), policy=policy).verdict is Verdict.FITS


def test_balanced_mode_never_refuses_what_automatic_makes() -> None:
    for gib in (3, 4, 6, 8):
        policy = MemoryPolicy(mode=MemoryMode.BALANCED)
        assert made(plan(asking(), card(gib), policy=policy)) == made(plan(asking(), card(gib)))


def test_tiles_of_the_policy_are_used() -> None:
    assert plan(asking(), card(80), policy=MemoryPolicy(tile_px=384)).tile_px == 384
    assert plan(asking(), card(80), policy=MemoryPolicy(tile_px=2048)).tile_px is None
    whole = plan(asking(2048, 2048), card(6), policy=MemoryPolicy(tile_px=0))
    assert whole.tile_px is None


def test_precisions_are_resolved_for_the_device() -> None:
    assert plan(asking(), card(80)).component("transformer").precision is Precision.BF16
    on_cpu = plan(asking(), cpu(64), host=computer(64), coefficients=model("demo"))
    assert on_cpu.component("transformer").precision is model("demo").stored_precision
    policy = MemoryPolicy(precisions=Precisions(transformer=Precision.NF4))
    small = plan(asking(), card(80), policy=policy).component("transformer")
    assert small.precision is Precision.NF4
    assert small.weights_bytes < 2.5e9


def test_an_autoencoder_is_planned_as_it_runs_not_quantized() -> None:
    policy = MemoryPolicy(precisions=Precisions(autoencoder=Precision.FP8))
    assert plan(asking(), card(80), policy=policy) == plan(asking(), card(80))


@pytest.mark.parametrize(
    ("name", "ram_gib", "vram_gib", "expected"),
    [
        ("klein-4b", 32, 8, Precision.BF16),
        ("klein-9b", 24, 8, Precision.FP8),
        ("klein-9b", 24, 48, Precision.BF16),
        ("klein-9b", 12, 8, Precision.NF4),
        ("dev", 128, 24, Precision.BF16),
        ("dev", 64, 24, Precision.FP8),
        ("dev", 40, 24, Precision.NF4),
        # Nothing holds it: read from the disk, as little as can be.
        ("dev", 16, 12, Precision.NF4),
    ],
)
def test_automatic_precision_is_the_closest_that_has_a_place(
    name: str, ram_gib: int, vram_gib: int, expected: Precision
) -> None:
    found = plan(asking(), card(vram_gib), host=computer(ram_gib), coefficients=model(name))
    assert found.component("transformer").precision is expected
    assert found.component("text_encoder").precision is expected
    assert found.component("autoencoder").precision is Precision.BF16
    told = any("weights in bf16" in reason for reason in found.reasons)
    assert told == (expected is not Precision.BF16)


def test_a_precision_that_was_asked_for_is_kept() -> None:
    policy = MemoryPolicy(precisions=Precisions(transformer=Precision.BF16))
    found = plan(asking(), card(24), host=computer(32), coefficients=model("dev"), policy=policy)
    assert found.component("transformer").precision is Precision.BF16
    assert found.component("transformer").file_blocks


def test_attention_that_keeps_whole_matrices_needs_more() -> None:
    working = {
        kind: plan(asking(), card(80), policy=MemoryPolicy(attention=kind))
        for kind in (Attention.SDPA, Attention.FLASH, Attention.MATH, Attention.CHUNKED)
    }
    needed_by = {kind: found.phase(Phase.DENOISE).working_bytes for kind, found in working.items()}
    assert needed_by[Attention.SDPA] == needed_by[Attention.FLASH]
    assert needed_by[Attention.MATH] > needed_by[Attention.CHUNKED] > needed_by[Attention.SDPA]
    assert working[Attention.MATH].attention is Attention.MATH


def test_limits_of_a_preset_split_and_shrink() -> None:
    limited = PresetLimits(max_images=2)
    found = plan(asking(images=5), card(80), limits=limited)
    assert (found.batch, found.images) == (2, 5)
    assert "preset" in next(c.reason for c in found.changes if c.rung is Rung.SPLIT)
    small = plan(asking(1024, 512), card(80), limits=PresetLimits(max_side_px=768))
    assert (small.width_px, small.height_px) == (768, 384)
    assert "preset" in small.changes[-1].reason
    strict = plan(
        asking(1024, 512),
        card(80),
        limits=PresetLimits(max_pixels=512 * 512),
        policy=MemoryPolicy(strict=True),
    )
    assert strict.verdict is Verdict.DOES_NOT_FIT
    assert "preset" in strict.reasons[0]


# Refusals.


@pytest.mark.parametrize("free_bytes", [0, 1_000_000_000, 2_345_678_901, 3_210_987_654])
@pytest.mark.parametrize("host", [PLENTY, computer(1.2)])
def test_what_is_missing_is_the_difference_of_what_is_told(
    free_bytes: int, host: HostProfile
) -> None:
    device = card(4, free_bytes=free_bytes)
    found = plan(asking(2048, 2048), device, host=host, policy=MemoryPolicy(strict=True))
    assert found.verdict is Verdict.DOES_NOT_FIT
    needed_gb, budget_gb, missing_gb = map(float, re.findall(r"\d+\.\d", found.reasons[0]))
    assert needed_gb - budget_gb == pytest.approx(missing_gb)
    assert found.missing_bytes <= missing_gb * GIB < found.missing_bytes + 0.2 * GIB


def test_a_strict_refusal_says_what_is_missing_and_what_would_fit() -> None:
    found = plan(asking(2048, 2048), card(4), policy=MemoryPolicy(strict=True))
    assert found.verdict is Verdict.DOES_NOT_FIT
    assert found.missing_bytes == found.needed_bytes - found.budget_bytes > 0
    assert "GB are missing" in found.reasons[0]
    told = " ".join(found.reasons)
    open_plan = plan(asking(2048, 2048), card(4))
    assert open_plan.verdict is Verdict.SMALLER
    assert f"It would fit at {open_plan.width_px} × {open_plan.height_px} px." in told
    assert "Strict mode" in told


def test_nothing_fits_where_even_the_smallest_does_not() -> None:
    found = plan(asking(), card(1.5))
    assert found.verdict is Verdict.DOES_NOT_FIT
    assert found.missing_bytes > 0
    assert "Close other programs" in " ".join(found.reasons)


def test_a_picture_is_never_made_smaller_than_was_asked_below_256_px() -> None:
    found = plan(asking(128, 128), card(0.6), coefficients=model("demo"))
    assert found.verdict is Verdict.DOES_NOT_FIT
    assert (found.width_px, found.height_px) == (128, 128)


# The computer around the device.


def test_what_ram_does_not_hold_is_read_from_the_disk() -> None:
    calm = plan(asking(), card(12), policy=IN_BF16)
    found = plan(asking(), card(12), host=computer(15), policy=IN_BF16)
    assert found.verdict is Verdict.FITS
    assert found.ram_peak_bytes <= found.ram_budget_bytes
    assert found.ram_peak_bytes < calm.ram_peak_bytes
    assert any("read from the disk each time they go" in reason for reason in found.reasons)
    # To load a model, all of it is read in any case; when it is loaded, the rest comes anew.
    assert found.seconds == pytest.approx(calm.seconds)
    again, calm_again = (
        plan(asking(), card(12), host=host, loaded=True, policy=IN_BF16)
        for host in (computer(15), PLENTY)
    )
    assert again.seconds > calm_again.seconds


def test_streamed_blocks_that_ram_does_not_hold_are_read_at_every_step() -> None:
    host = computer(8)
    slow = replace(CALIBRATION, read_bytes_per_s=1e8)
    found = plan(asking(steps=20), card(5, calibration=slow), host=host, policy=IN_BF16)
    transformer = found.component("transformer")
    assert found.verdict is Verdict.STREAMS
    assert set(transformer.file_blocks) <= set(transformer.streamed_blocks)
    blocks = model().block_bytes("transformer", Precision.BF16)
    coming = sum(blocks[index] for index in transformer.streamed_blocks)
    from_disk = sum(blocks[index] for index in transformer.file_blocks)
    room = found.ram_budget_bytes - GIB
    assert coming - room < from_disk < coming
    assert found.ram_peak_bytes <= found.ram_budget_bytes
    step_s = from_disk / slow.read_bytes_per_s
    assert found.phase(Phase.DENOISE).seconds == pytest.approx(20 * step_s, rel=0.1)
    told = next(reason for reason in found.reasons if "of the transformer, and" in reason)
    assert re.search(r"\d of its blocks are read from the disk each time it runs\.$", told)
    assert re.search(r"streaming (costs \+\d+ % of time|makes it take)", found.reasons[0])


@cases
@given(requests, names, gibs, st.floats(4, 128), st.floats(4, 128), calibrations)
def test_more_ram_is_never_slower_or_smaller(request, name, gib, one, other, calibration):
    less, more = (
        plan(
            request,
            card(gib, calibration=calibration),
            host=computer(ram),
            coefficients=model(name),
            policy=IN_BF16,
        )
        for ram in sorted((one, other))
    )
    if less.verdict is Verdict.DOES_NOT_FIT:
        return
    assert made(more) >= made(less)
    if made(more) == made(less):
        assert more.seconds <= less.seconds + EPSILON_S


def test_too_little_ram_for_the_program_itself_is_a_refusal_about_ram() -> None:
    found = plan(asking(), card(24), host=computer(1))
    assert found.verdict is Verdict.DOES_NOT_FIT
    assert "GB of RAM" in found.reasons[0]
    assert found.missing_bytes == found.ram_peak_bytes - found.ram_budget_bytes > 0


def test_fewer_images_where_their_latents_do_not_fit_into_ram() -> None:
    host = computer(6.4 * 8 / 7)
    found = plan(asking(8192, 8192, images=64), card(80), host=host)
    assert rungs(found) >= {Rung.FEWER}
    assert Rung.SMALLER not in rungs(found)
    assert 1 < found.images < 64
    assert found.images + found.images_later == 64
    one_more = plan(
        asking(8192, 8192, images=found.images + 1),
        card(80),
        host=host,
        policy=MemoryPolicy(strict=True),
    )
    assert one_more.verdict is Verdict.DOES_NOT_FIT
    assert f"{found.images} of the {found.images + 1} images would fit." in one_more.reasons


def test_on_the_cpu_everything_is_resident_in_the_ram() -> None:
    found = plan(asking(), cpu(32), host=computer(32))
    assert all(part.placement is Placement.RESIDENT for part in found.components)
    assert found.budget_bytes == 30 * GIB == found.ram_budget_bytes
    assert found.ram_peak_bytes == found.peak_vram_bytes
    tight = plan(asking(2048, 2048, images=4), cpu(24), host=computer(24))
    assert tight.verdict is not Verdict.STREAMS
    assert not tight.decode_on_cpu
    assert Rung.STREAM not in rungs(tight)


def test_the_ram_headroom_never_takes_all_of_a_small_computer() -> None:
    found = plan(asking(128, 128), cpu(2), host=computer(2), coefficients=model("demo"))
    assert found.verdict is Verdict.FITS


# What was measured.


def test_measured_memory_corrects_the_forecast() -> None:
    measured = replace(CALIBRATION, bytes_factor={Phase.DECODE: 1.5})
    plain, corrected = (
        plan(asking(), card(80, calibration=calibration)) for calibration in (CALIBRATION, measured)
    )
    before, after = (found.phase(Phase.DECODE).working_bytes for found in (plain, corrected))
    assert after == pytest.approx(1.5 * before, abs=1)
    assert plain.phase(Phase.ENCODE) == corrected.phase(Phase.ENCODE)


def test_uncertainty_shrinks_with_each_run() -> None:
    off = [
        plan(asking(), card(80, calibration=replace(CALIBRATION, runs=runs)))
        .phase(Phase.DENOISE)
        .uncertainty_bytes
        for runs in (0, 1, 6, 50)
    ]
    assert off == sorted(off, reverse=True)
    assert len(set(off)) == 4
    measured = plan(asking(), card(80, calibration=replace(CALIBRATION, runs=6)))
    assert "measured here 6 times" in measured.reasons[-1]


def test_measured_time_corrects_a_phase_and_gives_a_range() -> None:
    measured = replace(CALIBRATION, time_factor={Phase.DENOISE: 2.0}, time_spread=0.25)
    plain = plan(asking(), card(80)).phase(Phase.DENOISE)
    slow = plan(asking(), card(80, calibration=measured)).phase(Phase.DENOISE)
    assert slow.seconds == pytest.approx(2 * plain.seconds)
    assert slow.seconds_low == pytest.approx(slow.seconds / 1.25)
    assert slow.seconds_high == pytest.approx(slow.seconds * 1.25)


def test_streaming_is_hidden_behind_computing() -> None:
    there, streamed = plan(asking(), card(24)), plan(asking(), card(8))
    assert streamed.verdict is Verdict.STREAMS
    assert there.seconds < streamed.seconds < 1.02 * there.seconds
    assert "streaming costs less than 1 % of time" in streamed.reasons[0]


def test_streaming_that_computing_does_not_hide_is_told_with_its_cost() -> None:
    slow = replace(CALIBRATION, copy_bytes_per_s=2e9)
    request = asking(steps=20)
    there, streamed = (plan(request, card(gib, calibration=slow)) for gib in (24, 8))
    blocks = model().block_bytes("transformer", Precision.BF16)
    coming = sum(blocks[index] for index in streamed.component("transformer").streamed_blocks)
    copy_s, step_s = coming / 2e9, there.phase(Phase.DENOISE).seconds / 20
    assert copy_s > step_s
    # Of 20 steps the first brings what would have come anyway.
    more_s = streamed.phase(Phase.DENOISE).seconds - there.phase(Phase.DENOISE).seconds
    played = step_seconds(
        (step_s / len(blocks),) * len(blocks),
        blocks,
        streamed.component("transformer").streamed_blocks,
        streamed.component("transformer").slots_bytes,
        2e9,
    )
    brought_s = streamed.component("transformer").weights_bytes / 2e9
    own_s = brought_s + STREAM_S + 20 * STREAM_SHARE * copy_s
    waiting_s = streamed.phase(Phase.DENOISE).waiting_seconds
    assert waiting_s == pytest.approx(19 * played.waited_s, rel=0.01)
    assert there.phase(Phase.DENOISE).waiting_seconds == 0
    assert more_s == pytest.approx(19 * (played.seconds - step_s) + own_s, rel=0.01)
    percent = re.search(r"streaming costs \+(\d+) % of time \(", streamed.reasons[0])
    assert percent is not None
    assert int(percent[1]) == pytest.approx(100 * (streamed.seconds / there.seconds - 1), abs=2)


def test_slots_are_part_of_what_is_on_the_device() -> None:
    found = plan(asking(), card(8)).component("transformer")
    blocks = model().block_bytes("transformer", Precision.BF16)
    sizes = [blocks[index] for index in found.streamed_blocks]
    around = sizes + sizes[:1]
    assert found.slots_bytes >= max(sum(around[index : index + 2]) for index in range(len(sizes)))
    outside = found.weights_bytes - sum(blocks)
    staying = sum(blocks) - sum(sizes)
    assert found.device_bytes == outside + staying + found.slots_bytes


def test_the_least_way_has_slots_for_two_blocks() -> None:
    policy = MemoryPolicy(mode=MemoryMode.MINIMAL)
    for part in ("text_encoder", "transformer"):
        found = plan(asking(), card(80), policy=policy).component(part)
        blocks = model().block_bytes(part, Precision.BF16)
        assert len(found.streamed_blocks) == len(blocks)
        assert found.slots_bytes == 2 * max(blocks)


def test_a_loaded_model_needs_no_loading() -> None:
    cold, warm = plan(asking(), card(80)), plan(asking(), card(80), loaded=True)
    assert warm.phase(Phase.LOAD).seconds == 0
    assert warm.seconds == pytest.approx(cold.seconds - cold.phase(Phase.LOAD).seconds)


# What the request adds.


def test_guidance_with_two_passes_doubles_the_steps_of_base_models() -> None:
    base = model("klein-base-4b")
    once = plan(asking(guidance=1.0), card(80), coefficients=base).phase(Phase.DENOISE)
    twice = plan(asking(guidance=4.0), card(80), coefficients=base).phase(Phase.DENOISE)
    assert twice.seconds == pytest.approx(2 * once.seconds)
    distilled = plan(asking(guidance=4.0), card(80)).phase(Phase.DENOISE)
    assert distilled.seconds == pytest.approx(once.seconds)


def test_reference_images_cost_memory_and_time() -> None:
    none = plan(asking(), card(80))
    two = plan(asking(), card(80), references=((1024, 1024), (640, 480)))
    assert two.phase(Phase.DENOISE).working_bytes > none.phase(Phase.DENOISE).working_bytes
    assert two.phase(Phase.ENCODE).working_bytes > none.phase(Phase.ENCODE).working_bytes
    assert two.seconds > none.seconds


def test_what_does_not_fit_because_of_reference_images_says_so() -> None:
    many = plan(asking(), card(8), references=((1024, 1024),) * 10)
    assert many.verdict is Verdict.DOES_NOT_FIT
    assert any("fewer reference images" in reason for reason in many.reasons)
    none = plan(asking(), card(1))
    assert none.verdict is Verdict.DOES_NOT_FIT
    assert not any("reference" in reason for reason in none.reasons)


@pytest.mark.parametrize(
    ("asked", "gib"),
    [
        (asking(), 8),
        (asking(images=8), 6),
        (asking(2048, 2048), 4),
        (asking(images=64), 12),
        (asking(8192, 8192, images=64), 5),
    ],
)
def test_a_plan_asks_the_coefficients_a_few_hundred_times(
    asked: GenerationRequest, gib: int, asked_lines: list[Lines]
) -> None:
    """What keeps it under 5 ms: each question is some 10 microseconds."""
    plan(asked, card(gib))
    assert 10 < len(asked_lines) < 350


def test_sizes_in_words_round_so_that_they_are_true() -> None:
    found = plan(asking(), card(24, free_bytes=int(10.04 * GIB)))
    assert "10.0" not in found.reasons[0] or found.needed_bytes <= 10 * GIB
    assert found.needed_bytes > 100 * MIB


# What earlier runs have left.

KNOWN = AtHand(known_prompts=frozenset({(Precision.BF16, Precision.BF16)}))


def test_without_looking_nothing_is_said_of_what_is_kept() -> None:
    fp8 = MemoryPolicy(precisions=Precisions(text_encoder=Precision.FP8, transformer=Precision.FP8))
    unknown, all_kept = (
        plan(asking(), card(24), policy=fp8, at_hand=at_hand)
        for at_hand in (
            None,
            AtHand(
                converted=frozenset(
                    {("text_encoder", Precision.FP8), ("transformer", Precision.FP8)}
                )
            ),
        )
    )
    assert "The weights in fp8 are kept on the disk: nothing is converted." in all_kept.reasons
    assert replace(all_kept, reasons=unknown.reasons) == unknown
    assert not any("converted" in reason for reason in unknown.reasons)


def test_weights_to_convert_are_read_and_written_first() -> None:
    fp8 = MemoryPolicy(precisions=Precisions(text_encoder=Precision.FP8, transformer=Precision.FP8))
    kept = plan(asking(), card(24), policy=fp8)
    half = AtHand(
        converted=frozenset({("text_encoder", Precision.FP8), ("transformer", Precision.NF4)})
    )
    one, both = (plan(asking(), card(24), policy=fp8, at_hand=at) for at in (half, AtHand()))
    coefficients = model()
    more_bytes = sum(
        coefficients.weights_bytes("transformer", precision)
        for precision in (Precision.BF16, Precision.FP8)
    )
    assert one.phase(Phase.LOAD).seconds - kept.phase(Phase.LOAD).seconds == pytest.approx(
        more_bytes / CALIBRATION.read_bytes_per_s
    )
    assert both.phase(Phase.LOAD).seconds > one.phase(Phase.LOAD).seconds
    for found in (one, both):
        assert found.phases[1:] == kept.phases[1:]
        (reason,) = (reason for reason in found.reasons if "converted once" in reason)
        assert ("7.2 GB are read" in reason) is (found is one)
    # What is not quantized is not converted, and what is loaded was.
    assert plan(asking(), card(24), at_hand=AtHand()) == plan(asking(), card(24))
    assert plan(asking(), card(24), policy=fp8, at_hand=AtHand(), loaded=True).phases == (
        plan(asking(), card(24), policy=fp8, loaded=True).phases
    )


@pytest.mark.parametrize("gib", [5, 8, 12, 80])
@pytest.mark.parametrize("references", [(), ((1024, 1024),)])
def test_a_prompt_that_is_known_leaves_the_text_encoder_out(
    gib: float, references: tuple[tuple[int, int], ...]
) -> None:
    request, host = asking(), computer(32)
    anew, known = (
        plan(request, card(gib), host=host, references=references, at_hand=at_hand)
        for at_hand in (None, KNOWN)
    )
    weights = model().weights_bytes("text_encoder", Precision.BF16)
    ram_only = model().ram_only_bytes("text_encoder", Precision.BF16)
    stored = weights + ram_only
    # The others are where the engine will have them: it finds out only later.
    assert known.components[1:] == anew.components[1:]
    assert known.component("text_encoder").device_bytes == 0
    assert (known.batch, known.tile_px, known.width_px) == (anew.batch, anew.tile_px, anew.width_px)
    rests = weights if anew.component("text_encoder").placement is Placement.RESIDENT else 0
    saved_s = anew.phase(Phase.LOAD).seconds - known.phase(Phase.LOAD).seconds
    assert saved_s == pytest.approx(
        stored / CALIBRATION.read_bytes_per_s + rests / CALIBRATION.copy_bytes_per_s
    )
    for phase in (Phase.LOAD, Phase.DENOISE, Phase.DECODE, Phase.SAVE):
        assert known.phase(phase).weights_bytes == anew.phase(phase).weights_bytes - rests
        assert known.phase(phase).working_bytes == anew.phase(phase).working_bytes
    encode = known.phase(Phase.ENCODE)
    assert encode.weights_bytes < anew.phase(Phase.ENCODE).weights_bytes
    assert (encode.seconds > 0) is bool(references)
    assert encode.seconds < anew.phase(Phase.ENCODE).seconds
    assert known.ram_peak_bytes == anew.ram_peak_bytes - stored
    assert any("the text encoder (5.8 GB) is not loaded" in reason for reason in known.reasons)
    assert not any("text encoder only" in change.after for change in known.changes)
    assert not any("blocks of the text encoder" in change.before for change in known.changes)


def test_only_a_text_encoder_that_runs_makes_a_plan_stream() -> None:
    request = asking(512, 512)
    policy = MemoryPolicy(
        precisions=Precisions(text_encoder=Precision.BF16, transformer=Precision.NF4)
    )
    at_hand = AtHand(
        known_prompts=frozenset({(Precision.BF16, Precision.NF4)}),
        converted=frozenset({("transformer", Precision.NF4)}),
    )
    anew, known = (
        plan(request, card(5), policy=policy, at_hand=found) for found in (None, at_hand)
    )
    assert anew.component("transformer").placement is Placement.TURNS
    assert (anew.verdict, known.verdict) == (Verdict.STREAMS, Verdict.FITS)
    other = replace(at_hand, known_prompts=KNOWN.known_prompts)
    of_other_precisions = plan(request, card(5), policy=policy, at_hand=other)
    assert replace(of_other_precisions, reasons=anew.reasons) == anew


def test_a_refusal_reckons_with_the_text_encoder_as_the_engine_does() -> None:
    dev = model("dev")
    refused = [
        plan(asking(), card(3), coefficients=dev, at_hand=at_hand) for at_hand in (None, KNOWN)
    ]
    assert refused[0].verdict is Verdict.DOES_NOT_FIT
    assert refused[0] == refused[1]
