"""What a run needs of the computer's RAM beside a GPU."""

from app.core.policy import Precision
from app.core.request import SIZE_MULTIPLE_PX
from app.engine.planning.problem import AUTOENCODER, PlanProblem

ENGINE_BYTES = 1 << 30
"""Of the engine process without a model: Python, torch, the driver. An assumption."""
LATENT_CHANNELS = 128
"""Of one image token (FLUX.2: 32 channels in patches of 2x2)."""


def run_ram_bytes(problem: PlanProblem, *, width_px: int, height_px: int, images: int) -> int:
    """RAM of a run that decodes on the device; 0 on the CPU, where the device is the RAM.

    The engine keeps all weights in RAM whatever is on the device: what leaves the device is
    dropped there and never copied back. The latents of all images wait there for their decoding.
    """
    if problem.on_cpu:
        return 0
    tokens = (width_px // SIZE_MULTIPLE_PX) * (height_px // SIZE_MULTIPLE_PX)
    latents = images * tokens * LATENT_CHANNELS * 4
    return ENGINE_BYTES + problem.all_weights_bytes + latents


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
