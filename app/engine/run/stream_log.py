"""Weights that come in while a run computes: what they took, beside what was planned."""

from app.core.jobs import Phase
from app.core.plan import Placement
from app.core.streaming import StreamedPhase, Streaming
from app.engine.planning.components import TEXT_ENCODER, TRANSFORMER
from app.engine.run.model_shelf import ModelShelf
from app.engine.run.plan_in_force import PlanInForce

_COMPONENTS = {Phase.ENCODE: TEXT_ENCODER, Phase.DENOISE: TRANSFORMER}
_NOTHING = Streaming(streamed_bytes=0, copying_s=0.0, waited_s=0.0)


class StreamLog:
    """Takes the times of one run's copies, and adds them up for each phase that streams.

    Attributes:
        phases: In which weights streamed.
    """

    def __init__(self, shelf: ModelShelf) -> None:
        """Begin with nothing; the shelf holds the model from the first phase that computes."""
        self.phases: dict[Phase, StreamedPhase] = {}
        self._shelf = shelf
        self._is_first = True

    def begin(self) -> None:
        """A part begins to compute: what came in before is none of its."""
        self._shelf.placer.take_streaming()
        self._is_first = True

    def note(self, phase: Phase, force: PlanInForce) -> Streaming | None:
        """A step is computed, or all prompts are.

        Args:
            phase: It belongs to.
            force: The plan.

        Returns:
            What came in since the last call; None when nothing did.
        """
        came = self._shelf.placer.take_streaming()
        is_first, self._is_first = self._is_first, False
        if force.plan.component(_COMPONENTS[phase]).placement is Placement.STREAMED:
            found = came or _NOTHING
            noted = StreamedPhase(streaming=found)
            if not is_first:
                noted = StreamedPhase(
                    streaming=found,
                    steps=1,
                    planned_waiting_s=_planned_waiting_s(force),
                    waited_s=found.waited_s,
                )
            before = self.phases.get(phase)
            self.phases[phase] = noted if before is None else before + noted
        return came


def _planned_waiting_s(force: PlanInForce) -> float:
    """Of one denoising step: the plan's are of all passes but the first."""
    plan, problem = force.plan, force.problem
    parts = -(-plan.images // plan.batch)
    passes = parts * problem.request.steps * problem.passes
    return plan.phase(Phase.DENOISE).waiting_seconds * problem.passes / max(1, passes - 1)
