"""What can be done about a plan that is not as asked for; each is tried before it is offered."""

import enum
from dataclasses import dataclass, replace

from PySide6.QtCore import QCoreApplication, QObject, Signal

from app.core.plan import GenerationPlan, Verdict
from app.core.policy import MemoryMode
from app.core.preset import PresetLimits
from app.core.units import GIB
from app.engine.solver import Solution, Solver, WhatFits
from app.ui.models.background import Background
from app.ui.models.plan_inputs import MakePlan, PlanInputs
from app.ui.models.plan_words import about, gb
from app.ui.models.policy_model import PolicyModel
from app.ui.models.request_model import RequestModel

AS_ASKED = frozenset({Verdict.FITS, Verdict.STREAMS})
_RANK = {
    Verdict.FITS: 0,
    Verdict.STREAMS: 1,
    Verdict.SMALLER: 2,
    Verdict.DOES_NOT_FIT: 3,
}
HEADROOMS_BYTES = (GIB, GIB // 2, 0)
"""What may be left to other programs instead, the most first."""


class RemedyKind(enum.Enum):
    """What a remedy changes; also the end of its button's name."""

    SIZE = "size"
    IMAGES = "images"
    REFERENCES = "references"
    MORE_REFERENCES = "more_references"
    STREAMING = "streaming"
    SMALLER = "smaller"
    HEADROOM = "headroom"
    LIMIT = "limit"
    PRESET_LIMITS = "preset_limits"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """One thing that can be done.

    Attributes:
        kind: What changes.
        label: On its button: "Use 1024 × 1024".
        plan: What becomes of it.
        inputs: With the change in them.
    """

    kind: RemedyKind
    label: str
    plan: GenerationPlan
    inputs: PlanInputs

    @property
    def detail(self) -> str:
        """What it then needs and takes: "9.1 GB, about 40 s"."""
        return _tr("{size}, {time}").format(
            size=gb(self.plan.needed_bytes), time=about(self.plan.seconds)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitting:
    """The most that fits, and the ways out of a plan that does not.

    Attributes:
        inputs: What was asked about.
        remedies: Each makes the verdict better.
        choices: Largest size, most images and so on, whatever the verdict is.
    """

    inputs: PlanInputs
    remedies: tuple[Remedy, ...]
    choices: tuple[Remedy, ...]


class FittingModel(QObject):
    """Looks for what would fit, beside the window, and does what is chosen.

    Signals:
        found(Fitting): The answer to the last `look`.
        references_wanted(): Reference images are to be chosen: so many would fit.
    """

    found = Signal(object)
    references_wanted = Signal()

    def __init__(
        self,
        form: RequestModel,
        policy: PolicyModel,
        background: Background,
        *,
        make: MakePlan,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._form, self._policy = form, policy
        self._background = background
        self._make = make
        self._asked = 0

    def look(self, inputs: PlanInputs) -> None:
        """Find what would fit; `found` tells, unless something else is asked meanwhile."""
        self._asked += 1
        number, make = self._asked, self._make
        self._background.run(
            lambda: fitting(inputs, make),
            lambda answer: self._on_found(number, answer),
            self._on_failed,
        )

    def take(self, remedy: Remedy) -> None:
        """Do it: in the form, or in the choices about memory."""
        if remedy.kind is RemedyKind.MORE_REFERENCES:
            self.references_wanted.emit()
            return
        request, policy = remedy.inputs.request, remedy.inputs.policy
        values = self._form.values()
        if (request.width_px, request.height_px) != (values.width_px, values.height_px):
            self._form.set_size(request.width_px, request.height_px)
        self._form.set_images(request.images)
        if remedy.kind is RemedyKind.REFERENCES:
            self._form.set_references(request.references)
        state = self._policy.state
        self._policy.set_state(replace(state, policy=policy, limits=remedy.inputs.limits))

    def _on_found(self, number: int, answer: Fitting) -> None:
        if number == self._asked:
            self.found.emit(answer)

    def _on_failed(self, error: Exception) -> None:
        raise error


def fitting(inputs: PlanInputs, make: MakePlan) -> Fitting:
    """All there is to offer; takes a fraction of a second."""
    plan = inputs.plan(make)
    answer = Solver(
        inputs.request,
        inputs.device,
        inputs.host,
        inputs.policy,
        inputs.coefficients,
        inputs.limits,
        references=inputs.references,
        at_hand=inputs.at_hand,
    ).what_fits()
    better = (
        *_as_asked(inputs, answer),
        *_fewer_references(inputs, answer, make),
        *_other_policies(inputs, make),
    )
    remedies = tuple(
        remedy for remedy in better if _RANK[remedy.plan.verdict] < _RANK[plan.verdict]
    )
    return Fitting(inputs=inputs, remedies=remedies, choices=_choices(inputs, answer))


def _as_asked(inputs: PlanInputs, answer: WhatFits) -> tuple[Remedy, ...]:
    """Other requests under the same choices."""
    found: list[Remedy] = []
    request = inputs.request
    size, images = answer.size, answer.images
    if size is not None and size.request.width_px < request.width_px:
        found.append(_size_remedy(inputs, size))
    if images is not None and images.request.images < request.images:
        found.append(_images_remedy(inputs, images))
    return tuple(found)


def _fewer_references(inputs: PlanInputs, answer: WhatFits, make: MakePlan) -> tuple[Remedy, ...]:
    """The same with the first reference images only, or with none."""
    most = 0 if answer.references is None else answer.references.references
    if most >= len(inputs.references):
        return ()
    fewer = inputs.with_references(*range(most))
    if most == 0:
        label = _tr("Use no reference image")
    elif most == 1:
        label = _tr("Use only the first reference image")
    else:
        label = _tr("Use only the first {n} reference images").format(n=most)
    plan = fewer.plan(make)
    return (Remedy(kind=RemedyKind.REFERENCES, label=label, plan=plan, inputs=fewer),)


def _other_policies(inputs: PlanInputs, make: MakePlan) -> tuple[Remedy, ...]:
    """The same request under other choices."""
    policy = inputs.policy
    tried: list[tuple[RemedyKind, str, PlanInputs]] = []
    if policy.mode is MemoryMode.RESIDENT:
        streaming = inputs.under(mode=MemoryMode.AUTO)
        tried.append((RemedyKind.STREAMING, _tr("Allow streaming"), streaming))
    if policy.limit_bytes is not None:
        whole = inputs.under(limit_bytes=None)
        on_cpu = inputs.device.kind == "cpu"
        label = _tr("Use all of the RAM") if on_cpu else _tr("Use the whole GPU")
        tried.append((RemedyKind.LIMIT, label, whole))
    if inputs.limits != PresetLimits():
        free = replace(inputs, limits=PresetLimits())
        tried.append((RemedyKind.PRESET_LIMITS, _tr("Lift the preset's limits"), free))
    if policy.strict:
        loose = inputs.under(strict=False)
        label = _tr("Allow fewer or smaller")
        tried.append((RemedyKind.SMALLER, label, loose))
    found: list[Remedy] = []
    for kind, label, changed in tried:
        found.append(Remedy(kind=kind, label=label, plan=changed.plan(make), inputs=changed))
    headroom = _headroom_remedy(inputs, make)
    return (*found, headroom) if headroom is not None else tuple(found)


def _headroom_remedy(inputs: PlanInputs, make: MakePlan) -> Remedy | None:
    """Leaving less to others, but as much as possible."""
    for headroom_bytes in HEADROOMS_BYTES:
        if headroom_bytes >= inputs.policy.headroom_bytes:
            continue
        changed = inputs.under(headroom_bytes=headroom_bytes)
        plan = changed.plan(make)
        if plan.verdict in AS_ASKED:
            label = (
                _tr("Leave only {size} to others").format(size=gb(headroom_bytes))
                if headroom_bytes
                else _tr("Leave nothing to others")
            )
            return Remedy(kind=RemedyKind.HEADROOM, label=label, plan=plan, inputs=changed)
    return None


def _choices(inputs: PlanInputs, answer: WhatFits) -> tuple[Remedy, ...]:
    """The most of each, to be taken with a click."""
    found: list[Remedy] = []
    request = inputs.request
    # What is asked for already is no offer.
    if answer.size is not None and answer.size.request.width_px != request.width_px:
        found.append(_size_remedy(inputs, answer.size))
    if answer.images is not None and answer.images.request.images != request.images:
        found.append(_images_remedy(inputs, answer.images))
    references = answer.references
    if references is not None and references.references > len(inputs.references):
        found.append(_more_references(inputs, references))
    return tuple(found)


def _more_references(inputs: PlanInputs, found: Solution) -> Remedy:
    most = found.references
    label = (
        _tr("Add a reference image")
        if most == 1
        else _tr("Add reference images, up to {n}").format(n=most)
    )
    return Remedy(kind=RemedyKind.MORE_REFERENCES, label=label, plan=found.plan, inputs=inputs)


def _size_remedy(inputs: PlanInputs, found: Solution) -> Remedy:
    width, height = found.request.width_px, found.request.height_px
    return Remedy(
        kind=RemedyKind.SIZE,
        label=_tr("Use {width} × {height}").format(width=width, height=height),
        plan=found.plan,
        inputs=inputs.asking(width_px=width, height_px=height),
    )


def _images_remedy(inputs: PlanInputs, found: Solution) -> Remedy:
    count = found.request.images
    label = _tr("Make 1 image") if count == 1 else _tr("Make {n} images").format(n=count)
    return Remedy(
        kind=RemedyKind.IMAGES,
        label=label,
        plan=found.plan,
        inputs=inputs.asking(images=count),
    )


def _tr(text: str) -> str:
    return QCoreApplication.translate("Remedies", text)
