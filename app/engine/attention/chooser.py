"""The kind of attention that a run uses: what was asked for if it works, else the best there is."""

import importlib.metadata
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from app.core.policy import Attention
from app.engine.attention.dispatch import AttentionKernel, kernel_of, missing
from app.engine.attention.probe import Trials
from app.engine.attention.ranking import Trial, best_of
from app.engine.attention.shape import AttentionShape
from app.engine.attention.trial_store import TrialStore
from app.engine.broken_device import DeviceBrokenError, still_computes
from app.engine.compute_device import ComputeDevice
from app.engine.vram_limit import keep_in_vram

log = logging.getLogger(__name__)

ALWAYS_WORK = frozenset({Attention.SDPA, Attention.MATH, Attention.CHUNKED})
FAST = (
    Attention.SDPA,
    Attention.FLASH,
    Attention.EFFICIENT,
    Attention.CUDNN,
    Attention.FLASH_ATTN,
    Attention.XFORMERS,
    Attention.SAGE,
)
"""Tried for AUTO, in this order; the others need more memory, or are slower by their nature."""
LABELS: dict[Attention, str] = {
    Attention.AUTO: "automatic attention",
    Attention.SDPA: "torch's own attention",
    Attention.FLASH: "torch's flash attention",
    Attention.EFFICIENT: "torch's memory-efficient attention",
    Attention.CUDNN: "cuDNN's attention",
    Attention.MATH: "plain attention",
    Attention.CHUNKED: "attention in parts",
    Attention.SAGE: "SageAttention",
    Attention.FLASH_ATTN: "flash-attn",
    Attention.XFORMERS: "xformers",
}
CHECK_TOKENS = 1024
"""Enough to see whether a kind that was asked for works at all."""
MAX_BEGUN = 2
"""Trials during which the engine's process ended, after which there is no third."""
_ANY_SHAPE = "any shape"
"""Kinds that broke the device are not tried at another shape, either."""
_LIBRARIES = ("torch", "diffusers", "flash-attn", "sageattention", "xformers")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionChoice:
    """What computes attention in a run.

    Attributes:
        kind: Never AUTO.
        problem: A sentence when it is not what was asked for; else "".
    """

    kind: Attention
    problem: str = ""


class AttentionChooser:
    """Chooses on one device, and remembers what it tried."""

    def __init__(
        self,
        device: ComputeDevice,
        file: Path,
        *,
        kernels: Callable[[Attention], AttentionKernel] = kernel_of,
        absent: Callable[[Attention], str] = missing,
    ) -> None:
        """Try nothing yet.

        Args:
            device: To try on.
            file: Trials are kept in.
            kernels: Gives what computes each kind.
            absent: Says why a kind is not there, or "".
        """
        self._device = device
        self._store = TrialStore(file)
        self._kernels = kernels
        self._absent = absent

    def choose(self, wanted: Attention, shape: AttentionShape) -> AttentionChoice:
        """The kind for a shape.

        Args:
            wanted: By the policy.
            shape: Of the run.

        Raises:
            DeviceBrokenError: A kind has broken the device; a new process can go on without it.
        """
        if wanted is Attention.AUTO:
            return AttentionChoice(kind=self._automatic(shape))
        if wanted in ALWAYS_WORK:
            return AttentionChoice(kind=wanted)
        shape = replace(shape, tokens=min(shape.tokens, CHECK_TOKENS))
        (trial,) = self._tried((wanted,), shape, timed=False)
        if not trial.problem:
            return AttentionChoice(kind=wanted)
        label, own = LABELS[wanted], LABELS[Attention.SDPA]
        problem = f"{label[0].upper()}{label[1:]} cannot be used here, so {own} is"
        return AttentionChoice(
            kind=Attention.SDPA, problem=f"{problem} ({trial.problem.removesuffix('.')})."
        )

    def _automatic(self, shape: AttentionShape) -> Attention:
        # On the CPU pictures are to be those of diffusers, bit for bit; a simulated device is one.
        if self._device.kind == "cpu" or self._device.simulated:
            return Attention.SDPA
        trials = self._tried(FAST, shape, timed=True)
        if not trials:
            return Attention.SDPA  # Still the likeliest to work.
        # Where no fused kernel works, whole matrices of scores are not to be made unasked.
        best = best_of(trials, dtype=shape.dtype, query_bytes=shape.query_bytes)
        best = best or Attention.CHUNKED
        log.info("attention at %s: %s of %s", shape.key, best.value, trials)
        return best

    def _tried(
        self, kinds: tuple[Attention, ...], shape: AttentionShape, *, timed: bool
    ) -> tuple[Trial, ...]:
        place = f"{self._device.name} | {_versions()}"
        key = f"{place} | {shape.key}"
        broke = self._store.get(f"{place} | {_ANY_SHAPE}")
        numbers: Trials | None = None
        found: list[Trial] = []
        for kind in kinds:
            kept = self._store.get(key)
            trial = broke.find(kind, timed=timed) or kept.find(kind, timed=timed)
            if trial is None and (problem := self._obstacle(kind, kept.begun)):
                # Not kept: it may be there next time.
                trial = Trial(kind=kind, problem=problem)
            if trial is None:
                if numbers is None and (numbers := self._numbers(shape)) is None:
                    return tuple(found)
                trial = self._try(numbers, kind, key, timed=timed)
                if trial.problem and not still_computes(self._device.torch_device):
                    # Every other kind would fail now, too; the next process leaves this one out.
                    self._store.put(f"{place} | {_ANY_SHAPE}", broke.with_trial(trial))
                    raise DeviceBrokenError(
                        f"{self._device.name} stopped working when {LABELS[kind]} was tried "
                        f"({trial.problem}); it is not tried again."
                    )
                self._device.release_cached()
            found.append(trial)
        return tuple(found)

    def _try(self, numbers: Trials, kind: Attention, key: str, *, timed: bool) -> Trial:
        kept = self._store.get(key)
        self._store.put(key, kept.with_begun(kind))
        trial: Trial | None = None
        try:
            trial = numbers.run(kind, self._kernels(kind), timed=timed)
        except torch.OutOfMemoryError:
            log.info("there is no memory to try attention %s", kind.value)
        self._store.put(key, kept if trial is None else kept.with_trial(trial))
        return trial or Trial(kind=kind, problem="there was no memory to try it")

    def _numbers(self, shape: AttentionShape) -> Trials | None:
        # Times of what Windows has moved to RAM would say nothing, and be kept.
        keep_in_vram(self._device)
        try:
            return Trials(self._device, shape)
        except torch.OutOfMemoryError:
            log.info("there is no memory to try attention at %s", shape.key)
        return None

    def _obstacle(self, kind: Attention, begun: tuple[Attention, ...]) -> str:
        if begun.count(kind) >= MAX_BEGUN:
            return "the engine ended each time it was tried"
        return self._absent(kind)


def _versions() -> str:
    found: list[str] = []
    for name in _LIBRARIES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)
