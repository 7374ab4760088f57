"""Generate: the form, the models and the settings brought together into a job."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from PySide6.QtCore import QObject, Signal, Slot

from app.core.folder_check import obstacle_to_writing
from app.core.jobs import OutputTarget
from app.core.policy import MemoryPolicy, Precisions
from app.core.preset import PresetLimits
from app.core.request import GenerationRequest, RequestProblem
from app.ui.models.catalog_model import CatalogModel
from app.ui.models.form import Form
from app.ui.models.picture_memory import PictureMemory
from app.ui.models.planning import Planning
from app.ui.models.policy_file import PolicyState
from app.ui.models.request_model import RequestModel
from app.ui.models.reused_memory import ReusedMemory, reused_memory
from app.ui.models.settings_model import SettingsModel


class JobMaker(Protocol):
    """What is needed of EngineModel."""

    def generate(
        self,
        request: GenerationRequest,
        *,
        model_folder: str,
        output: OutputTarget,
        previews: bool,
        policy: MemoryPolicy | None = None,
        limits: PresetLimits | None = None,
        front: bool = False,
    ) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Reused:
    """A picture's settings are back in the form.

    Attributes:
        text: What is to be said.
        is_whole: Whether everything is back as it was.
    """

    text: str
    is_whole: bool


@dataclass(frozen=True, slots=True)
class _Before:
    """What stood there before a picture's settings came; for undo."""

    form: Form
    memory: PolicyState


class Studio(QObject):
    """What the Generate button does, and what brings settings back.

    Signals:
        refused(object): tuple of RequestProblem; nothing was queued.
        noticed(str): A sentence worth saying.
        reused(Reused): A picture's settings are back; `undo_use` takes them out again.
    """

    refused = Signal(object)
    noticed = Signal(str)
    reused = Signal(object)

    def __init__(
        self,
        form: RequestModel,
        catalog: CatalogModel,
        settings: SettingsModel,
        engine: JobMaker,
        planning: Planning,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._form = form
        self._catalog = catalog
        self._settings = settings
        self._engine = engine
        self._policy = planning.policy
        self._plans = planning.plans
        self._early: tuple[GenerationRequest, PictureMemory | None] | None = None
        self._before: _Before | None = None
        form.refused.connect(self.refused)
        catalog.refreshed.connect(self._use_early)

    @Slot()
    def generate(self) -> None:
        """Queue what the form says, as the last job."""
        self._queue(front=False)

    @Slot()
    def generate_next(self) -> None:
        """Queue what the form says, as the next job."""
        self._queue(front=True)

    @Slot(object, object)
    def use(self, request: GenerationRequest, memory: PictureMemory | None = None) -> None:
        """Put a request back into the form; a model that is not here keeps the chosen one.

        Args:
            request: Of a picture.
            memory: How its weights and memory were handled; None leaves the choices as they are.
        """
        if not self._catalog.ready:
            # A picture given at the start comes before the models are known.
            self._early = (request, memory)
            return
        self._before = _Before(self._form.form, self._policy.state)
        choice = self._catalog.choice_of_picture(request.model)
        there = tuple(path for path in request.references if Path(path).is_file())
        lacks = [self._gone(request, there)]
        model = self._form.form.model
        if choice is not None and choice.usable:
            model = choice.model
        elif model != request.model:
            lacks.append(self._other_model(request.model))
        # Its number of images and its seed say how to make it; its model is the one found here.
        used = replace(request, references=there, model=model)
        taken = self._take_memory(used, memory)
        self._form.use(used)
        lacks = [lack for lack in lacks if lack]
        said = lacks or [self.tr("The picture's settings are back.")]
        self.reused.emit(
            Reused(
                text=" ".join([*said, *taken.sentences()]) if taken else " ".join(said),
                is_whole=not lacks and not (taken and (taken.unknown or taken.untold)),
            )
        )

    @Slot()
    def undo_use(self) -> None:
        """Have form and choices about memory as they were before `use`; once."""
        before, self._before = self._before, None
        if before is not None:
            self._form.restore(before.form)
            self._policy.set_state(before.memory)

    def _take_memory(
        self, request: GenerationRequest, memory: PictureMemory | None
    ) -> ReusedMemory | None:
        if memory is None:
            return None
        now = self._policy.policy
        automatic = self._plans.plan_with(request, replace(now, precisions=Precisions()))
        taken = reused_memory(memory, now, automatic)
        self._policy.set_state(replace(self._policy.state, policy=taken.policy))
        return taken

    def _gone(self, request: GenerationRequest, there: tuple[str, ...]) -> str:
        names = [Path(path).name for path in request.references if path not in there]
        if not names:
            return ""
        return self.tr(
            "Not there any more, so the picture will be another one without them: "
            "reference images {names}."
        ).format(names=", ".join(names))

    def _other_model(self, made: str) -> str:
        return self.tr(
            "The picture was made with {made}, which is not installed: its settings are "
            "back, with the model you have chosen."
        ).format(made=made)

    @Slot()
    def _use_early(self) -> None:
        early, self._early = self._early, None
        if early is not None:
            self.use(*early)

    def _queue(self, *, front: bool) -> None:
        problem = self._model_problem()
        if problem:
            self.refused.emit(
                (RequestProblem(field="model", code="model.not_ready", message=problem),)
            )
            return
        problem = self._folder_problem()
        if problem:
            self.noticed.emit(problem)
            return
        problems = self._reference_problems()
        if problems:
            self.refused.emit(problems)
            return
        request = self._form.take_request()
        choice = self._catalog.choice(self._form.form.model)
        if request is None or choice is None or choice.folder is None:
            return
        self._engine.generate(
            request,
            model_folder=str(choice.folder),
            output=self._settings.output(),
            previews=self._settings.settings.preview,
            policy=self._policy.policy,
            limits=self._policy.limits,
            front=front,
        )

    def _reference_problems(self) -> tuple[RequestProblem, ...]:
        """What is wrong with the reference images' files now, whatever they were before."""
        paths = self._form.form.references
        if not paths:
            return ()
        # Lazy: Pillow is loaded with the first reference image, not with the window.
        from app.core.reference_image import reference_problems

        return reference_problems(paths)

    def _folder_problem(self) -> str:
        """Why the picture could not be saved; said now, not after minutes of work."""
        folder = self._settings.pictures_folder()
        obstacle = obstacle_to_writing(folder)
        if obstacle is None:
            return ""
        if obstacle.is_file:
            text = self.tr(
                "Pictures cannot be saved in {folder}, because {at} is a file: "
                "choose another folder under Settings."
            )
        else:
            text = self.tr(
                "Pictures cannot be saved in {folder} ({reason}): choose another folder under "
                "Settings, or change the permissions of {at}."
            )
        return text.format(folder=folder, at=obstacle.at, reason=obstacle.reason)

    def _model_problem(self) -> str:
        choice = self._catalog.choice(self._form.form.model)
        if choice is None:
            if not self._catalog.ready:
                return self.tr("The models are still being looked for; try again in a moment.")
            return self.tr("The model {model} is not here any more: choose another one.").format(
                model=self._form.form.model
            )
        return "" if choice.usable else self._catalog.hint(choice)
