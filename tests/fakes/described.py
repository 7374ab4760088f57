"""Samples of a described machine, and coefficients by name, for planning without one."""

from app.core.device import Sample
from app.engine.coefficients import ModelCoefficients, shipped_coefficients
from app.ui.models.catalog_model import ModelChoice
from tests.fakes.hardware import device, host, sample


def machine(
    vram_gib: float | None = 12.0,
    *,
    time_s: float = 1.0,
    others_gib: float = 0.5,
    ours_gib: float = 0.0,
    ram_gib: float = 64.0,
) -> Sample:
    """A sample of a computer with such a card, or without one."""
    card = (
        None
        if vram_gib is None
        else device(used_gib=others_gib + ours_gib, engine_gib=ours_gib, total_gib=vram_gib)
    )
    return sample(time_s, gpu=card, computer=host(used_gib=6.0, total_gib=ram_gib))


def by_name(choice: ModelChoice) -> ModelCoefficients | None:
    """The shipped coefficients of the model a tiny folder stands for."""
    name = choice.model if choice.info is None else choice.info.name
    return None if name is None else shipped_coefficients(name)
