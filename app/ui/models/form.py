"""What stands in the form: plain data that survives a restart."""

import contextlib
import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from app.core.atomic import write_atomic
from app.core.request import MAX_SEED

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDefaults:
    """Values a model was made for."""

    width_px: int = 128
    height_px: int = 128
    steps: int = 8
    guidance: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TypedValues:
    """Values the user chose for a model; None where the model's default is in use."""

    width_px: int | None = None
    height_px: int | None = None
    steps: int | None = None
    guidance: float | None = None

    def over(self, defaults: ModelDefaults) -> ModelDefaults:
        """What is in use: the user's choice, else the default."""
        return ModelDefaults(
            width_px=defaults.width_px if self.width_px is None else self.width_px,
            height_px=defaults.height_px if self.height_px is None else self.height_px,
            steps=defaults.steps if self.steps is None else self.steps,
            guidance=defaults.guidance if self.guidance is None else self.guidance,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Everything in the form.

    Attributes:
        prompt: As typed.
        model: A known model name or a folder's absolute path.
        seed: Of the first image.
        seed_locked: Whether Generate keeps the seed instead of drawing a new one.
        images: How many.
        references: Absolute paths of reference images, in order.
        typed: What the user chose for each model, by `model`.
    """

    prompt: str = ""
    model: str = "demo"
    seed: int = 0
    seed_locked: bool = False
    images: int = 1
    references: tuple[str, ...] = ()
    typed: dict[str, TypedValues] = field(default_factory=dict[str, TypedValues])

    def typed_here(self) -> TypedValues:
        """What the user chose for the model in use."""
        return self.typed.get(self.model, TypedValues())

    def with_typed(self, values: TypedValues) -> "Form":
        """The form with other values for the model in use."""
        return replace(self, typed={**self.typed, self.model: values})


class SessionFile:
    """The form in a file, so that a crash or restart loses nothing typed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Form:
        """The last form; an empty one where there is none or it cannot be read."""
        try:
            form = msgspec.json.decode(self._path.read_bytes(), type=Form)
        except FileNotFoundError:
            return Form()
        except OSError as error:
            log.warning("the last session cannot be read: %s", error)
            return Form()
        except msgspec.DecodeError as error:
            # A prompt may be in it: it is not written over.
            aside = self._path.with_suffix(".broken.json")
            with contextlib.suppress(OSError):
                self._path.replace(aside)
            log.warning("the last session cannot be read, kept as %s: %s", aside.name, error)
            return Form()
        return form if 0 <= form.seed <= MAX_SEED else replace(form, seed=0)

    def save(self, form: Form) -> None:
        """Write the form.

        Raises:
            OSError: The file cannot be written; it is as before.
        """
        values = {"schema_version": SCHEMA_VERSION, **msgspec.to_builtins(form)}
        write_atomic(self._path, msgspec.json.encode(values))
