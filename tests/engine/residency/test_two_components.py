"""Two components take turns on one device and share a reader, whatever plans and breaks come."""

import contextlib
from collections.abc import Callable
from dataclasses import replace

import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from app.core.plan import ComponentPlan, Placement
from app.engine.placement import Placer
from app.engine.residency.host_network import packed_network
from tests.fakes.block_stack import BlockStack, DeviceWith, LateReader, on_disk, plan_of
from tests.fakes.transfers import LateTransfers

LAYERS = {"text_encoder": (1, 2, 1, 2, 1), "transformer": (2, 2, 3, 1, 1, 1)}
BLOCKS = {name: range(len(layers)) for name, layers in LAYERS.items()}
INPUTS = torch.linspace(-1, 1, 24).view(3, 8)


class TakenBackError(Exception):
    """As the job's flag raises it."""


class Stage:
    """Two networks on a device whose copies are late."""

    def __init__(self, hurry: Callable[[], bool], files: dict[str, list[int]]) -> None:
        self.networks = {name: BlockStack(layers) for name, layers in LAYERS.items()}
        with torch.no_grad():
            self.expected = {name: one(INPUTS) for name, one in self.networks.items()}
        self.transfers = LateTransfers(hurry)
        reader = LateReader(3, hurry)
        self.hosts = {
            name: replace(
                on_disk(packed_network("transformer", network), files[name], reader), name=name
            )
            for name, network in self.networks.items()
        }
        self.placer = Placer(self.hosts, DeviceWith(self.transfers))
        for host in self.hosts.values():
            self.transfers.watch(host.modules)

    def step(self, name: str) -> None:
        with torch.no_grad():
            assert torch.equal(self.networks[name](INPUTS), self.expected[name])

    def check_bytes(self) -> None:
        """What is said to be on the device is what is there."""
        held_bytes = sum(buffer.numel() for buffer in self.transfers.held)
        assert self.placer.device_bytes() == held_bytes


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
@given(st.data())
def test_turns_give_the_same_bits_and_leave_nothing(data: st.DataObject):
    random = data.draw(st.randoms(use_true_random=False))
    chance = data.draw(st.sampled_from((0.0, 0.3, 1.0)))
    sets = {name: st.sets(st.sampled_from(blocks)).map(sorted) for name, blocks in BLOCKS.items()}
    stage = Stage(
        lambda: random.random() < chance, {name: data.draw(one) for name, one in sets.items()}
    )

    def draw_plan(name: str) -> ComponentPlan:
        placement = data.draw(st.sampled_from(Placement))
        streamed = data.draw(sets[name]) if placement is Placement.STREAMED else ()
        slots = data.draw(st.sampled_from((0, 4096, 20_000)))
        return plan_of(streamed, slots_bytes=slots, placement=placement, name=name)

    def place() -> None:
        chosen = data.draw(st.sampled_from((("text_encoder",), ("transformer",), tuple(LAYERS))))
        stage.placer.replace([draw_plan(name) for name in chosen])
        stage.check_bytes()

    def run(name: str) -> None:
        breaks_at, changes_at = (
            data.draw(st.sampled_from((None, *BLOCKS[name]))) for _ in range(2)
        )

        def between(block: int) -> None:
            if block == changes_at:
                place()
            if block == breaks_at:
                raise TakenBackError

        with contextlib.suppress(TakenBackError), stage.placer.phase(name):
            if data.draw(st.booleans()):
                stage.placer.expect(name, 2)
            stage.step(name)
            stage.networks[name].between = between
            stage.step(name)
        stage.networks[name].between = lambda _block: None
        stage.check_bytes()

    actions: dict[str, Callable[[], None]] = {
        **{name: lambda name=name: run(name) for name in LAYERS},
        "place": place,
        "settle": stage.placer.settle,
        "evict": stage.placer.evict,
    }
    for _action in range(data.draw(st.integers(1, 6))):
        actions[data.draw(st.sampled_from(tuple(actions)))]()
    for name in LAYERS:
        with stage.placer.phase(name):
            stage.step(name)
    stage.placer.replace([plan_of(name=name) for name in LAYERS])
    assert not stage.transfers.held
    assert not stage.transfers.pending
