"""Whatever fails, and however often: the next pass has the right bits, and nothing is left over."""

import contextlib
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from app.core.plan import Placement
from app.engine.placement import Placer
from app.engine.residency.host_network import packed_network
from tests.fakes.block_stack import BlockStack, DeviceWith, LateReader, on_disk, plan_of
from tests.fakes.transfers import LateTransfers

LAYERS = (2, 2, 3, 1, 1, 1, 1, 1)
BLOCKS = range(len(LAYERS))
INPUTS = torch.linspace(-1, 1, 24).view(3, 8)
SETS = st.sets(st.sampled_from(BLOCKS)).map(sorted)
KINDS = ("read", "copy", "allocate", "block", "compute", "rearrange")


class Faults:
    """Raises at a point that the test chose, once."""

    def __init__(self) -> None:
        self._left: dict[str, int] = {}

    def at(self, kind: str, count: int) -> None:
        """Fail the next time, or after some times that go well."""
        self._left = {kind: count}

    def none(self) -> None:
        """All goes well from now on."""
        self._left = {}

    def __call__(self, kind: str) -> None:
        if kind not in self._left:
            return
        self._left[kind] -= 1
        if self._left[kind] < 0:
            self._left = {}
            raise torch.OutOfMemoryError(kind) if kind == "allocate" else OSError(kind)


class Stage:
    """A network whose blocks are read, copied and computed with faults."""

    def __init__(
        self, files: Sequence[int] = (), hurries: Callable[[], bool] = lambda: False
    ) -> None:
        self.faults = Faults()
        self.network = BlockStack(LAYERS)
        packed = packed_network("transformer", self.network)
        with torch.no_grad():
            self.expected = self.network(INPUTS)

        def refuse(_size: int) -> bool:
            self.faults("allocate")
            return False

        self.reader = LateReader(2, hurries, fail=self.faults)
        self.transfers = LateTransfers(hurries, refuse=refuse, fail=self.faults)
        host = on_disk(packed, files, self.reader)
        self.placer = Placer({"transformer": host}, DeviceWith(self.transfers))
        self.transfers.watch(host.modules)
        for module in host.modules:
            # When it has its weights, and when it has computed with them.
            module.register_forward_pre_hook(lambda *_inputs: self.faults("block"))
            last = list(module.modules())[-1]
            last.register_forward_hook(lambda *_results: self.faults("compute"))

    def step(self) -> None:
        with torch.no_grad():
            assert torch.equal(self.network(INPUTS), self.expected)


@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
@given(st.data())
def test_after_any_failure_the_next_pass_is_right(data: st.DataObject):
    random = data.draw(st.randoms(use_true_random=False))
    chance = data.draw(st.sampled_from((0.0, 0.4, 1.0)))
    stage = Stage(data.draw(SETS), lambda: random.random() < chance)
    placer, faults = stage.placer, stage.faults

    def draw_plan() -> None:
        slots = data.draw(st.sampled_from((0, 1024, 4096, 20_000)))
        placer.replace(
            [plan_of(data.draw(SETS), slots_bytes=slots)], rearrange=lambda: faults("rearrange")
        )

    def draw_fault() -> None:
        faults.at(data.draw(st.sampled_from(KINDS)), data.draw(st.integers(0, 12)))

    def step_with_fault() -> None:
        change_at = data.draw(st.sampled_from((None, *BLOCKS)))
        stage.network.between = lambda block: draw_plan() if block == change_at else None
        draw_fault()
        with contextlib.suppress(OSError, torch.OutOfMemoryError):
            stage.step()
        stage.network.between = lambda _block: None

    draw_plan()
    for _job in range(2):
        # The job goes on after what failed, as after a change of the plan.
        draw_fault()
        with contextlib.suppress(OSError, torch.OutOfMemoryError), placer.phase("transformer"):
            for _step in range(3):
                step_with_fault()
                faults.none()
                stage.step()
            draw_fault()
        faults.none()
        assert not stage.transfers.held
        if data.draw(st.booleans()):
            placer.settle()
            assert not stage.transfers.pending
            assert not stage.reader.taken
    with placer.phase("transformer"):
        stage.step()
        stage.step()


@pytest.mark.parametrize("at", range(8))
@pytest.mark.parametrize("kind", ["read", "copy"])
def test_a_block_that_stays_is_not_lost(kind: str, at: int):
    """Its copy failed, and the component stays on the device, as does what came before."""
    stage = Stage((1, 4, 6))
    stage.placer.replace([plan_of(placement=Placement.RESIDENT)])
    stage.faults.at(kind, at)
    with contextlib.suppress(OSError), stage.placer.phase("transformer"):
        stage.step()
    stage.faults.none()
    with stage.placer.phase("transformer"):
        stage.step()
        stage.step()
    assert stage.placer.resident_bytes() == sum(buffer.numel() for buffer in stage.transfers.held)


@pytest.mark.parametrize("kind", ["read", "copy"])
@pytest.mark.parametrize("early", [False, True])
def test_a_copy_that_fails_at_any_place_is_made_anew_in_the_same_phase(kind: str, early: bool):
    """Also one that was ahead of its pass: the pass before it is over, and nothing seems wrong."""
    failed = 0
    for at in range(40):
        stage = Stage((0, 1, 4, 6), lambda: early)
        stage.placer.replace([plan_of(BLOCKS)])
        with stage.placer.phase("transformer"):
            stage.faults.at(kind, at)
            for _step in range(3):
                try:
                    stage.step()
                except OSError:
                    failed += 1
                    break
            stage.faults.none()
            stage.step()
            stage.step()
    # As often as there is something to be copied or read in three passes.
    assert failed >= 3 * (len(BLOCKS) if kind == "copy" else 4)


def test_nothing_comes_for_a_pass_too_many_after_a_copy_that_failed_between_two():
    """The pass that was over counts as one, though what was ahead of the next one failed."""
    between = 0
    for at in range(24):
        stage, begun = Stage(), list[int]()
        stage.network.between = begun.append
        stage.placer.replace([plan_of(BLOCKS)])
        stage.faults.at("copy", at)
        with contextlib.suppress(OSError), stage.placer.phase("transformer"):
            stage.placer.expect("transformer", 3)
            try:
                stage.step()
            except OSError:
                if len(begun) < len(BLOCKS):
                    raise  # In the midst of the pass.
                between += 1
            stage.step()
            stage.step()
            assert not stage.transfers.pending
    assert between
