"""What a run needs of the computer's RAM beside a GPU."""

from collections.abc import Iterable

from app.core.policy import Precision
from app.engine.planning.components import AUTOENCODER, COMPONENTS, TEXT_ENCODER
from app.engine.planning.problem import ENGINE_BYTES, PlanProblem, latents_bytes


def run_ram_bytes(problem: PlanProblem, *, width_px: int, height_px: int, images: int) -> int:
    """RAM of a run that decodes on the device; 0 on the CPU, where the device is the RAM.

    The engine keeps each weight in RAM once, whatever is on the device: what leaves the device is
    dropped there and never copied back. What RAM cannot hold is read from the disk when it is
    needed. The latents of all images wait in RAM for their decoding.
    """
    if problem.on_cpu:
        return 0
    held = sum(min(problem.ram_rooms[name], weights) for name, weights in problem.weights.items())
    bounce = problem.bounce_bytes if unheld_bytes(problem) else 0
    latents = latents_bytes(width_px, height_px, images)
    return ENGINE_BYTES + held + bounce + problem.ram_only_bytes + latents


def unheld_bytes(problem: PlanProblem, names: Iterable[str] = COMPONENTS) -> int:
    """Weights of these components that RAM cannot hold; 0 on the CPU."""
    if problem.on_cpu:
        return 0
    return sum(max(0, problem.weights[name] - problem.ram_rooms[name]) for name in names)


def resting_ram_bytes(problem: PlanProblem) -> int:
    """RAM that a text encoder which rests does not take; 0 where it is needed, and on the CPU."""
    if problem.on_cpu or not problem.prompts_known:
        return 0
    precision = problem.precisions[TEXT_ENCODER]
    held = min(problem.ram_rooms[TEXT_ENCODER], problem.weights[TEXT_ENCODER])
    return held + problem.coefficients.ram_only_bytes(TEXT_ENCODER, precision, problem.beside)


def cpu_decode_ram_bytes(
    problem: PlanProblem, *, width_px: int, height_px: int, tile_px: int | None
) -> int:
    """RAM that decoding one image on the processor needs besides."""
    coefficients = problem.coefficients
    working = coefficients.decode_working_bytes(
        images=1,
        width_px=width_px,
        height_px=height_px,
        tile_px=tile_px,
        precision=Precision.FP32,
        in_ram=True,
    )
    return working + coefficients.weights_bytes(AUTOENCODER, Precision.FP32)


def swapped_bytes(problem: PlanProblem, ram_bytes: int) -> int:
    """How much of it goes to the page file or swap."""
    return max(0, ram_bytes - problem.ram_calm_bytes)
