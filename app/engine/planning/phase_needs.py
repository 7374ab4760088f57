"""What each phase of a run needs for a way to keep weights, split the batch and decode."""

from app.core.jobs import Phase
from app.core.plan import Placement
from app.engine.planning.any_size import AnySize
from app.engine.planning.components import AUTOENCODER, TRANSFORMER
from app.engine.planning.decode_ways import DecodeTask, DecodeWay, at_once, one_by_one
from app.engine.planning.kept import Kept
from app.engine.planning.memory import needed_bytes, weights_room
from app.engine.planning.phase_need import Names, PhaseNeed
from app.engine.planning.problem import PlanProblem, once
from app.engine.planning.ram import run_ram_bytes
from app.engine.planning.seconds import compute_seconds, part_seconds, weights_seconds
from app.engine.planning.streaming_cost import Runs, StreamingCost


class PhaseNeeds:
    """The needs of some images of one size; looks each figure up once.

    Attributes:
        ram_bytes: That the run needs without the decoding.
        any_size: What is the same for all sizes: above all, what it needs to encode.
    """

    def __init__(self, problem: PlanProblem, *, width_px: int, height_px: int, images: int) -> None:
        self._problem = problem
        self._size = (width_px, height_px)
        self._images = images
        self.ram_bytes = run_ram_bytes(
            problem, width_px=width_px, height_px=height_px, images=images
        )
        self.any_size = once(problem, AnySize)
        self._task = DecodeTask(width_px=width_px, height_px=height_px, images=images)
        self._denoise_forecasts: dict[int, int] = {}
        self._denoise_rooms: dict[int, int] = {}
        self._denoise_runs: dict[int, Runs] = {}
        self._denoise_streaming: dict[int, StreamingCost] = {}
        self._at_once: dict[int, DecodeWay] = {}
        self._one_by_one: tuple[DecodeWay, ...] = ()

    def fits(self, phase: Phase, need: PhaseNeed) -> bool:
        """Whether the device has what is needed, and what it may need by chance."""
        return self.total_bytes(phase, need) <= self._problem.budget_bytes

    def total_bytes(self, phase: Phase, need: PhaseNeed) -> int:
        """What is needed of the device, with overhead and uncertainty."""
        return needed_bytes(self._problem, phase, need.weights_bytes, need.forecast_bytes)

    def denoise(self, staying: Names, kept: Kept, batch: int) -> PhaseNeed:
        """All steps, for one part of the batch after the other.

        Args:
            staying: Components that are on the device anyway.
            kept: How the transformer is kept.
            batch: Images in a part.
        """
        seconds = self.denoise_seconds(batch) + weights_seconds(self._problem, kept)
        waiting_s = 0.0
        if kept.placement is Placement.STREAMED:
            seconds += self.streaming_denoise(batch).seconds(kept)
            waiting_s = self.streaming_denoise(batch).waiting_seconds(kept)
        weights = kept.device_bytes + self.any_size.others_bytes(staying, TRANSFORMER)
        return PhaseNeed(weights, self.denoise_forecast(batch), seconds, waiting_s)

    def denoise_seconds(self, batch: int) -> float:
        """Of `denoise`, what computing takes, in parts of the batch."""
        computing_s = sum(count * once_s for count, once_s in self._runs_of_denoise(batch))
        return computing_s + part_seconds(self._problem, -(-self._images // batch))

    def denoise_forecast(self, batch: int) -> int:
        """Working memory of `denoise`, as the coefficients say."""
        if batch not in self._denoise_forecasts:
            width_px, height_px = self._size
            problem = self._problem
            self._denoise_forecasts[batch] = problem.coefficients.denoise_working_bytes(
                images=batch,
                width_px=width_px,
                height_px=height_px,
                references=problem.references,
                precision=problem.precisions[TRANSFORMER],
                beside=problem.beside,
                attention=problem.policy.attention,
            )
        return self._denoise_forecasts[batch]

    def streaming_denoise(self, batch: int) -> StreamingCost:
        """What it costs to stream the transformer."""
        if batch not in self._denoise_streaming:
            self._denoise_streaming[batch] = StreamingCost(
                self._problem, Phase.DENOISE, self._runs_of_denoise(batch)
            )
        return self._denoise_streaming[batch]

    def has_room_to_denoise(self, staying: Names, kept: Kept, batch: int) -> bool:
        """Whether there is room for `denoise`; quicker than to look at its time as well."""
        if batch not in self._denoise_rooms:
            self._denoise_rooms[batch] = weights_room(
                self._problem, Phase.DENOISE, self.denoise_forecast(batch)
            )
        others = self.any_size.others_bytes(staying, TRANSFORMER)
        return kept.device_bytes + others <= self._denoise_rooms[batch]

    def decode(self, staying: Names, way: DecodeWay) -> PhaseNeed:
        """The autoencoder for all images.

        Args:
            staying: Components that are on the device anyway.
            way: How the images are decoded.
        """
        others = self.any_size.others_bytes(staying, AUTOENCODER)
        kept = self.any_size.autoencoder(staying)
        if way.on_cpu:
            own = kept.device_bytes if kept.placement is Placement.RESIDENT else 0
            return PhaseNeed(others + own, 0, way.seconds)
        seconds = way.seconds + weights_seconds(self._problem, kept)
        return PhaseNeed(others + kept.device_bytes, way.forecast_bytes, seconds)

    def decodes(self, batch: int) -> tuple[DecodeWay, ...]:
        """Ways to decode images that were denoised in parts of this size, the gentlest first."""
        single = self.decodes_one_by_one()
        return single if batch == 1 else (self.decode_at_once(batch), *single)

    def decode_at_once(self, batch: int) -> DecodeWay:
        """The gentlest way for parts of more than one image."""
        if batch not in self._at_once:
            self._at_once[batch] = at_once(self._problem, self._task, batch)
        return self._at_once[batch]

    def decodes_one_by_one(self) -> tuple[DecodeWay, ...]:
        """All other ways; the same for parts of all sizes."""
        if not self._one_by_one:
            self._one_by_one = one_by_one(self._problem, self._task, ram_bytes=self.ram_bytes)
        return self._one_by_one

    def _runs_of_denoise(self, batch: int) -> Runs:
        """Of the transformer: in each step once or twice for each part of the batch."""
        if batch in self._denoise_runs:
            return self._denoise_runs[batch]
        width_px, height_px = self._size
        problem = self._problem
        whole, rest = divmod(self._images, batch)
        found: list[tuple[int, float]] = []
        for parts, images in ((whole, batch), (1, rest)):
            if parts and images:
                flops = problem.coefficients.denoise_step_flops(
                    images=images,
                    width_px=width_px,
                    height_px=height_px,
                    references=problem.references,
                )
                count = parts * problem.request.steps * problem.passes
                found.append((count, compute_seconds(problem, Phase.DENOISE, flops)))
        self._denoise_runs[batch] = found
        return found
