"""Every residency gives the same bits, whenever its copies are done and whenever it changes."""

import contextlib
import dataclasses
import weakref
from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from app.core.plan import Placement
from app.engine.compute_device import CpuDevice
from app.engine.placement import Placer
from app.engine.residency.copy_order import AHEAD
from app.engine.residency.host_network import HostNetwork, packed_network
from app.engine.residency.residence import Residence
from app.engine.residency.ring import least_slots_bytes
from tests.fakes.block_stack import BlockStack, DeviceWith, LateReader, on_disk, plan_of
from tests.fakes.transfers import LateTransfers

LAYERS = (2, 2, 3, 1, 1, 1, 1, 1)
BLOCKS = range(len(LAYERS))
INPUTS = torch.linspace(-1, 1, 24).view(3, 8)
QUICK = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
SETS = st.sets(st.sampled_from(BLOCKS)).map(sorted)


class Stage:
    """A network, what it computes, and a device whose copies are late."""

    def __init__(
        self,
        hurry: Callable[[], bool] = lambda: False,
        *,
        files: tuple[int, ...] = (),
        buffers: int = 2,
        refuse: Callable[[int], bool] = lambda _size: False,
    ) -> None:
        self.network = BlockStack(LAYERS)
        self.host: HostNetwork = packed_network("transformer", self.network)
        with torch.no_grad():
            self.expected = self.network(INPUTS)
        self.reader = LateReader(buffers, hurry)
        if files:
            self.host = on_disk(self.host, files, self.reader)
        self.transfers = LateTransfers(hurry, refuse=refuse)
        self.placer = Placer({"transformer": self.host}, DeviceWith(self.transfers))
        self.transfers.watch(self.host.modules)
        self.sizes = [block.layout.size_bytes for block in self.host.blocks]

    def step(self) -> None:
        with torch.no_grad():
            assert torch.equal(self.network(INPUTS), self.expected)

    def is_empty(self) -> bool:
        return not self.transfers.held and not self.transfers.pending and not self.reader.taken


@QUICK
@given(st.data())
def test_every_pattern_gives_the_same_bits(data: st.DataObject):
    bits = data.draw(st.randoms(use_true_random=False))
    chance = data.draw(st.sampled_from((0.0, 0.3, 1.0)))
    files = tuple(data.draw(SETS))
    buffers = data.draw(st.integers(1, 3))
    stage = Stage(lambda: bits.random() < chance, files=files, buffers=buffers)

    def draw_plan() -> None:
        streamed = data.draw(SETS)
        slots = data.draw(st.sampled_from((0, 1024, 4096, 20_000)))
        stage.placer.replace([plan_of(streamed, slots_bytes=slots)])

    draw_plan()
    for _job in range(2):
        with stage.placer.phase("transformer"):
            for _step in range(2):
                change_at = data.draw(st.sampled_from((None, *BLOCKS)))
                stage.network.between = lambda block, at=change_at: (
                    draw_plan() if block == at else None
                )
                stage.step()
        assert stage.is_empty()
        # One more is for whoever finds that others have them all.
        assert stage.reader.most_taken <= buffers


@QUICK
@given(SETS.filter(bool), st.integers(0, 40))
def test_the_steady_loop_allocates_nothing_and_copies_each_block_once_a_step(
    streamed: list[int], more: int
):
    stage = Stage()
    least = least_slots_bytes([stage.sizes[block] for block in streamed])
    stage.placer.replace([plan_of(streamed, slots_bytes=least + more * 512)])
    with stage.placer.phase("transformer"):
        stage.step()
        allocations = stage.transfers.allocations
        assert allocations == 1 + 1 + len(BLOCKS) - len(streamed)
        assert stage.placer.resident_bytes() + stage.placer.slots_bytes() == sum(
            buffer.numel() for buffer in stage.transfers.held
        )
        stage.step()
        stage.step()
        assert stage.transfers.allocations == allocations
        holds_all = sum(stage.sizes[block] for block in streamed) <= stage.placer.slots_bytes()
        # Without the rest and what stays: each in each step, and some for the next step.
        copies = stage.transfers.copies - 1 - (len(BLOCKS) - len(streamed))
        steps = 1 if holds_all else 3
        ahead = copies - steps * len(streamed)
        assert ahead == 0 if holds_all else 1 <= ahead < len(streamed)
        # The host never was further ahead of the device than it may.
        assert stage.transfers.recorded - stage.transfers.host_seen <= AHEAD
    assert stage.is_empty()


def test_copies_are_ahead_as_far_as_the_slots_reach_and_into_the_next_step():
    stage = Stage()
    least = least_slots_bytes(stage.sizes)
    stage.placer.replace([plan_of(BLOCKS, slots_bytes=least)])
    copies: list[int] = []
    stage.network.between = lambda _block: copies.append(stage.transfers.copies - 1)
    with stage.placer.phase("transformer"):
        stage.step()
        stage.step()
    # Room for the two largest neighbours, or for four small blocks.
    assert least == stage.sizes[1] + stage.sizes[2] == 4 * stage.sizes[3]
    assert copies[:9] == [2, 3, 4, 6, 8, 8, 9, 9, 10]
    assert all(told - turn >= 2 for turn, told in enumerate(copies) if turn != 7)


def test_a_pass_of_the_text_encoder_is_not_begun_before_it_is_wanted():
    stage = Stage()
    host = stage.host
    encoder = HostNetwork(
        name="text_encoder",
        network=host.network,
        rest=host.rest,
        blocks=host.blocks,
        modules=host.modules,
    )
    transfers = LateTransfers()
    placer = Placer({"text_encoder": encoder}, DeviceWith(transfers))
    placer.replace([plan_of(BLOCKS, name="text_encoder")])
    with torch.no_grad(), placer.phase("text_encoder"):
        for passes in (1, 2):
            assert torch.equal(stage.network(INPUTS), stage.expected)
            assert transfers.copies == 1 + passes * len(BLOCKS)
    assert not transfers.held


def test_what_more_prompts_need_is_on_its_way_when_they_are_expected():
    stage = Stage()
    host = dataclasses.replace(stage.host, name="text_encoder")
    placer = Placer({"text_encoder": host}, DeviceWith(stage.transfers))
    placer.replace([plan_of(BLOCKS, name="text_encoder")])
    with placer.phase("text_encoder"):
        placer.expect("text_encoder", 2)
        stage.step()
        assert stage.transfers.pending
        stage.step()
        assert not stage.transfers.pending
        assert stage.transfers.copies == 1 + 2 * len(BLOCKS)


def test_what_stays_does_not_come_for_a_pass_that_does_not_come():
    stage = Stage()
    stage.placer.replace([plan_of(BLOCKS)])

    def change(block: int) -> None:
        if block == 5:
            stage.placer.replace([plan_of((1, 3))])
            stage.transfers.copies = 0

    stage.network.between = change
    with stage.placer.phase("transformer"):
        stage.placer.expect("transformer", 1)
        stage.step()
        # The change had begun what the last three need.
        assert not stage.transfers.copies
        assert not stage.transfers.pending


def test_what_was_expected_is_forgotten_by_a_component_that_stays():
    """Also when a change failed half way."""
    for fails in (False, True):
        stage = Stage()
        plan = plan_of((0, 1, 2, 3), placement=Placement.RESIDENT)
        stage.placer.replace([plan])

        def fail() -> None:
            raise BlockFailedError

        with stage.placer.phase("transformer"):
            stage.placer.expect("transformer", 1)
            stage.step()
            assert not stage.transfers.pending
            if fails:
                with pytest.raises(BlockFailedError):
                    stage.placer.replace([plan], rearrange=fail)
        with stage.placer.phase("transformer"):
            stage.step()
            assert stage.transfers.pending
        stage.placer.evict()


def test_what_came_is_told_once():
    stage = Stage()
    stage.placer.replace([plan_of(BLOCKS)])
    assert stage.placer.take_streaming() is None
    with stage.placer.phase("transformer"):
        stage.step()
        first = stage.placer.take_streaming()
        assert first is not None
        stage.step()
        second = stage.placer.take_streaming()
        assert second is not None
        assert first.streamed_bytes == stage.host.size_bytes
        assert second.streamed_bytes == sum(stage.sizes)
    # What had been on its way into a step that did not come.
    third = stage.placer.take_streaming()
    assert third is not None
    assert 0 < third.streamed_bytes < sum(stage.sizes)
    assert stage.placer.take_streaming() is None


@pytest.mark.parametrize("more", [0, 2, 40])
@pytest.mark.parametrize("passes", [1, 2, 3])
def test_nothing_comes_for_a_pass_that_does_not_come(passes: int, more: int):
    stage = Stage(files=(2, 5))
    slots = min(least_slots_bytes(stage.sizes) + more * 512, sum(stage.sizes) - 512)
    stage.placer.replace([plan_of(BLOCKS, slots_bytes=slots)])
    residence = Residence(stage.host, stage.transfers)
    residence.follow(plan_of(BLOCKS, slots_bytes=slots))
    residence.active = True
    residence.enter()
    residence.expect(passes)
    for _pass in range(passes):
        stage.step()
    assert stage.transfers.copies == 1 + passes * len(BLOCKS)
    assert not stage.transfers.pending
    # One more than was expected is right all the same, and again brings nothing for another.
    stage.step()
    assert stage.transfers.copies == 1 + (passes + 1) * len(BLOCKS)
    residence.active = False
    residence.leave()
    assert stage.is_empty()


@QUICK
@given(st.data())
def test_passes_are_counted_through_changes_and_before_and_between_passes(data: st.DataObject):
    stage = Stage()
    residence = Residence(stage.host, stage.transfers)

    def draw_plan() -> None:
        residence.follow(plan_of(data.draw(SETS), slots_bytes=data.draw(st.integers(0, 9000))))
        residence.leave()
        residence.enter()

    residence.active = True
    draw_plan()
    residence.enter()
    passes = data.draw(st.integers(1, 4))
    # Once the last pass is half done, what comes next is on its way.
    told_at = data.draw(st.integers(0, passes - 1))
    change = (data.draw(st.integers(0, passes - 1)), data.draw(st.sampled_from(BLOCKS)))
    for number in range(passes):
        if number == told_at:
            residence.expect(passes - number)

        def between(block: int, number: int = number) -> None:
            if (number, block) == change:
                draw_plan()
            if (number, block) == (told_at - 1, 3):
                # In the middle of a pass it is one of those to come.
                residence.expect(passes - number)

        stage.network.between = between
        stage.step()
    stage.network.between = lambda _block: None
    assert not stage.transfers.pending
    before = stage.transfers.copies
    residence.active = False
    residence.leave()
    assert stage.transfers.copies == before
    assert stage.is_empty()


def test_a_resident_component_stays_for_the_next_job():
    stage = Stage()
    stage.placer.replace([plan_of(placement=Placement.RESIDENT)])
    with stage.placer.phase("transformer"):
        stage.step()
    copies = stage.transfers.copies
    assert stage.placer.resident_bytes() == stage.host.size_bytes
    with stage.placer.phase("transformer"):
        stage.step()
    assert stage.transfers.copies == copies
    stage.placer.replace([plan_of((3, 5))])
    assert stage.is_empty()


class BlockFailedError(Exception):
    """Something in a block went wrong."""


@pytest.mark.parametrize("at", [0, 1, 5, 7])
@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("settled", [False, True])
def test_a_failure_leaves_nothing_running(at: int, inside: bool, settled: bool):
    stage = Stage(files=(0, 5, 6))
    stage.placer.replace([plan_of((0, 1, 2, 4, 5, 6, 7))])

    def fail(*_inputs: object) -> None:
        raise BlockFailedError

    if inside:
        hook = stage.host.modules[at].register_forward_pre_hook(fail)
        remove = hook.remove
    else:
        stage.network.between = lambda block: fail() if block == at else None

        def remove() -> None:
            stage.network.between = lambda _block: None

    with pytest.raises(BlockFailedError), stage.placer.phase("transformer"):
        stage.step()
    assert not stage.transfers.held
    assert stage.placer.device_bytes() == 0
    if settled:
        stage.placer.settle()
        assert stage.is_empty()
    # Also when the phase goes on after it.
    with stage.placer.phase("transformer"):
        with contextlib.suppress(BlockFailedError):
            stage.step()
        remove()
        stage.step()
        stage.step()
    assert stage.is_empty()


@pytest.mark.parametrize("streamed", [(), (1, 4, 7), BLOCKS])
@pytest.mark.parametrize("moved", [False, True])
def test_what_is_broken_off_waits_for_no_copy(streamed: tuple[int, ...], moved: bool):
    """Copies go on into memory that is given back, from RAM that stays as it is until then."""
    stage = Stage(files=(1, 3), buffers=3)
    stage.reader.hurry = lambda: True
    stage.transfers.tells_late = False
    stage.placer.replace([plan_of(streamed)])

    def fail(block: int) -> None:
        if block == 3:
            raise BlockFailedError

    stage.network.between = fail
    with pytest.raises(BlockFailedError), stage.placer.phase("transformer"):
        stage.step()
    left: list[bool] = []
    assert stage.transfers.pending
    assert stage.reader.taken == 1, "the buffer that is copied from, and none that is only read"
    assert not stage.transfers.held
    stage.network.between = lambda _block: None
    if moved:
        # Weights may move in RAM, and what copied from them has ended.
        stage.placer.replace([plan_of(streamed)], rearrange=lambda: left.append(stage.is_empty()))
        assert left == [True]
    # The next phase begins with all buffers.
    stage.placer.begin_phase("transformer")
    stage.step()
    stage.placer.end_phase("transformer")
    assert stage.is_empty()


def test_a_phase_begins_when_its_rest_is_there_and_its_blocks_are_on_their_way():
    """Or whoever looks before the third block would wait for the rest and a block since then."""
    stage = Stage()
    with stage.placer.phase("transformer"):
        assert stage.transfers.copies - stage.transfers.pending == 1
        assert stage.transfers.pending == 2
        stage.step()


def test_blocks_that_stay_come_two_at_a_time():
    """There is room for all of them, but a job that is taken back would wait for all."""
    stage = Stage()
    stage.transfers.tells_late = False
    largest = max(stage.sizes)
    on_their_way: list[int] = []
    stage.network.between = lambda _block: on_their_way.append(stage.transfers.pending_bytes)
    with stage.placer.phase("transformer"):
        stage.step()
        stage.step()
    assert max(on_their_way) <= 2 * largest
    assert min(on_their_way[:6]) > 0


def test_weights_are_those_in_ram_when_the_phase_is_over():
    stage = Stage()
    stage.placer.replace([plan_of((0, 3, 4, 5))])
    with stage.placer.phase("transformer"):
        stage.step()
    assert stage.is_empty()
    stage.step()  # On the CPU, outside any phase.


@pytest.mark.parametrize("refused", range(5))
def test_memory_that_is_refused_leaves_nothing_behind(refused: int):
    count = 0

    def refuse(_size: int) -> bool:
        nonlocal count
        count += 1
        return count == refused + 1

    stage = Stage(refuse=refuse)
    stage.placer.replace([plan_of((2, 3, 4, 5, 6))])
    with pytest.raises(torch.OutOfMemoryError), stage.placer.phase("transformer"):
        pytest.fail("the phase began")
    assert stage.is_empty()
    stage.placer.evict()
    stage.placer.replace([plan_of(BLOCKS)])
    with stage.placer.phase("transformer"):
        stage.step()
    assert stage.is_empty()


def test_memory_that_is_refused_between_two_blocks_ends_the_phase_whole():
    refusing = False
    stage = Stage(refuse=lambda _size: refusing)
    stage.placer.replace([plan_of(BLOCKS)])

    def grow(block: int) -> None:
        nonlocal refusing
        if block == 4:
            refusing = True
            stage.placer.replace([plan_of((0, 1, 2))])

    stage.network.between = grow
    with pytest.raises(torch.OutOfMemoryError), stage.placer.phase("transformer"):
        stage.step()
    stage.placer.settle()
    assert stage.is_empty()
    refusing = False
    stage.network.between = lambda _block: None
    stage.placer.replace([plan_of(BLOCKS)])
    with stage.placer.phase("transformer"):
        stage.step()


def test_weights_in_ram_can_be_rearranged_when_nothing_is_copied():
    stage = Stage()
    stage.placer.replace([plan_of(BLOCKS)])

    def rearrange() -> None:
        assert not stage.transfers.pending

    def change(block: int) -> None:
        if block == 4:
            stage.placer.replace([plan_of((0, 1, 2, 5, 6, 7))], rearrange=rearrange)

    stage.network.between = change
    with stage.placer.phase("transformer"):
        stage.step()
        stage.step()


def test_a_block_that_had_left_when_moving_failed_comes_anew():
    stage = Stage()
    stage.placer.replace([plan_of()])

    def fail() -> None:
        raise BlockFailedError

    with stage.placer.phase("transformer"):
        stage.step()
        with pytest.raises(BlockFailedError):
            stage.placer.replace([plan_of((3,))], rearrange=fail)
        stage.placer.replace([plan_of()])
        stage.step()


def test_what_is_expected_between_two_passes_is_brought_ahead():
    stage = Stage()
    residence = Residence(stage.host, stage.transfers)
    residence.follow(plan_of(BLOCKS))
    residence.active = True
    residence.enter()
    stage.step()
    residence.expect(2)
    stage.step()
    assert stage.transfers.pending
    stage.step()
    assert not stage.transfers.pending
    residence.evict()


def test_what_leaves_is_free_before_anything_is_asked_for():
    """Nothing else points to it by then, or both would be on the device at once."""
    left: list[weakref.ref[torch.UntypedStorage]] = []

    def refuse(_size: int) -> bool:
        return any(one() is not None for one in left)

    stage = Stage(refuse=refuse)
    release = stage.transfers.release

    def noted(buffer: torch.Tensor) -> None:
        left.append(weakref.ref(buffer.untyped_storage()))
        release(buffer)

    stage.transfers.release = noted
    stage.placer.replace([plan_of((0, 1, 2, 3))])
    least = stage.placer.slots_bytes()
    plans = {
        3: plan_of(BLOCKS),
        6: plan_of(BLOCKS, slots_bytes=least + 9000),
        7: plan_of((1, 2, 5)),
    }

    def change(block: int) -> None:
        if block in plans:
            stage.placer.replace([plans[block]])

    with stage.placer.phase("transformer"):
        stage.step()
        stage.network.between = change
        stage.step()
    assert len(left) > len(BLOCKS)


def test_a_component_that_is_to_take_turns_is_gone_when_the_plan_is_followed():
    """Whatever it had brought stayed for the next job: nobody else could have that memory."""
    stage = Stage()
    stage.placer.replace([plan_of(placement=Placement.RESIDENT)])
    with stage.placer.phase("transformer"):
        stage.step()
    stayed = [weakref.ref(buffer.untyped_storage()) for buffer in stage.transfers.held]
    assert len(stayed) == 1 + len(BLOCKS)
    stage.placer.replace([plan_of()])
    assert not any(one() is not None for one in stayed)


def test_who_is_asked_before_each_block_may_place_it_otherwise():
    network = BlockStack(LAYERS)
    with torch.no_grad():
        expected = network(INPUTS)
    asked: list[int] = []
    resident: list[int] = []

    def between() -> None:
        asked.append(len(asked))
        if len(asked) % 3 == 0:
            placer.replace([plan_of(() if len(asked) % 2 else BLOCKS)])
        resident.append(placer.resident_bytes())

    transfers = LateTransfers()
    placer = Placer({"transformer": network}, DeviceWith(transfers), between_blocks=between)
    transfers.watch(network.transformer_blocks)
    transfers.watch(network.single_transformer_blocks)
    with torch.no_grad():
        with placer.phase("transformer"):
            for _step in range(2):
                assert torch.equal(network(INPUTS), expected)
        assert len(asked) == 2 * len(BLOCKS)
        assert len(set(resident)) == 2
        assert not transfers.held
        placer.forget("transformer")
        assert torch.equal(network(INPUTS), expected)
    assert len(asked) == 2 * len(BLOCKS)


def test_where_weights_stay_where_they_are_nobody_is_asked():
    network = BlockStack(LAYERS)
    placer = Placer(
        {"transformer": network}, CpuDevice(), between_blocks=lambda: pytest.fail("asked")
    )
    with torch.no_grad(), placer.phase("transformer"):
        network(INPUTS)


def test_the_same_plan_again_moves_nothing():
    stage = Stage()
    stage.placer.replace([plan_of((1, 2, 4, 5))])
    stage.network.between = lambda _block: stage.placer.replace([plan_of((1, 2, 4, 5))])
    with stage.placer.phase("transformer"):
        stage.step()
        made = stage.transfers.allocations
        assert made == 1 + 4 + 1
        stage.step()
        assert stage.transfers.allocations == made
        # The rest and what stays once, and what streams twice, or is on its way for a third time.
        assert stage.transfers.copies <= 1 + 4 + 3 * 4


def test_forgotten_networks_are_let_alone():
    stage = Stage()
    stage.placer.replace([plan_of(BLOCKS)])
    assert stage.placer.forget("transformer") == stage.host.size_bytes
    stage.step()
    assert stage.is_empty()
    assert not stage.placer.holds("transformer")
    assert not any(module._forward_pre_hooks for module in stage.host.modules)


def test_what_was_evicted_comes_back_with_the_next_change_of_anything():
    stage = Stage()
    stage.placer.replace([plan_of(placement=Placement.RESIDENT)])
    stage.placer.evict()
    assert stage.is_empty()
    stage.placer.replace([])
    assert stage.placer.resident_bytes() == stage.host.size_bytes


def test_ordinary_ram_needs_no_reader():
    network = BlockStack(LAYERS)
    with torch.no_grad():
        expected = network(INPUTS)
    transfers = LateTransfers(is_pinned=lambda _buffer: False)
    placer = Placer({"transformer": network}, DeviceWith(transfers))
    placer.replace([plan_of(BLOCKS)])
    with torch.no_grad(), placer.phase("transformer"):
        assert torch.equal(network(INPUTS), expected)
    assert transfers.host_kept == transfers.copies


def test_blocks_on_the_disk_need_a_reader():
    stage = Stage(files=(1,))
    host = HostNetwork(
        name="transformer",
        network=stage.network,
        rest=stage.host.rest,
        blocks=stage.host.blocks,
        modules=stage.host.modules,
    )
    placer = Placer({"transformer": host}, DeviceWith(LateTransfers()))
    with pytest.raises(ValueError, match="nobody reads"), placer.phase("transformer"):
        pytest.fail("the phase began")
