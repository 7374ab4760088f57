"""The plan for what would be made now, kept up while one types and while memory comes and goes."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from PySide6.QtCore import QObject, Signal, Slot

from app.core.device import DeviceSnapshot, Sample
from app.core.events import JobCancelled, JobFailed, JobFinished, PlanMade
from app.core.plan import GenerationPlan
from app.core.policy import Attention, MemoryPolicy
from app.core.request import GenerationRequest
from app.core.units import MIB
from app.engine.coefficients import ModelCoefficients
from app.monitor.own_use import OwnUse
from app.ui.models.at_hand_model import AtHandModel
from app.ui.models.background import Background
from app.ui.models.catalog_model import CatalogModel, ModelChoice
from app.ui.models.form import ModelDefaults
from app.ui.models.memory_frame import Lane
from app.ui.models.plan_inputs import (
    Cost,
    MakePlan,
    PlanInputs,
    ProfilesOf,
    costs,
    reference_costs,
    waits,
)
from app.ui.models.policy_model import PolicyModel
from app.ui.models.references_model import ReferencesModel
from app.ui.models.request_model import RequestModel
from app.ui.models.throttle import Throttle

log = logging.getLogger(__name__)

INTERVAL_MS = 60
"""A slider that is pulled plans anew so often at most."""
STEP_BYTES = 64 * MIB
"""Free memory wavers all the time; a plan that followed each byte would never stand still."""
PROMPT = "."
"""Every prompt needs the same memory: it is padded to the same length. What is at hand for the
prompt itself is asked for apart."""

CoefficientsOf = Callable[[ModelChoice], ModelCoefficients | None]
"""What a model needs; None until the engine has measured it. May read files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanState:
    """The plan, or why there is none.

    Attributes:
        plan: For what would be made now; None when it cannot be planned.
        inputs: It was made from; None like the plan.
        why: One sentence when there is no plan, else "".
        waits: Whether the plan refuses it only because of other programs, for which a run waits.
        size_cost: What the size costs against the model's own; None when it is that.
        images_cost: What several images cost against one; None when it is one.
        reference_costs: What each reference image costs, in the form's order.
    """

    plan: GenerationPlan | None = None
    inputs: PlanInputs | None = None
    why: str = ""
    waits: bool = False
    size_cost: Cost | None = None
    images_cost: Cost | None = None
    reference_costs: tuple[Cost, ...] = ()

    @property
    def lane(self) -> Lane:
        """The memory the plan is about."""
        on_cpu = self.inputs is not None and self.inputs.device.kind == "cpu"
        return Lane.HOST if on_cpu else Lane.DEVICE


class PlanModel(QObject):
    """Plans whenever the form, the choices about memory or the machine change.

    Signals:
        changed(PlanState): There is another plan, or none any more.
        machine_changed(): Free memory or the GPU is another: what was said of other models too.
    """

    changed = Signal(object)
    machine_changed = Signal()

    def __init__(
        self,
        form: RequestModel,
        catalog: CatalogModel,
        policy: PolicyModel,
        background: Background,
        *,
        make: MakePlan,
        profiles: ProfilesOf,
        coefficients_of: CoefficientsOf,
        at_hand: AtHandModel,
        references: ReferencesModel | None = None,
        parent: QObject | None = None,
    ) -> None:
        """Plan nothing before the first sample.

        Args:
            form: What would be made.
            catalog: The models.
            policy: The choices about memory.
            background: Where coefficients are read.
            make: The planner.
            profiles: The machine, from a sample.
            coefficients_of: What a model needs.
            at_hand: What earlier runs have left.
            references: The form's reference images; None where there never are any.
            parent: Owner.
        """
        super().__init__(parent)
        self._form, self._catalog, self._policy = form, catalog, policy
        self._background = background
        self._make, self._profiles, self._coefficients_of = make, profiles, coefficients_of
        self._at_hand = at_hand
        self._coefficients: dict[str, ModelCoefficients | None] = {}
        self._asked: set[str] = set()
        self._sample: Sample | None = None
        self._planned_for: Sample | None = None
        self._own = OwnUse()
        self._attention = Attention.AUTO
        self._stopped = False
        self._state = PlanState(why=self.tr("Looking at the memory…"))
        self._throttle = Throttle(INTERVAL_MS, self)
        self._throttle.passed.connect(self._replan)
        form.changed.connect(self._touch)
        policy.changed.connect(self._touch)
        at_hand.changed.connect(self._touch)
        catalog.refreshed.connect(self._on_catalog_refreshed)
        self._references = references
        if references is not None:
            references.sizes_changed.connect(self._touch)

    @property
    def state(self) -> PlanState:
        """The plan now."""
        return self._state

    @property
    def make(self) -> MakePlan:
        """The planner, for questions of what if."""
        return self._make

    @property
    def attention(self) -> Attention:
        """What the engine computed attention with in its latest run; AUTO before the first."""
        return self._attention

    @property
    def on_cpu(self) -> bool:
        """Whether runs would go to the CPU."""
        sample = self._planned_for
        return sample is not None and self._profiles(sample)[0].kind == "cpu"

    def plan_of_model(self, choice: ModelChoice) -> GenerationPlan | None:
        """The plan for one picture of a model as it was made for; None when it is not known."""
        inputs = self._inputs(choice, _own_request(choice))
        return None if inputs is None else inputs.plan(self._make)

    def plan_with(self, request: GenerationRequest, policy: MemoryPolicy) -> GenerationPlan | None:
        """The plan for another request under other choices; None when it is not known.

        For something the user does now and then: a model that was not asked about before has its
        small file read at once.
        """
        choice = self._catalog.choice(request.model)
        asked = replace(request, prompt=PROMPT)
        if choice is None or asked.problems():
            return None
        if choice.model not in self._coefficients:
            self._asked.add(choice.model)
            try:
                self._coefficients[choice.model] = self._coefficients_of(choice)
            except (OSError, ValueError) as error:
                self._on_coefficients_failed(choice.model, error)
        inputs = self._inputs(choice, asked)
        return None if inputs is None else replace(inputs, policy=policy).plan(self._make)

    # What happens.

    @Slot(object)
    def on_sample(self, sample: Sample) -> None:
        """Take one Sample of the monitor thread."""
        self._sample = self._own.told_apart(sample)
        before = self._planned_for
        if before is None or _moved(before, self._sample):
            self._planned_for = self._sample
            name = "" if sample.device is None else sample.device.name
            self._policy.set_device(name)
            self._touch()
            self.machine_changed.emit()

    @Slot(object)
    def on_event(self, event: object) -> None:
        """Take one ConductorEvent; the engine tells how much of the memory is ours."""
        self._own.note(event)
        if isinstance(event, PlanMade):
            self._ask_again()
            if event.plan.attention is not self._attention:
                self._attention = event.plan.attention
                self.changed.emit(self._state)
        elif isinstance(event, JobFinished | JobFailed | JobCancelled):
            # What it converted and encoded is kept now.
            self._touch()

    @Slot()
    def _on_catalog_refreshed(self) -> None:
        self._coefficients.clear()
        self._asked.clear()
        self._touch()

    def stop(self) -> None:
        """Plan no more; at the end of the app."""
        self._stopped = True
        self._throttle.drop()

    @Slot()
    def refresh(self) -> None:
        """The machine is another although the sample is the same."""
        self._touch()
        self.machine_changed.emit()

    @Slot()
    def look_again(self) -> None:
        """What earlier runs have left may be more or less."""
        self._touch()

    @Slot()
    def _touch(self) -> None:
        if not self._stopped:
            self._throttle.put(None)

    # Inside.

    @Slot()
    def _replan(self) -> None:
        state = self._made()
        if state != self._state:
            self._state = state
            self.changed.emit(state)

    def _made(self) -> PlanState:
        choice = self._catalog.choice(self._form.form.model)
        if self._planned_for is None or not self._catalog.ready:
            return PlanState(why=self.tr("Looking at the memory…"))
        if choice is None:
            return PlanState(why=self.tr("Choose a model to see whether it fits."))
        request = replace(self._form.request(), prompt=PROMPT, seed=0)
        if request.problems():
            return PlanState(why=self.tr("Mend what is marked to see whether it fits."))
        inputs = self._inputs(choice, request)
        if inputs is None:
            return PlanState(why=self._unknown(choice))
        asked = replace(request, prompt=self._form.form.prompt or PROMPT)
        self._at_hand.look(choice.info, asked, inputs.device, inputs.policy)
        at_hand = self._at_hand.latest(choice.model)
        if at_hand is None:
            return PlanState(why=self.tr("Looking at the model…"))
        inputs = replace(inputs, at_hand=at_hand)
        if inputs == self._state.inputs:
            # Most keystrokes are in the prompt, and most prompts are new.
            return self._state
        base = _of_base(inputs, choice.defaults)
        size_cost, images_cost = costs(inputs, base, self._make)
        plan = inputs.plan(self._make)
        return PlanState(
            plan=plan,
            inputs=inputs,
            waits=waits(inputs, plan, self._make),
            size_cost=size_cost,
            images_cost=images_cost,
            reference_costs=reference_costs(inputs, self._make),
        )

    def _unknown(self, choice: ModelChoice) -> str:
        if choice.model not in self._coefficients:
            return self.tr("Looking at the model…")
        return self.tr("Measured when it is first run.")

    def _inputs(self, choice: ModelChoice, request: GenerationRequest) -> PlanInputs | None:
        coefficients = self._known(choice)
        if coefficients is None or self._planned_for is None:
            return None
        device, host = self._profiles(self._planned_for)
        return PlanInputs(
            request=request,
            device=device,
            host=host,
            policy=self._policy.policy,
            limits=self._policy.limits,
            coefficients=coefficients,
            references=self._sizes_of(request),
        )

    def _sizes_of(self, request: GenerationRequest) -> tuple[tuple[int, int], ...]:
        return () if self._references is None else self._references.sizes_of(request)

    def _known(self, choice: ModelChoice) -> ModelCoefficients | None:
        """What a model needs; asked for beside the window, told with `changed` when it is there."""
        model = choice.model
        if model not in self._asked:
            self._asked.add(model)
            self._background.run(
                lambda: self._coefficients_of(choice),
                lambda found: self._on_coefficients(model, found),
                lambda error: self._on_coefficients_failed(model, error),
            )
        return self._coefficients.get(model)

    def _on_coefficients(self, model: str, found: ModelCoefficients | None) -> None:
        if model in self._asked:
            self._coefficients[model] = found
            self._touch()
            self.machine_changed.emit()

    def _on_coefficients_failed(self, model: str, error: Exception) -> None:
        log.info("what %s needs cannot be read: %s", model, error)
        self._on_coefficients(model, None)

    def _ask_again(self) -> None:
        """The engine has planned: what it measured for that is in its cache now."""
        unknown = {model for model, found in self._coefficients.items() if found is None}
        if unknown:
            self._asked -= unknown
            self._touch()


def _own_request(choice: ModelChoice) -> GenerationRequest:
    """One picture as the model was made for."""
    values = choice.defaults
    return GenerationRequest(
        prompt=PROMPT,
        model=choice.model,
        width_px=values.width_px,
        height_px=values.height_px,
        steps=values.steps,
        guidance=values.guidance,
    )


def _of_base(
    inputs: PlanInputs, defaults: ModelDefaults
) -> tuple[PlanInputs | None, PlanInputs | None]:
    """The same in the model's own size, and for one image; None where they are that."""
    standard = inputs.asking(width_px=defaults.width_px, height_px=defaults.height_px)
    one = inputs.asking(images=1)
    return (None if standard == inputs else standard, None if one == inputs else one)


def _moved(before: Sample, now: Sample) -> bool:
    """Whether the machine is so different that a plan may be another."""
    one, other = before.device, now.device
    if (one is None) != (other is None):
        return True
    if one is not None and other is not None:
        if (one.name, one.total_bytes) != (other.name, other.total_bytes):
            return True
        if abs(_free(one) - _free(other)) >= STEP_BYTES:
            return True
    moved_bytes = abs(_host_free(before) - _host_free(now))
    # RAM wavers more, and a plan hardly depends on a little of it.
    return moved_bytes >= 4 * STEP_BYTES


def _free(device: DeviceSnapshot) -> int:
    return device.total_bytes - device.used_bytes + (device.engine_bytes or 0)


def _host_free(sample: Sample) -> int:
    return sample.host.available_bytes + (sample.host.engine_rss_bytes or 0)
