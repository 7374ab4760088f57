"""Machines and requests for tests of the planner."""

from dataclasses import replace
from typing import Any

from app.core.plan import GenerationPlan
from app.core.policy import MemoryPolicy
from app.core.preset import PresetLimits
from app.core.profile import Calibration, DeviceProfile, HostProfile
from app.core.request import GenerationRequest
from app.core.units import GIB, MIB
from app.engine.coefficients import ModelCoefficients, shipped_coefficients
from app.engine.planner import plan_generation
from app.engine.planning.at_hand import AtHand

PLENTY = HostProfile(total_bytes=1024 * GIB, available_bytes=1000 * GIB)
CALIBRATION = Calibration(
    context_bytes=500 * MIB,
    workspace_bytes=200 * MIB,
    reserve_bytes=192 * MIB,
    reserve_share=0.08,
    compute_flops=40e12,
    copy_bytes_per_s=12e9,
    read_bytes_per_s=1.5e9,
)


def model(name: str = "klein-4b") -> ModelCoefficients:
    found = shipped_coefficients(name)
    assert found is not None
    return found


def card(gib: float, **changes: Any) -> DeviceProfile:
    size = round(gib * GIB)
    base = DeviceProfile(
        kind="cuda", name="card", total_bytes=size, free_bytes=size, calibration=CALIBRATION
    )
    return replace(base, **changes)


def cpu(gib: float) -> DeviceProfile:
    calibration = replace(CALIBRATION, context_bytes=0, compute_flops=5e10)
    return card(gib, kind="cpu", name="CPU", calibration=calibration)


def computer(gib: float, swap_gib: float = 0) -> HostProfile:
    size = round(gib * GIB)
    return HostProfile(
        total_bytes=size, available_bytes=size, swap_free_bytes=round(swap_gib * GIB)
    )


def asking(
    width: int = 1024, height: int = 1024, images: int = 1, **more: Any
) -> GenerationRequest:
    request = GenerationRequest(
        prompt="a fox", model="klein-4b", width_px=width, height_px=height, images=images, steps=4
    )
    return replace(request, **more)


def plan(
    request: GenerationRequest,
    device: DeviceProfile,
    *,
    host: HostProfile = PLENTY,
    policy: MemoryPolicy | None = None,
    coefficients: ModelCoefficients | None = None,
    limits: PresetLimits | None = None,
    references: tuple[tuple[int, int], ...] = (),
    loaded: bool = False,
    at_hand: AtHand | None = None,
) -> GenerationPlan:
    return plan_generation(
        request,
        device,
        host,
        policy or MemoryPolicy(),
        coefficients or model(),
        limits,
        references=references,
        loaded=loaded,
        at_hand=at_hand,
    )
