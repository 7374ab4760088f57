"""Whatever is in RAM, locked or only on the disk: the numbers are the same."""

import gc
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.core.jobs import Phase
from app.core.plan import ComponentPlan, Placement
from app.core.policy import Precision
from app.engine.loader import LoadedModel, load_model, model_key
from app.engine.model_folder import inspect_model_folder
from app.engine.placement import Placer
from app.engine.residency.host_block import HostBlock, HostTier
from app.engine.residency.host_store import HostStore
from app.engine.residency.pinning import Pinning
from app.engine.residency.ring import BOUNCE_BUFFERS
from app.engine.simulated_device import SimulatedDevice
from app.engine.simulated_story import Story
from app.engine.text_encoding import encode_prompt
from tests.fakes.registrar import FakeRegistrar
from tests.tiny_models import Kind, make_tiny_model

BLOCKS = {"text_encoder": 3, "transformer": 3}
FileBlocks = Mapping[str, Sequence[int]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Kind], Path]:
    made: dict[Kind, Path] = {}

    def get(kind: Kind) -> Path:
        if kind not in made:
            made[kind] = make_tiny_model(kind, tmp_path_factory.mktemp(kind), dtype=torch.bfloat16)
        return made[kind]

    return get


@pytest.fixture(scope="module")
def expected(folders: Callable[[Kind], Path]) -> Callable[[Kind], torch.Tensor]:
    """With all weights in RAM, and all on the device at once."""
    made: dict[Kind, torch.Tensor] = {}

    def get(kind: Kind) -> torch.Tensor:
        if kind not in made:
            made[kind] = Host(folders(kind), store()).run()
        return made[kind]

    return get


def store(
    registrar: FakeRegistrar | None = None, room_bytes: Callable[[], int] = lambda: 1 << 40
) -> HostStore:
    pinning = None
    if registrar is not None:
        pinning = Pinning(registrar, available_bytes=lambda: 1 << 40)
    return HostStore(pinning, room_bytes=room_bytes)


def plans(streamed: FileBlocks, file_blocks: FileBlocks) -> list[ComponentPlan]:
    return [
        ComponentPlan(
            name=name,
            precision=Precision.BF16,
            placement=Placement.STREAMED,
            weights_bytes=0,
            device_bytes=0,
            streamed_blocks=tuple(sorted(streamed.get(name, ()))),
            file_blocks=tuple(sorted(file_blocks.get(name, ()))),
        )
        for name in BLOCKS
    ]


class Host:
    """A loaded model on a simulated device."""

    def __init__(
        self, folder: Path, host_store: HostStore, file_blocks: FileBlocks | None = None
    ) -> None:
        info = inspect_model_folder(folder)
        self.store = host_store
        self.model: LoadedModel = load_model(
            info,
            model_key(folder),
            torch.device("cpu"),
            lambda: None,
            store=host_store,
            file_blocks=file_blocks,
        )
        self.device = SimulatedDevice(Story(capacity_bytes=1 << 30))
        self.placer = Placer(self.model.hosts, self.device)

    def tiers(self, name: str) -> list[HostTier]:
        return [block.tier for block in self.model.hosts[name].blocks]

    def follow(self, streamed: FileBlocks, file_blocks: FileBlocks) -> None:
        def rearrange() -> None:
            for name, host in self.model.hosts.items():
                self.store.follow(host, file_blocks.get(name, ()))

        self.placer.replace(plans(streamed, file_blocks), rearrange=rearrange)

    def run(self, on_step: Callable[[int], None] = lambda _step: None) -> torch.Tensor:
        """Latents after two steps."""
        flux, device = self.model.pipeline, self.device
        with device.watch(Phase.ENCODE), self.placer.phase("text_encoder"):
            embeddings = encode_prompt(flux, self.model.info, "a small red circle")

        def on_step_end(_flux: object, index: int, *_more: object) -> dict[str, Any]:
            on_step(index + 1)
            return {}

        with device.watch(Phase.DENOISE), self.placer.phase("transformer"):
            return flux(
                prompt_embeds=embeddings,
                width=32,
                height=48,
                num_inference_steps=3,
                guidance_scale=1.0,
                generator=[torch.Generator("cpu").manual_seed(7)],
                output_type="latent",
                return_dict=False,
                callback_on_step_end=on_step_end,
            )[0]


def some_blocks(data: st.DataObject) -> FileBlocks:
    return {
        name: sorted(data.draw(st.sets(st.integers(0, count - 1))))
        for name, count in BLOCKS.items()
    }


@pytest.mark.parametrize("kind", ["klein", "dev"])
@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_every_tier_and_change_of_tiers_gives_the_same_numbers(
    kind: Kind,
    folders: Callable[[Kind], Path],
    expected: Callable[[Kind], torch.Tensor],
    data: st.DataObject,
) -> None:
    limit = data.draw(st.sampled_from([None, 0, 20_000]))
    host = Host(folders(kind), store(FakeRegistrar(limit)), some_blocks(data))
    host.follow(some_blocks(data), some_blocks(data))

    def change(step: int) -> None:
        if step == 1:
            host.follow(some_blocks(data), some_blocks(data))

    assert torch.equal(host.run(change), expected(kind))


@pytest.mark.parametrize("kind", ["klein", "dev"])
def test_model_larger_than_ram_runs_from_its_files(
    kind: Kind, folders: Callable[[Kind], Path], expected: Callable[[Kind], torch.Tensor]
) -> None:
    host = Host(folders(kind), store(room_bytes=lambda: 0))
    everything = {name: range(count) for name, count in BLOCKS.items()}
    assert host.tiers("transformer") == [HostTier.FILE] * 3
    assert host.tiers("text_encoder") == [HostTier.FILE] * 3

    host.placer.replace(plans(everything, everything))

    assert torch.equal(host.run(), expected(kind))


def storage_of(block: HostBlock) -> weakref.ref[torch.UntypedStorage]:
    packed = block.packed()
    assert packed is not None
    return weakref.ref(packed.untyped_storage())


def test_ram_of_blocks_that_go_to_the_disk_is_free_during_a_run(
    folders: Callable[[Kind], Path], expected: Callable[[Kind], torch.Tensor]
) -> None:
    registrar = FakeRegistrar()
    host = Host(folders("klein"), store(registrar))
    host.store.pin(list(host.model.hosts.values()))
    everything = {name: range(count) for name, count in BLOCKS.items()}
    memory = [storage_of(block) for block in host.model.hosts["transformer"].blocks]
    alive: list[list[bool]] = []

    def change(step: int) -> None:
        if step == 1:
            host.follow(everything, {"transformer": [0, 2]})
            # The simulated link remembers what it copied until it has told how long that took.
            host.placer.take_streaming()
            gc.collect()
            alive.append([one() is not None for one in memory])

    host.follow(everything, {})
    assert torch.equal(host.run(change), expected("klein"))
    assert alive == [[False, True, False]]
    assert host.tiers("transformer") == [HostTier.FILE, HostTier.PINNED, HostTier.FILE]
    in_ram = [*host.model.hosts["text_encoder"].blocks, host.model.hosts["transformer"].blocks[1]]
    bounced = registrar.locked_bytes - sum(block.layout.size_bytes for block in in_ram)
    assert (
        0
        < bounced
        <= BOUNCE_BUFFERS
        * max(block.layout.size_bytes for block in host.model.hosts["transformer"].blocks)
    )


@pytest.mark.parametrize("staying", [("transformer",), tuple(BLOCKS)])
def test_a_component_that_waits_for_its_turn_keeps_no_buffer_from_another(
    staying: Sequence[str],
    folders: Callable[[Kind], Path],
    expected: Callable[[Kind], torch.Tensor],
) -> None:
    host = Host(folders("klein"), store(room_bytes=lambda: 0))
    placed = [
        replace(one, placement=Placement.RESIDENT if one.name in staying else Placement.TURNS)
        for one in plans({}, {})
    ]

    # What is to stay on the device is read ahead at once, before the prompt is encoded.
    host.placer.replace(placed)

    assert torch.equal(host.run(), expected("klein"))
