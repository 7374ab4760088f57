"""Quantizing a run's weights on first use: where the files are, and telling how far it is."""

from collections.abc import Mapping

from app.core.events import Notice
from app.engine.model_folder import ModelInfo
from app.engine.quantize.converting import Conversion
from app.engine.quantize.recipe import Recipe
from app.engine.run.context import RunContext

CONVERTING_CODE = "load.converting"


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
    """Says once that a component is being converted, which takes longer than opening it."""

    def __init__(self, context: RunContext, name: str, recipe: Recipe) -> None:
        self._context = context
        self._name = name.replace("_", " ")
        self._recipe = recipe
        self._said = False

    def __call__(self, _done_bytes: int, _total_bytes: int) -> None:
        if self._said:
            return
        self._said = True
        self._context.send(
            Notice(
                job_id=self._context.job.id,
                code=CONVERTING_CODE,
                message=f"The {self._name} is converted to {self._recipe.precision.value} and "
                "kept: this takes longer once, and the next time it opens at once.",
            )
        )
