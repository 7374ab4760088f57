"""A request against a machine, with everything decided that no rung of the ladder changes."""

import math
from dataclasses import dataclass

from app.core.policy import MemoryPolicy, Precision
from app.core.preset import PresetLimits
from app.core.profile import DeviceProfile, HostProfile
from app.core.request import GenerationRequest
from app.engine.coefficients import ModelCoefficients

TEXT_ENCODER = "text_encoder"
TRANSFORMER = "transformer"
AUTOENCODER = "autoencoder"
COMPONENTS = (TEXT_ENCODER, TRANSFORMER, AUTOENCODER)

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
        weights: All weights of each component, in bytes.
        stored_bytes: Of the model's files.
        blocks: Bytes of each component's blocks.
        prompts: How many prompts are encoded.
        passes: Of the transformer in each step.
        budget_bytes: What may be used of the device.
        ram_calm_bytes: What may be used of the RAM without swapping.
        ram_budget_bytes: What may be used of the RAM and the swap.
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
    weights: dict[str, int]
    stored_bytes: int
    blocks: dict[str, tuple[int, ...]]
    prompts: int
    passes: int
    budget_bytes: int
    ram_calm_bytes: int
    ram_budget_bytes: int

    @property
    def on_cpu(self) -> bool:
        """Whether the device is the computer itself, so that its memory is the RAM."""
        return self.device.kind == "cpu"

    @property
    def all_weights_bytes(self) -> int:
        """Of all components."""
        return sum(self.weights.values())

    def allows_size(self, width_px: int, height_px: int) -> bool:
        """Whether the preset's limits allow a size."""
        side, pixels = self.limits.max_side_px, self.limits.max_pixels
        return (side is None or max(width_px, height_px) <= side) and (
            pixels is None or width_px * height_px <= pixels
        )


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
) -> PlanProblem:
    """The problem of a request; see `plan_generation` for the arguments."""
    precisions = {
        TEXT_ENCODER: policy.precisions.text_encoder,
        TRANSFORMER: policy.precisions.transformer,
        AUTOENCODER: policy.precisions.autoencoder,
    }
    stored = coefficients.stored_precision
    usual = stored if device.kind == "cpu" else Precision.BF16
    resolved = {
        name: usual if precision is Precision.AUTO else precision
        for name, precision in precisions.items()
    }
    guided = coefficients.guidance == "cfg" and request.guidance > 1
    ram_headroom = min(policy.ram_headroom_bytes, host.total_bytes // RAM_HEADROOM_SHARE)
    ram_calm = max(0, host.available_bytes - ram_headroom)
    return PlanProblem(
        request=request,
        device=device,
        host=host,
        policy=policy,
        coefficients=coefficients,
        limits=limits or PresetLimits(),
        references=references,
        loaded=loaded,
        precisions=resolved,
        weights={name: coefficients.weights_bytes(name, resolved[name]) for name in COMPONENTS},
        stored_bytes=sum(coefficients.weights_bytes(name, stored) for name in COMPONENTS),
        blocks={name: coefficients.block_bytes(name, resolved[name]) for name in COMPONENTS},
        prompts=2 if guided else 1,
        passes=2 if guided else 1,
        budget_bytes=_budget(device, policy, ram_headroom),
        ram_calm_bytes=ram_calm,
        ram_budget_bytes=ram_calm + host.swap_free_bytes,
    )


def _budget(device: DeviceProfile, policy: MemoryPolicy, ram_headroom_bytes: int) -> int:
    # On the CPU the device is the RAM, and so is what is left to others.
    on_cpu = device.kind == "cpu"
    headroom = ram_headroom_bytes if on_cpu else policy.headroom_bytes
    limit = math.inf if policy.limit_bytes is None else policy.limit_bytes
    return int(max(0, min(device.free_bytes - headroom, device.total_bytes, limit)))
