"""One way to run a request, with what it needs and how long it takes."""

from dataclasses import dataclass

from app.core.jobs import Phase
from app.core.plan import ComponentPlan, PhasePlan, Placement, Verdict
from app.engine.foreign_weights import foreign_of
from app.engine.planning.any_size import AnySize
from app.engine.planning.components import AUTOENCODER, COMPONENTS, TEXT_ENCODER, TRANSFORMER
from app.engine.planning.decode_ways import DecodeWay
from app.engine.planning.kept import Kept, in_turns
from app.engine.planning.memory import phase_plan
from app.engine.planning.phase_need import Names, PhaseNeed
from app.engine.planning.phase_needs import PhaseNeeds
from app.engine.planning.problem import PlanProblem, once
from app.engine.planning.ram import resting_ram_bytes, swapped_bytes
from app.engine.planning.seconds import load_seconds, save_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """All that is decided about a run.

    Attributes:
        width_px: Of the images.
        height_px: Of the images.
        images: In all.
        batch: Denoised at once.
        kept: How each component's weights are kept.
        decode: How the images are decoded.
        encoding: What the phase needs.
        denoising: What the phase needs.
        decoding: What the phase needs.
        ram_bytes: Of the computer; 0 where the device is the computer.
    """

    width_px: int
    height_px: int
    images: int
    batch: int
    kept: dict[str, Kept]
    decode: DecodeWay
    encoding: PhaseNeed
    denoising: PhaseNeed
    decoding: PhaseNeed
    ram_bytes: int

    @property
    def resident_bytes(self) -> int:
        """Weights that are on the device all the time."""
        return sum(
            kept.device_bytes for kept in self.kept.values() if kept.placement is Placement.RESIDENT
        )

    def phases(self, problem: PlanProblem) -> tuple[PhasePlan, ...]:
        """All phases in order."""
        resting = self._resting_bytes(problem)
        resident = self.resident_bytes - resting
        loading_s = load_seconds(
            problem,
            resident_bytes=resident,
            swapped_bytes=swapped_bytes(problem, self.needed_ram_bytes(problem)),
        )
        pixels = self.images * self.width_px * self.height_px
        needs = {
            Phase.LOAD: once(problem, AnySize).load(self._staying(problem), loading_s),
            Phase.ENCODE: self._encoding(problem),
            Phase.DENOISE: self.denoising.less_weights(resting),
            Phase.DECODE: self.decoding.less_weights(resting),
            Phase.SAVE: PhaseNeed(resident, 0, save_seconds(problem, pixels=pixels)),
        }
        return tuple(
            phase_plan(
                problem,
                phase,
                weights=need.weights_bytes,
                forecast_bytes=need.forecast_bytes,
                seconds=need.seconds,
                waiting_seconds=need.waiting_seconds,
            )
            for phase, need in needs.items()
        )

    def components(self, problem: PlanProblem) -> tuple[ComponentPlan, ...]:
        """All components."""
        return tuple(self._component(problem, name) for name in COMPONENTS)

    def needed_ram_bytes(self, problem: PlanProblem) -> int:
        """RAM, without a text encoder that rests."""
        return max(0, self.ram_bytes - resting_ram_bytes(problem))

    def missing_bytes(self, problem: PlanProblem) -> int:
        """How much more it needs than there is, of the device or of the RAM; 0 when it fits."""
        device = max(phase.needed_bytes for phase in self.phases(problem)) - problem.budget_bytes
        ram = self.ram_bytes - problem.ram_budget_bytes
        return max(0, device, ram)

    def _component(self, problem: PlanProblem, name: str) -> ComponentPlan:
        kept = self.kept[name]
        foreign = foreign_of(problem.coefficients.foreign, name)
        stored_as = "" if foreign is None else foreign.stored_as
        if name == TEXT_ENCODER and problem.prompts_known:
            return ComponentPlan(
                name=name,
                precision=problem.precisions[name],
                stored_as=stored_as,
                placement=Placement.TURNS,
                weights_bytes=0,
                device_bytes=0,
            )
        elsewhere = name == AUTOENCODER and self.decode.on_cpu and not problem.references
        return ComponentPlan(
            name=name,
            precision=problem.precisions[name],
            stored_as=stored_as,
            placement=Placement.TURNS if elsewhere else kept.placement,
            weights_bytes=problem.weights[name],
            device_bytes=0 if elsewhere else kept.device_bytes,
            streamed_blocks=kept.streamed_blocks,
            slots_bytes=kept.slots_bytes,
            file_blocks=kept.file_blocks,
        )

    def _resting_bytes(self, problem: PlanProblem) -> int:
        """Of weights that would stay on the device, if their component were needed."""
        kept = self.kept[TEXT_ENCODER]
        rests = problem.prompts_known and kept.placement is Placement.RESIDENT
        return kept.device_bytes if rests else 0

    def _encoding(self, problem: PlanProblem) -> PhaseNeed:
        if not problem.prompts_known:
            return self.encoding
        return once(problem, AnySize).encode_references(self._staying(problem))

    def _staying(self, problem: PlanProblem) -> Names:
        """Components that are on the device in all phases, without a text encoder that rests."""
        return frozenset(
            name
            for name, kept in self.kept.items()
            if kept.placement is Placement.RESIDENT
            and not (name == TEXT_ENCODER and problem.prompts_known)
        )


def verdict_of(problem: PlanProblem, way: Way) -> Verdict:
    """Whether it makes what is asked for, and whether blocks come in while it runs."""
    request = problem.request
    asked = (request.width_px, request.height_px, request.images)
    if (way.width_px, way.height_px, way.images) != asked:
        return Verdict.SMALLER
    streams = any(way.kept[name].placement is Placement.STREAMED for name in running(problem))
    return Verdict.STREAMS if streams else Verdict.FITS


def running(problem: PlanProblem) -> tuple[str, ...]:
    """Components with blocks, without a text encoder that rests."""
    return (TRANSFORMER,) if problem.prompts_known else (TEXT_ENCODER, TRANSFORMER)


def streaming_seconds(problem: PlanProblem, way: Way) -> float:
    """What it would save if each component that is streamed came whole."""
    needs = PhaseNeeds(problem, width_px=way.width_px, height_px=way.height_px, images=way.images)
    nothing: Names = frozenset()
    saved_s = 0.0
    for name in running(problem):
        kept, whole = way.kept[name], in_turns(problem, name)
        if kept.placement is not Placement.STREAMED:
            continue
        if name == TEXT_ENCODER:
            encode = needs.any_size.encode
            saved_s += encode(nothing, kept).seconds - encode(nothing, whole).seconds
        else:
            whole_s = needs.denoise(nothing, whole, way.batch).seconds
            saved_s += needs.denoise(nothing, kept, way.batch).seconds - whole_s
    return saved_s
