"""Plans made by hand, for what shows them."""

from typing import Any

from app.core.jobs import Phase
from app.core.plan import ComponentPlan, GenerationPlan, PhasePlan, Placement, Verdict
from app.core.policy import Precision
from app.core.units import GIB


def gib(size: float) -> int:
    return round(size * GIB)


def phase_plan(
    phase: Phase, weights_gib: float, working_gib: float, seconds: float, *, unsure_gib: float = 0.3
) -> PhasePlan:
    return PhasePlan(
        phase=phase,
        weights_bytes=gib(weights_gib),
        working_bytes=gib(working_gib),
        uncertainty_bytes=gib(unsure_gib),
        seconds=seconds,
        seconds_low=seconds * 0.8,
        seconds_high=seconds * 1.4,
    )


PHASES = (
    phase_plan(Phase.LOAD, 4.0, 0.0, 4.0),
    phase_plan(Phase.ENCODE, 7.5, 0.4, 2.0),
    phase_plan(Phase.DENOISE, 7.3, 1.0, 24.0),
    phase_plan(Phase.DECODE, 0.2, 2.2, 4.0),
    phase_plan(Phase.SAVE, 0.2, 0.0, 0.5),
)


def plan(verdict: Verdict = Verdict.FITS, **changes: Any) -> GenerationPlan:
    """A plan of klein 4B on a card of 12 GiB: 8.3 of 10.5 GiB, 34.5 s."""
    values: dict[str, Any] = {
        "verdict": verdict,
        "model": "FLUX.2 klein 4B",
        "width_px": 1024,
        "height_px": 1024,
        "images": 1,
        "batch": 1,
        "decode_batch": 1,
        "components": tuple(
            ComponentPlan(
                name=name,
                precision=Precision.BF16,
                placement=Placement.TURNS,
                weights_bytes=gib(size),
                device_bytes=gib(size),
            )
            for name, size in (("text_encoder", 7.5), ("transformer", 7.3), ("autoencoder", 0.2))
        ),
        "phases": PHASES,
        "budget_bytes": gib(10.5),
        "total_bytes": gib(12.0),
        "ram_peak_bytes": gib(16.0),
        "ram_budget_bytes": gib(24.0),
    }
    return GenerationPlan(**{**values, **changes})
