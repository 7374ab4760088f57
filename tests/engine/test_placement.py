"""Placements change where weights are, never the picture."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from diffusers.utils.torch_utils import get_module_execution_device
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from app.core.jobs import Phase
from app.core.plan import ComponentPlan, Placement
from app.core.policy import Precision
from app.engine.compute_device import ComputeDevice, CpuDevice
from app.engine.model_folder import inspect_model_folder
from app.engine.placement import Placer
from app.engine.residency.blocks import streamable_blocks
from app.engine.residency.host_network import HostBuffer, packed_network, ram_buffer
from app.engine.residency.leaves import ModuleTensors
from app.engine.residency.ring import least_slots_bytes
from app.engine.residency.transfers import DirectTransfers
from app.engine.simulated_device import SimulatedDevice
from app.engine.simulated_story import Failure, Moment, Story
from tests.reference_pipeline import reference_pipeline
from tests.tiny_models import Kind, make_tiny_model

KINDS: tuple[Kind, ...] = ("klein", "klein-base", "dev")
COMPONENTS = ("text_encoder", "transformer", "autoencoder")
GIB = 1 << 30


def plan(
    name: str, placement: Placement = Placement.TURNS, streamed: tuple[int, ...] = ()
) -> ComponentPlan:
    """Bytes of plans are for people; what is moved follows from the networks."""
    return ComponentPlan(
        name=name,
        precision=Precision.FP32,
        placement=placement,
        weights_bytes=0,
        device_bytes=0,
        streamed_blocks=streamed,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A tiny pipeline, its networks, and the pixels it makes when nothing is moved."""

    kind: Kind
    flux: Any
    out_layers: tuple[int, ...]
    networks: dict[str, torch.nn.Module]
    pixels: list[torch.Tensor]


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Kind], Tried]:
    made: dict[Kind, Tried] = {}

    def get(kind: Kind) -> Tried:
        if kind not in made:
            folder = make_tiny_model(kind, tmp_path_factory.mktemp(kind))
            flux = reference_pipeline(folder)
            parts = (flux.text_encoder, flux.transformer, flux.vae)
            for name, part in zip(COMPONENTS, parts, strict=True):
                # The CPU's kernels round otherwise where weights are not aligned, as in a file.
                packed_network(name, part)
            found = made[kind] = Tried(
                kind=kind,
                flux=flux,
                out_layers=inspect_model_folder(folder).text_out_layers,
                networks=dict(zip(COMPONENTS, parts, strict=True)),
                pixels=[],
            )
            device = CpuDevice()
            found.pixels.append(run(found, device, Placer(found.networks, device)))
        return made[kind]

    return get


def pixels_are_right(tried: Tried, pixels: torch.Tensor) -> bool:
    return bool(torch.equal(pixels, tried.pixels[0]))


def run(
    tried: Tried,
    device: ComputeDevice,
    placer: Placer,
    on_step: Callable[[int], None] | None = None,
) -> torch.Tensor:
    """Decoded pixels of one image, by the phases of diffusers' own pipeline."""
    flux = tried.flux
    prompts: list[torch.Tensor] = []
    with torch.no_grad(), device.watch(Phase.ENCODE), placer.phase("text_encoder"):
        for text in ("a small red circle", ""):
            embeddings, _ids = flux.encode_prompt(
                prompt=text, text_encoder_out_layers=tried.out_layers
            )
            prompts.append(embeddings)

    def on_step_end(_flux: object, index: int, _time: object, _values: object) -> dict[str, Any]:
        if on_step is not None:
            on_step(index + 1)
        return {}

    # Of the two only klein base runs guidance of its own.
    options: dict[str, Any] = {} if tried.kind == "dev" else {"negative_prompt_embeds": prompts[1]}
    with device.watch(Phase.DENOISE), placer.phase("transformer"):
        latents: torch.Tensor = flux(
            prompt_embeds=prompts[0],
            width=32,
            height=48,
            num_inference_steps=2,
            guidance_scale=1.0 if tried.kind == "klein" else 4.0,
            generator=[torch.Generator("cpu").manual_seed(7)],
            output_type="latent",
            return_dict=False,
            callback_on_step_end=on_step_end,
            **options,
        )[0]
    if tried.kind == "dev":  # Its pipeline gives packed latents; any shape that decodes will do.
        latents = latents.reshape(1, -1, 6, 4)
    with torch.no_grad(), device.watch(Phase.DECODE), placer.phase("autoencoder"):
        return flux.vae.decode(latents, return_dict=False)[0]


def packed_bytes(module: torch.nn.Module, *, without: Sequence[torch.nn.Module] = ()) -> int:
    return ModuleTensors(module, without=without).layout.size_bytes


def all_bytes(tried: Tried, name: str) -> int:
    """Of a component, packed block by block."""
    network = tried.networks[name]
    blocks = streamable_blocks(name, network)
    return packed_bytes(network, without=blocks) + sum(map(packed_bytes, blocks))


@pytest.mark.parametrize("kind", KINDS)
@settings(
    max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_every_placement_gives_the_same_picture(
    kind: Kind, tried: Callable[[Kind], Tried], data: st.DataObject
):
    found = tried(kind)
    plans: list[ComponentPlan] = []
    for name in COMPONENTS:
        blocks = len(streamable_blocks(name, found.networks[name]))
        placement = data.draw(st.sampled_from(Placement if blocks else list(Placement)[:2]))
        streamed: tuple[int, ...] = ()
        if placement is Placement.STREAMED:
            streamed = tuple(sorted(data.draw(st.sets(st.integers(0, blocks - 1), min_size=1))))
        plans.append(plan(name, placement, streamed))
    for device in (CpuDevice(), SimulatedDevice(Story(capacity_bytes=GIB))):
        placer = Placer(found.networks, device)
        placer.replace(plans)
        assert pixels_are_right(found, run(found, device, placer))
        resident = [one.name for one in plans if one.placement is Placement.RESIDENT]
        assert placer.device_bytes() == sum(all_bytes(found, name) for name in resident)
        placer.evict()
        placer.replace([plan(name) for name in COMPONENTS])
        if isinstance(device, SimulatedDevice):
            assert device.weights_bytes() == 0


def test_streaming_needs_room_for_two_blocks(tried: Callable[[Kind], Tried]):
    found = tried("klein")
    transformer = found.networks["transformer"]
    blocks = streamable_blocks("transformer", transformer)
    sizes = [packed_bytes(block) for block in blocks]
    rest = packed_bytes(transformer, without=blocks)
    device = SimulatedDevice(Story(capacity_bytes=GIB))
    placer = Placer(found.networks, device)
    placer.replace([plan("transformer", Placement.STREAMED, tuple(range(len(blocks))))])
    most = 0

    def look(_module: object, _inputs: object) -> None:
        nonlocal most
        most = max(most, device.weights_bytes())

    hooks = [block.register_forward_pre_hook(look) for block in blocks]
    run(found, device, placer)
    for hook in hooks:
        hook.remove()
    placer.replace([plan("transformer")])
    assert most == rest + least_slots_bytes(sizes) < rest + sum(sizes)


@pytest.fixture
def placer_and_device(
    tried: Callable[[Kind], Tried],
) -> Generator[tuple[Tried, Placer, SimulatedDevice]]:
    found = tried("klein-base")
    device = SimulatedDevice(Story(capacity_bytes=GIB))
    placer = Placer(found.networks, device)
    yield found, placer, device
    placer.replace([plan(name) for name in COMPONENTS])


def test_a_plan_can_be_replaced_between_steps(
    placer_and_device: tuple[Tried, Placer, SimulatedDevice],
):
    found, placer, device = placer_and_device
    placer.replace([plan(name, Placement.RESIDENT) for name in COMPONENTS])
    everything = device.weights_bytes()
    seen: list[int] = []

    def relieve(step: int) -> None:
        if step == 1:
            placer.replace(
                [
                    plan("text_encoder"),
                    plan("transformer", Placement.STREAMED, (0, 1, 2)),
                    plan("autoencoder"),
                ]
            )
        seen.append(device.weights_bytes())

    assert pixels_are_right(found, run(found, device, placer, relieve))
    transformer = found.networks["transformer"]
    blocks = streamable_blocks("transformer", transformer)
    rest = packed_bytes(transformer, without=blocks)
    sizes = [packed_bytes(block) for block in blocks]
    assert seen == [rest + sum(sizes[3:]) + least_slots_bytes(sizes[:3])] * 2
    assert seen[0] < everything


def test_a_block_that_fails_leaves_nothing_behind(tried: Callable[[Kind], Tried]):
    found = tried("klein")
    transformer = found.networks["transformer"]
    blocks = streamable_blocks("transformer", transformer)
    moment = Moment(phase=Phase.DENOISE, step=0, operation=60)
    device = SimulatedDevice(Story(capacity_bytes=GIB, failures=(Failure(at=moment),)))
    placer = Placer(found.networks, device)
    placer.replace([plan("transformer", Placement.STREAMED, tuple(range(len(blocks))))])
    with pytest.raises(torch.OutOfMemoryError):
        run(found, device, placer)
    assert device.weights_bytes() == 0
    assert pixels_are_right(found, run(found, device, placer))
    placer.replace([plan("transformer")])


def test_what_does_not_fit_can_be_placed_anew(tried: Callable[[Kind], Tried]):
    found = tried("dev")
    sizes = {name: all_bytes(found, name) for name in COMPONENTS}
    device = SimulatedDevice(Story(capacity_bytes=sum(sizes.values()) - 1))
    placer = Placer(found.networks, device)
    with pytest.raises(torch.OutOfMemoryError):
        placer.replace([plan(name, Placement.RESIDENT) for name in COMPONENTS])
    placer.replace([plan("text_encoder"), plan("autoencoder")])
    assert device.weights_bytes() == sizes["transformer"]
    placer.evict()
    assert device.weights_bytes() == 0


def test_a_component_is_let_go_when_its_phase_cannot_begin(tried: Callable[[Kind], Tried]):
    found = tried("klein")
    device = SimulatedDevice(Story(capacity_bytes=1024))
    placer = Placer(found.networks, device)
    with pytest.raises(torch.OutOfMemoryError), placer.phase("transformer"):
        pytest.fail("the phase began")
    assert device.weights_bytes() == 0


class Releasing(SimulatedDevice):
    """Counts how often it is told that weights have left."""

    released = 0

    def release_left(self) -> None:
        self.released += 1


def test_the_allocator_is_told_when_weights_have_left(tried: Callable[[Kind], Tried]):
    device = Releasing(Story(capacity_bytes=GIB))
    placer = Placer(tried("klein").networks, device)
    with placer.phase("transformer"):
        assert device.released == 0
    assert device.released == 1
    placer.replace([plan("transformer", Placement.RESIDENT)])
    with placer.phase("transformer"):
        pass
    assert device.released == 1
    placer.replace([plan("transformer")])
    assert device.released == 2


def test_a_cpu_has_weights_where_they_were(tried: Callable[[Kind], Tried]):
    networks = tried("klein").networks
    before = [tensor.data_ptr() for tensor in networks["transformer"].parameters()]
    placer = Placer(networks, CpuDevice())
    assert placer.resident_bytes() == 0
    with placer.phase("transformer"):
        assert placer.resident_bytes() == all_bytes(tried("klein"), "transformer")
    assert before == [tensor.data_ptr() for tensor in networks["transformer"].parameters()]


def test_a_plan_of_another_model_is_refused(tried: Callable[[Kind], Tried]):
    found = tried("klein")
    placer = Placer(found.networks, CpuDevice())
    with pytest.raises(ValueError, match="blocks"):
        placer.replace([plan("transformer", Placement.STREAMED, (400,))])


def test_blocks_are_numbered_as_they_run(tried: Callable[[Kind], Tried]):
    for kind in ("klein", "dev"):
        found = tried(kind)
        for name in ("text_encoder", "transformer"):
            order: list[int] = []
            blocks = streamable_blocks(name, found.networks[name])
            hooks = [
                block.register_forward_pre_hook(
                    lambda *_inputs, index=index, order=order: order.append(index)
                )
                for index, block in enumerate(blocks)
            ]
            device = CpuDevice()
            run(found, device, Placer(found.networks, device))
            for hook in hooks:
                hook.remove()
            assert order[: len(blocks)] == list(range(len(blocks)))
            assert len(blocks) >= 3


class ElsewhereTransfers(DirectTransfers):
    """To a device whose tensors have no data."""

    in_place = False

    def __init__(self, torch_device: torch.device) -> None:
        self._torch_device = torch_device
        self.asked_bytes: list[int] = []

    def host_buffer(self, size_bytes: int) -> HostBuffer:
        self.asked_bytes.append(size_bytes)
        return ram_buffer(size_bytes)

    def allocate(self, size_bytes: int) -> torch.Tensor:
        return torch.empty(size_bytes, dtype=torch.uint8, device=self._torch_device)

    def copy(self, target: torch.Tensor, source: torch.Tensor, after: object) -> None:
        assert target.device.type == self._torch_device.type
        assert source.device.type == "cpu"


class Accelerator(CpuDevice):
    """Lends to a device whose tensors have no data."""

    kind = "cuda"

    def __init__(self, torch_device: str) -> None:
        super().__init__()
        self.torch_device = torch.device(torch_device)
        self.transfers = self.elsewhere = ElsewhereTransfers(self.torch_device)


STREAMING = (
    plan("text_encoder", Placement.STREAMED, (1, 2)),
    plan("transformer", Placement.STREAMED, (0, 2)),
)


@pytest.mark.parametrize("kind", KINDS)
def test_pipelines_find_the_device_in_each_phase(kind: Kind, tried: Callable[[Kind], Tried]):
    found = tried(kind)
    flux = found.flux
    device = Accelerator("cuda:0")
    placer = Placer(found.networks, device)
    with FakeTensorMode(allow_non_fake_inputs=True):
        placer.replace(STREAMING)
        for name in COMPONENTS:
            with placer.phase(name):
                assert flux._execution_device == device.torch_device
                assert get_module_execution_device(found.networks[name]) == device.torch_device
            assert flux._execution_device.type == "cpu"
        placer.replace([plan(name) for name in COMPONENTS])


def test_only_what_is_streamed_takes_locked_ram(tried: Callable[[Kind], Tried]):
    networks = tried("klein").networks
    device = Accelerator("meta")
    Placer({"autoencoder": networks["autoencoder"]}, device)
    assert device.elsewhere.asked_bytes == []
    transformer = networks["transformer"]
    blocks = streamable_blocks("transformer", transformer)
    Placer({"transformer": transformer}, device)
    assert sum(device.elsewhere.asked_bytes) == all_bytes(tried("klein"), "transformer")
    assert len(device.elsewhere.asked_bytes) == 1 + len(blocks)


def test_every_module_computes_on_the_device(tried: Callable[[Kind], Tried]):
    found = tried("dev")
    transformer: Any = found.networks["transformer"]
    device = Accelerator("meta")
    placer = Placer(found.networks, device)
    before = list(transformer.parameters())
    placer.replace(STREAMING)
    blocks = streamable_blocks("transformer", transformer)
    ran: list[torch.nn.Module] = []

    def look(module: torch.nn.Module, _inputs: object) -> None:
        ran.append(module)
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            assert tensor.device == device.torch_device

    hooks = [module.register_forward_pre_hook(look) for module in transformer.modules()]
    values = {
        "hidden_states": torch.zeros(1, 6, transformer.config.in_channels, device="meta"),
        "encoder_hidden_states": torch.zeros(
            1, 8, transformer.config.joint_attention_dim, device="meta"
        ),
        "timestep": torch.zeros(1, device="meta"),
        "guidance": torch.zeros(1, device="meta"),
        "img_ids": torch.zeros(1, 6, 4, device="meta"),
        "txt_ids": torch.zeros(1, 8, 4, device="meta"),
    }
    with torch.no_grad(), placer.phase("transformer"):
        assert transformer(**values).sample.device.type == "meta"
    for hook in hooks:
        hook.remove()
    assert set(blocks) < set(ran)
    after = list(transformer.parameters())
    assert all(one is other for one, other in zip(before, after, strict=True))
    placer.replace([plan(name) for name in COMPONENTS])


def test_a_component_that_is_forgotten_leaves_the_device_and_later_plans_pass_it_over(
    placer_and_device: tuple[Tried, Placer, SimulatedDevice],
):
    _found, placer, device = placer_and_device
    placer.replace(plan(name, Placement.RESIDENT) for name in COMPONENTS)
    before_bytes = device.weights_bytes()
    freed_bytes = placer.forget("text_encoder")
    assert 0 < freed_bytes <= before_bytes - device.weights_bytes()
    assert not placer.holds("text_encoder")
    assert placer.forget("text_encoder") == 0
    placer.replace(plan(name) for name in COMPONENTS)
    assert device.weights_bytes() == 0
