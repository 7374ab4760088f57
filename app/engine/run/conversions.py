"""Quantizing a run's weights on first use: where the files are, and telling how far it is."""

from collections.abc import Mapping

from app.core.events import CONVERTING_CODE, Converting, Notice
from app.engine.model_folder import ModelInfo
from app.engine.planning.precisions import PRECISION_WORDS
from app.engine.quantize.converting import Conversion
from app.engine.quantize.recipe import Recipe
from app.engine.run.context import RunContext

_EVERY_S = 0.25


def conversions_of(
    context: RunContext, info: ModelInfo, recipes: Mapping[str, Recipe]
) -> dict[str, Conversion]:
    """How the components of a run are quantized, by folder."""
    return {
        name: Conversion(
            recipe=recipe,
            folder=context.converted_folder,
            model=info.label,
            device=context.device.torch_device,
            progress=_ConversionTold(context, name, recipe),
            check=context.cancel.check,
        )
        for name, recipe in recipes.items()
    }


class _ConversionTold:
    """Says that a component is being converted, which takes longer than opening it, and how far."""

    def __init__(self, context: RunContext, name: str, recipe: Recipe) -> None:
        self._context = context
        self._name = name
        self._precision = recipe.precision
        self._next_s: float | None = None

    def __call__(self, done_bytes: int, total_bytes: int) -> None:
        now_s = self._context.device.clock_s()
        if self._next_s is None:
            self._send_notice()
        elif now_s < self._next_s and done_bytes < total_bytes:
            return
        self._next_s = now_s + _EVERY_S
        self._context.send(
            Converting(
                job_id=self._context.job.id,
                component=self._name,
                precision=self._precision,
                done_bytes=done_bytes,
                total_bytes=total_bytes,
            )
        )

    def _send_notice(self) -> None:
        words = self._name.replace("_", " ")
        self._context.send(
            Notice(
                job_id=self._context.job.id,
                code=CONVERTING_CODE,
                message=f"The {words} is converted to {PRECISION_WORDS[self._precision]} and kept: "
                "this takes longer once, and the next time it opens at once.",
            )
        )
