"""A request against a machine, with everything decided that no rung of the ladder changes."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar, cast

from app.core.policy import MemoryPolicy, Precision
from app.core.preset import PresetLimits
from app.core.profile import DeviceProfile, HostProfile
from app.core.request import SIZE_MULTIPLE_PX, GenerationRequest
from app.engine.coefficients import ModelCoefficients
from app.engine.foreign_weights import foreign_of
from app.engine.planning.at_hand import AtHand
from app.engine.planning.components import AUTOENCODER, COMPONENTS, TEXT_ENCODER, TRANSFORMER
from app.engine.planning.precisions import file_bytes, resolve_precisions
from app.engine.quantize.recipe import QUANTIZED
from app.engine.residency.ring import BOUNCE_BUFFERS

Size = TypeVar("Size", int, tuple[int, ...])
Known = TypeVar("Known")
Measure = Callable[[str, Precision, Precision], Size]
"""Of a component's weights in a precision, with what is not quantized in another."""
ENGINE_BYTES = 1 << 30
"""Of the engine process without a model: Python, torch, the driver. An assumption."""
LATENT_CHANNELS = 128
"""Of one image token (FLUX.2: 32 channels in patches of 2x2)."""
RAM_HEADROOM_SHARE = 8
"""The RAM left to others is at most this part of all there is, whatever the policy says: on a
machine of 4 GB, the usual 2 GB would leave nothing to run even the demo in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanProblem:
    """What is to be planned.

    Attributes:
        request: What is asked for.
        device: To run on.
        host: The computer around it.
        policy: What the user decided.
        coefficients: Of the model.
        limits: Of the preset.
        references: Width and height of each reference image, in pixels.
        loaded: Whether the weights are in RAM already.
        precisions: Of each component; never AUTO.
        beside: What is not quantized beside quantized weights, and what they are computed in.
        weights: All weights of each component that computing has on the device, in bytes.
        ram_only_bytes: Of weights that stay in RAM beside a GPU; 0 on the CPU.
        stored_bytes: That are read from the disk, or written to it, to load all that is needed.
        to_convert: Components whose weights are converted first; empty where that is not known.
        converted: Components whose converted weights are kept; empty where that is not known.
        prompts_known: Whether the prompts' embeddings are kept, so that the text encoder rests.
        blocks: Bytes of each component's blocks.
        prompts: How many prompts are encoded.
        passes: Of the transformer in each step.
        budget_bytes: What may be used of the device.
        ram_calm_bytes: What may be used of the RAM without swapping.
        ram_budget_bytes: What may be used of the RAM and the swap.
        ram_rooms: For each component, how many bytes of its weights RAM can hold without swapping;
            what is above is read from the disk whenever it is needed.
        bounce_bytes: RAM that is needed where weights are read from the disk to the device.
        precision_reason: Why a precision was chosen that nobody asked for, in a sentence, or "".
        known: What was said of this problem already; see `once`.
    """

    request: GenerationRequest
    device: DeviceProfile
    host: HostProfile
    policy: MemoryPolicy
    coefficients: ModelCoefficients
    limits: PresetLimits
    references: tuple[tuple[int, int], ...]
    loaded: bool
    precisions: dict[str, Precision]
    beside: Precision
    weights: dict[str, int]
    ram_only_bytes: int
    stored_bytes: int
    to_convert: tuple[str, ...]
    converted: tuple[str, ...]
    prompts_known: bool
    blocks: dict[str, tuple[int, ...]]
    prompts: int
    passes: int
    budget_bytes: int
    ram_calm_bytes: int
    ram_budget_bytes: int
    ram_rooms: dict[str, int]
    bounce_bytes: int
    precision_reason: str = ""
    known: dict[object, object] = field(
        default_factory=dict[object, object], init=False, repr=False, compare=False
    )

    @property
    def on_cpu(self) -> bool:
        """Whether the device is the computer itself, so that its memory is the RAM."""
        return self.device.kind == "cpu"

    def allows_size(self, width_px: int, height_px: int) -> bool:
        """Whether the preset's limits allow a size."""
        side, pixels = self.limits.max_side_px, self.limits.max_pixels
        return (side is None or max(width_px, height_px) <= side) and (
            pixels is None or width_px * height_px <= pixels
        )


def once(problem: PlanProblem, says: Callable[[PlanProblem], Known]) -> Known:
    """What a pure function says of a problem, computed the first time only.

    Many sizes and numbers of images are looked at for one problem; most of it is the same for all.
    """
    if says not in problem.known:
        problem.known[says] = says(problem)
    return cast("Known", problem.known[says])


def pose(
    request: GenerationRequest,
    device: DeviceProfile,
    host: HostProfile,
    policy: MemoryPolicy,
    coefficients: ModelCoefficients,
    *,
    limits: PresetLimits | None = None,
    references: tuple[tuple[int, int], ...] = (),
    loaded: bool = False,
    at_hand: AtHand | None = None,
) -> PlanProblem:
    """The problem of a request; see `plan_generation` for the arguments."""
    on_cpu = device.kind == "cpu"
    guided = coefficients.guidance == "cfg" and request.guidance > 1
    ram_headroom = min(policy.ram_headroom_bytes, host.total_bytes // RAM_HEADROOM_SHARE)
    ram_calm = max(0, host.available_bytes - ram_headroom)
    budget = _budget(device, policy, ram_headroom)
    ram_room = max(0, ram_calm - run_bytes_in_ram(request))
    chosen = resolve_precisions(
        coefficients, policy, on_cpu=on_cpu, vram_room_bytes=budget, ram_room_bytes=ram_room
    )
    precisions = chosen.precisions
    beside = coefficients.stored_precision if on_cpu else Precision.BF16

    def sized(measure: Measure[Size]) -> dict[str, Size]:
        return {name: measure(name, precisions[name], beside) for name in COMPONENTS}

    weights, ram_only = sized(coefficients.weights_bytes), sized(coefficients.ram_only_bytes)
    if on_cpu:
        weights = {name: weights[name] + ram_only[name] for name in COMPONENTS}
        ram_only = dict.fromkeys(COMPONENTS, 0)
    blocks = sized(coefficients.block_bytes)
    # A text encoder that rests is placed like any other: the engine plans before it looks whether
    # the embeddings are sound.
    pair = (precisions[TEXT_ENCODER], precisions[TRANSFORMER])
    prompts_known = at_hand is not None and pair in at_hand.known_prompts
    read = [name for name in COMPONENTS if not (prompts_known and name == TEXT_ENCODER)]
    to_convert: tuple[str, ...] = ()
    converted: tuple[str, ...] = ()
    if at_hand is not None:
        quantized = [
            name
            for name in read
            if precisions[name] in QUANTIZED and foreign_of(coefficients.foreign, name) is None
        ]
        found = {name for name, precision in at_hand.converted if precision is precisions[name]}
        converted = tuple(name for name in quantized if name in found)
        to_convert = tuple(name for name in quantized if name not in found)
    bounce = BOUNCE_BUFFERS * max((size for sizes in blocks.values() for size in sizes), default=0)
    return PlanProblem(
        request=request,
        device=device,
        host=host,
        policy=policy,
        coefficients=coefficients,
        limits=limits or PresetLimits(),
        references=references,
        loaded=loaded,
        precisions=precisions,
        beside=beside,
        weights=weights,
        ram_only_bytes=sum(ram_only.values()),
        stored_bytes=sum(file_bytes(coefficients, name, precisions[name]) for name in read)
        + sum(
            # The model's own files are read for it, and what they become is written.
            file_bytes(coefficients, name, coefficients.stored_precision)
            + file_bytes(coefficients, name, precisions[name])
            for name in to_convert
        ),
        to_convert=to_convert,
        converted=converted,
        prompts_known=prompts_known,
        blocks=blocks,
        prompts=2 if guided else 1,
        passes=2 if guided else 1,
        budget_bytes=budget,
        ram_calm_bytes=ram_calm,
        ram_budget_bytes=ram_calm + host.swap_free_bytes,
        ram_rooms=_ram_rooms(weights, ram_room - sum(ram_only.values()), bounce),
        bounce_bytes=bounce,
        precision_reason=chosen.reason,
    )


def run_bytes_in_ram(request: GenerationRequest) -> int:
    """RAM that a request needs beside a GPU besides weights: the engine, and all its latents."""
    return ENGINE_BYTES + latents_bytes(request.width_px, request.height_px, request.images)


def latents_bytes(width_px: int, height_px: int, images: int) -> int:
    """Of images that wait in RAM for their decoding."""
    tokens = (width_px // SIZE_MULTIPLE_PX) * (height_px // SIZE_MULTIPLE_PX)
    return images * tokens * LATENT_CHANNELS * 4


def _ram_rooms(weights: dict[str, int], room_bytes: int, bounce_bytes: int) -> dict[str, int]:
    """How RAM is shared where it does not hold everything.

    The transformer's blocks may come in at every step, so they go first; then what is read once a
    run.
    """
    if sum(weights.values()) <= room_bytes:
        return weights
    left = max(0, room_bytes - bounce_bytes)
    rooms: dict[str, int] = {}
    for name in (TRANSFORMER, TEXT_ENCODER, AUTOENCODER):
        rooms[name] = min(left, weights[name])
        left -= rooms[name]
    return rooms


def _budget(device: DeviceProfile, policy: MemoryPolicy, ram_headroom_bytes: int) -> int:
    # On the CPU the device is the RAM, and so is what is left to others.
    on_cpu = device.kind == "cpu"
    headroom = ram_headroom_bytes if on_cpu else policy.headroom_bytes
    limit = math.inf if policy.limit_bytes is None else policy.limit_bytes
    return int(max(0, min(device.free_bytes - headroom, device.total_bytes, limit)))
