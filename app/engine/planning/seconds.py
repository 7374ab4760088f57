"""How long the parts of a run take: a roofline of what is computed and what is copied.

Ways that give the same picture are chosen by these seconds, so the gentler of two ways must never
come out slower. The small costs below see to that where the roofline sees no difference; they are
assumptions about the order of magnitude, nothing that was measured.
"""

from app.core.jobs import Phase
from app.core.plan import Placement
from app.engine.planning.kept import Kept
from app.engine.planning.problem import PlanProblem

TURN_S = 0.001
"""For a component to come and go within a run, besides its copy."""
DECODE_RUNG_S = 0.005
"""For each rung down the ladder of the decode: more than all turns together."""
PART_S = 0.01
"""For each further part of a batch in each step: small batches use a GPU less well."""
CPU_FLOPS = 1e11
"""Of a desktop's processor, where the decode goes when nothing else is left."""
CPU_DECODE_FACTOR = 2.0
"""The processor is taken to be at least this much slower than the device."""
PNG_BYTES_PER_S = 2e7
"""Pixels packed into PNG files per second."""


def load_seconds(
    problem: PlanProblem, *, resident_bytes: int, swapped_bytes: int, cold: bool = False
) -> float:
    """Reading all weights from the disk, and bringing those that stay to the device.

    Args:
        problem: What is planned.
        resident_bytes: That stay on the device.
        swapped_bytes: Of RAM that is not there.
        cold: As if nothing were loaded yet, whatever the problem says.
    """
    calibration = problem.device.calibration
    read_s = brought_s = 0.0
    if cold or not problem.loaded:
        read_s = problem.stored_bytes / calibration.read_bytes_per_s
        brought_s = _brought_seconds(problem, resident_bytes)
    # What is swapped is written to the disk and read again.
    swap_s = 2 * swapped_bytes / calibration.read_bytes_per_s
    return (read_s + swap_s) * time_factor(problem, Phase.LOAD) + brought_s


def compute_seconds(problem: PlanProblem, phase: Phase, flops: float) -> float:
    """Computing alone."""
    return flops / problem.device.calibration.compute_flops * time_factor(problem, phase)


def weights_seconds(problem: PlanProblem, kept: Kept) -> float:
    """What the way a component is kept adds to its phase, besides what streaming adds.

    Blocks that stay are brought before the first run. Those that come in are counted as if they
    were, too, which says a little too much: so a component that is streamed never seems to be
    there sooner than one that comes whole.
    """
    if kept.placement is Placement.RESIDENT:
        return 0.0
    brought_s = _brought_seconds(problem, kept.stays_bytes + kept.streamed_bytes)
    return TURN_S + brought_s + read_again_seconds(problem, kept)


def read_again_seconds(problem: PlanProblem, kept: Kept) -> float:
    """To bring what RAM does not hold of a component that is loaded; else the load phase reads."""
    if not problem.loaded:
        return 0.0
    reading_s = kept.unheld_bytes / problem.device.calibration.read_bytes_per_s
    return reading_s * time_factor(problem, Phase.LOAD)


def part_seconds(problem: PlanProblem, parts: int) -> float:
    """What a batch in parts takes longer than at once."""
    return PART_S * (parts - 1) * problem.request.steps * problem.passes


def cpu_decode_seconds(
    problem: PlanProblem, *, flops: float, slowest_s: float, brought: Kept
) -> float:
    """Decoding on the processor; never faster than the slowest way on the device."""
    cpu_s = flops / CPU_FLOPS * time_factor(problem, Phase.DECODE)
    device_s = slowest_s + weights_seconds(problem, brought)
    return max(cpu_s, device_s * CPU_DECODE_FACTOR)


def save_seconds(problem: PlanProblem, *, pixels: int) -> float:
    """PNG files of so many pixels."""
    return 3 * pixels / PNG_BYTES_PER_S * time_factor(problem, Phase.SAVE)


def _brought_seconds(problem: PlanProblem, size_bytes: int) -> float:
    """Weights on their first way to the device.

    Always corrected as a part of loading, also where it happens in a later phase: otherwise the
    same copy would cost more in one phase than in another, and keeping weights would seem slow.
    """
    if problem.on_cpu:
        return 0.0
    copy_s = size_bytes / problem.device.calibration.copy_bytes_per_s
    return copy_s * time_factor(problem, Phase.LOAD)


def time_factor(problem: PlanProblem, phase: Phase) -> float:
    """Measured seconds of a phase over predicted ones."""
    return problem.device.calibration.time_factor.get(phase, 1.0)
