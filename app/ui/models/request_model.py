"""The form: the only writer of what the next Generate will ask for."""

import secrets
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from PySide6.QtCore import QObject, Signal

from app.core.request import (
    MAX_SEED,
    MAX_SIZE_PX,
    MIN_SIZE_PX,
    SIZE_MULTIPLE_PX,
    GenerationRequest,
    RequestProblem,
    rounded_size_px,
)
from app.ui.models.background import Background
from app.ui.models.form import Form, ModelDefaults, SessionFile, TypedValues
from app.ui.models.saved_file import SavedFile

SEED_BITS = 32
"""Of seeds drawn here: enough to never meet one twice, short enough to read out."""


class RequestModel(QObject):
    """State of the form, kept over restarts.

    Signals:
        changed(Form): After any change.
        prompt_changed(str): Of the prompt alone.
        size_noted(str): A sentence about a size that was rounded; "" when there is none to say.
        problems_changed(object): dict of field name to sentence.
        refused(object): tuple of RequestProblem; Generate was asked for, and cannot be done.
        save_failed(str): A sentence; what stands in the form would not survive a restart.
    """

    changed = Signal(object)
    prompt_changed = Signal(str)
    size_noted = Signal(str)
    problems_changed = Signal(object)
    refused = Signal(object)
    save_failed = Signal(str)

    def __init__(
        self,
        session: SessionFile,
        defaults_of: Callable[[str], ModelDefaults],
        background: Background,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._session = session
        self._defaults_of = defaults_of
        self._form = session.load()
        self._seed_text: str | None = None
        self._told_problems: dict[str, str] = {}
        self._file = SavedFile(
            background,
            self._writer,
            self,
            sentence=self.tr(
                "Prompt and settings cannot be kept for the next start ({reason}); check the disk."
            ),
        )
        self._file.failed.connect(self.save_failed)

    # What is.

    @property
    def form(self) -> Form:
        """The form now."""
        return self._form

    @property
    def has_seed(self) -> bool:
        """Whether the seed typed last is one; else the form still has the former."""
        return self._seed_text is None

    def values(self) -> ModelDefaults:
        """Size, steps and guidance in use: what the user typed, else the model's defaults."""
        return self._form.typed_here().over(self._defaults_of(self._form.model))

    def request(self) -> GenerationRequest:
        """The form as a request; `problems()` says whether it can be run."""
        values, form = self.values(), self._form
        return GenerationRequest(
            prompt=form.prompt,
            model=form.model,
            width_px=values.width_px,
            height_px=values.height_px,
            steps=values.steps,
            guidance=values.guidance,
            seed=form.seed,
            images=form.images,
            references=form.references,
        )

    def problems(self) -> tuple[RequestProblem, ...]:
        """What keeps the form from being run."""
        found = self.request().problems()
        if self._seed_text is not None:
            found += (
                RequestProblem(
                    field="seed",
                    code="request.seed",
                    message=self.tr("“{text}” is no seed: type a number from 0 to {most}.").format(
                        text=self._seed_text, most=MAX_SEED
                    ),
                ),
            )
        return found

    def take_request(self) -> GenerationRequest | None:
        """The request for one click on Generate, with a new seed unless it is locked.

        Returns:
            None when the form has problems; `refused` was emitted then.
        """
        problems = self.problems()
        if not self._form.seed_locked:
            # It is about to be drawn, whatever stands there.
            problems = tuple(problem for problem in problems if problem.field != "seed")
        if problems:
            self.refused.emit(problems)
            return None
        if not self._form.seed_locked:
            self.draw_seed()
        return self.request()

    # What the user does.

    def set_prompt(self, prompt: str) -> None:
        """Replace the prompt."""
        if prompt == self._form.prompt:
            return
        self._form = replace(self._form, prompt=prompt)
        self.prompt_changed.emit(prompt)
        self._tell()

    def set_model(self, model: str) -> None:
        """Choose a model; its values are those typed for it before, else its defaults."""
        self._replace(model=model)
        self.size_noted.emit("")

    def set_width(self, width_px: int) -> None:
        """Choose a width; one FLUX.2 cannot make becomes the nearest it can."""
        rounded = rounded_size_px(width_px)
        self._type(width_px=rounded)
        self.size_noted.emit(self._size_note(width_px, rounded))

    def set_height(self, height_px: int) -> None:
        """Choose a height; one FLUX.2 cannot make becomes the nearest it can."""
        rounded = rounded_size_px(height_px)
        self._type(height_px=rounded)
        self.size_noted.emit(self._size_note(height_px, rounded))

    def set_size(self, width_px: int, height_px: int) -> None:
        """Choose both sides at once."""
        self._type(width_px=rounded_size_px(width_px), height_px=rounded_size_px(height_px))
        self.size_noted.emit("")

    def set_ratio(self, across: int, down: int) -> None:
        """Choose a shape, keeping about the number of pixels the model was made for."""
        defaults = self._defaults_of(self._form.model)
        pixels = defaults.width_px * defaults.height_px
        width = (pixels * across / down) ** 0.5
        self.set_size(round(width), round(width * down / across))

    def swap_size(self) -> None:
        """Turn the picture on its side."""
        values = self.values()
        self.set_size(values.height_px, values.width_px)

    def set_steps(self, steps: int) -> None:
        """Choose the number of denoising steps."""
        if steps != self.values().steps:
            self._type(steps=steps)

    def set_guidance(self, guidance: float) -> None:
        """Choose the guidance scale."""
        if guidance != self.values().guidance:
            self._type(guidance=guidance)

    def set_seed_text(self, text: str) -> None:
        """Take the seed as it is typed, and keep it: nobody types one to have it drawn anew.

        What is no seed stays a problem until it is mended.
        """
        stripped = text.strip()
        if stripped.isascii() and stripped.isdigit() and int(stripped) <= MAX_SEED:
            self._seed_text = None
            self._replace(seed=int(stripped), seed_locked=True)
        else:
            self._seed_text = stripped
            self._replace(seed_locked=True)
        self._tell_problems()

    def set_seed(self, seed: int) -> None:
        """Choose the seed of the first image."""
        self._seed_text = None
        self._replace(seed=seed)
        self._tell_problems()

    def draw_seed(self) -> None:
        """Choose a seed at random."""
        self.set_seed(secrets.randbits(SEED_BITS))

    def set_seed_locked(self, *, locked: bool) -> None:
        """Say whether Generate keeps the seed."""
        self._replace(seed_locked=locked)

    def set_images(self, images: int) -> None:
        """Choose the number of images."""
        self._replace(images=images)

    def set_references(self, paths: Iterable[str]) -> None:
        """Choose the reference images, in order."""
        self._replace(references=tuple(paths))

    def use(self, request: GenerationRequest, *, model: str | None = None) -> None:
        """Put a request back into the form, its seed locked so that it gives the same picture.

        Args:
            request: A job's, or one read from a picture.
            model: Instead of the request's own, where that is not at hand.
        """
        self._seed_text = None
        chosen = request.model if model is None else model
        self._form = replace(
            self._form,
            model=chosen,
            seed=request.seed,
            seed_locked=True,
            images=request.images,
            references=request.references,
        ).with_typed(
            TypedValues(
                width_px=request.width_px,
                height_px=request.height_px,
                steps=request.steps,
                guidance=request.guidance,
            )
        )
        self.size_noted.emit("")
        if request.prompt == self._form.prompt:
            self._tell()
        else:
            self.set_prompt(request.prompt)

    def restore(self, form: Form) -> None:
        """Have everything as it stood before, as `form` was then."""
        self._seed_text = None
        prompt = self._form.prompt
        self._form = replace(form, prompt=prompt)
        self.size_noted.emit("")
        if form.prompt == prompt:
            self._tell()
        else:
            self.set_prompt(form.prompt)

    def restore_defaults(self) -> None:
        """Go back to the values the model was made for."""
        self._form = self._form.with_typed(TypedValues())
        self.size_noted.emit("")
        self._tell()

    def defaults_changed(self) -> None:
        """The models are known (better) now: whatever was not typed may have another value."""
        self._tell()

    def flush(self) -> None:
        """Write what is not yet written; at the end of the app."""
        self._file.flush()

    # Inside.

    def _replace(self, **changes: Any) -> None:  # noqa: ANN401 - fields of Form
        form = replace(self._form, **changes)
        if form != self._form:
            self._form = form
            self._tell()

    def _type(self, **changes: Any) -> None:  # noqa: ANN401 - fields of TypedValues
        form = self._form.with_typed(replace(self._form.typed_here(), **changes))
        if form != self._form:
            self._form = form
        # Told also when nothing changed: the editor shows what was typed, not what it became.
        self._tell()

    def _tell(self) -> None:
        self._file.touch()
        self.changed.emit(self._form)
        self._tell_problems()

    def _tell_problems(self) -> None:
        problems = {problem.field: problem.message for problem in reversed(self.problems())}
        if problems != self._told_problems:
            self._told_problems = problems
            self.problems_changed.emit(problems)

    def _writer(self) -> Callable[[], None]:
        form = self._form
        return lambda: self._session.save(form)

    def _size_note(self, asked_px: int, rounded_px: int) -> str:
        if asked_px == rounded_px:
            return ""
        if not MIN_SIZE_PX <= asked_px <= MAX_SIZE_PX:
            return self.tr("{asked} px is out of range ({low} to {high}): now {used} px.").format(
                asked=asked_px, low=MIN_SIZE_PX, high=MAX_SIZE_PX, used=rounded_px
            )
        return self.tr("{asked} px is no multiple of {step}: now {used} px.").format(
            asked=asked_px, step=SIZE_MULTIPLE_PX, used=rounded_px
        )
