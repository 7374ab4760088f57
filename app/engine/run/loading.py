"""Telling how far a model is read, against what the plan says is to be read."""

import contextlib
from collections.abc import Callable, Collection, Generator

from app.core.events import Loading
from app.engine.planning.components import TEXT_ENCODER, TRANSFORMER
from app.engine.run.context import RunContext
from app.engine.run.plan_in_force import PlanInForce

_EVERY_S = 0.25


@contextlib.contextmanager
def loading_told(
    context: RunContext, force: PlanInForce, components: Collection[str]
) -> Generator[Callable[[int], None]]:
    """Within it, what is given is told of bytes that are read, and tells of them now and then.

    Args:
        context: Of the run that is told.
        force: The plan, which says how much is to be read.
        components: That are read, by name.
    """
    told = _LoadingTold(context, _bytes_to_read(force, components))
    yield told
    told.finish()


class _LoadingTold:
    """Tells nothing of what is mapped in no time: it needs no bar."""

    def __init__(self, context: RunContext, total_bytes: int) -> None:
        self._context = context
        self._total_bytes = total_bytes
        self._done_bytes = 0
        self._next_s = context.device.clock_s() + _EVERY_S
        self._is_told = False

    def __call__(self, more_bytes: int) -> None:
        # A little more is read than is planned where a network computes in place; and the end is
        # told once, by `finish`.
        self._done_bytes = min(self._done_bytes + more_bytes, self._total_bytes - 1)
        now_s = self._context.device.clock_s()
        if now_s >= self._next_s:
            self._next_s = now_s + _EVERY_S
            self._send(self._done_bytes)

    def finish(self) -> None:
        if self._is_told:
            self._send(self._total_bytes)

    def _send(self, done_bytes: int) -> None:
        self._is_told = True
        self._context.send(
            Loading(
                job_id=self._context.job.id,
                done_bytes=max(0, done_bytes),
                total_bytes=self._total_bytes,
            )
        )


def _bytes_to_read(force: PlanInForce, components: Collection[str]) -> int:
    """What goes into RAM: all but blocks that stay on the disk, and the small autoencoder."""
    problem, total_bytes = force.problem, 0
    for name in {TEXT_ENCODER, TRANSFORMER}.intersection(components):
        total_bytes += problem.coefficients.weights_bytes(
            name, problem.precisions[name], problem.beside
        )
        on_disk = force.plan.component(name).file_blocks
        total_bytes -= sum(problem.blocks[name][index] for index in on_disk)
    return max(0, total_bytes)
