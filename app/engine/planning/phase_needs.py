"""What each phase of a run needs for a way to keep weights, split the batch and decode."""

import functools
from dataclasses import dataclass, replace

from app.core.jobs import Phase
from app.core.plan import Placement
from app.engine.planning.decode_ways import DecodeTask, DecodeWay, at_once, one_by_one
from app.engine.planning.kept import Kept, in_turns, resident, within_mode
from app.engine.planning.memory import needed_bytes, weights_room
from app.engine.planning.problem import AUTOENCODER, TEXT_ENCODER, TRANSFORMER, PlanProblem
from app.engine.planning.ram import run_ram_bytes
from app.engine.planning.seconds import compute_seconds, part_seconds, weights_seconds
from app.engine.planning.streaming import Runs, Streaming

Names = frozenset[str]
"""Components that stay on the device for the whole run."""


@dataclass(frozen=True, slots=True)
class PhaseNeed:
    """What a phase needs: weights on the device, working memory as forecast, and time.

    Of the time, computing waits so long for weights that come in while it runs.
    """

    weights_bytes: int
    forecast_bytes: int
    seconds: float
    waiting_seconds: float = 0.0

    def less_weights(self, size_bytes: int) -> "PhaseNeed":
        """The same with so much less of weights."""
        return replace(self, weights_bytes=self.weights_bytes - size_bytes)


class PhaseNeeds:
    """The needs of some images of one size; looks each figure up once."""

    def __init__(self, problem: PlanProblem, *, width_px: int, height_px: int, images: int) -> None:
        self._problem = problem
        self._size = (width_px, height_px)
        self._images = images
        self.ram_bytes = run_ram_bytes(
            problem, width_px=width_px, height_px=height_px, images=images
        )
        self._task = DecodeTask(width_px=width_px, height_px=height_px, images=images)
        self._denoise_forecast = functools.cache(self._forecast_denoise)
        self._denoise_runs = functools.cache(self._runs_of_denoise)
        self._others = functools.cache(self._bytes_of_others)
        self._room_to_denoise = functools.cache(self._weights_room)
        self.streaming_denoise = functools.cache(self._streaming_denoise)
        self.streaming_encode = functools.cache(self._streaming_encode)
        self._decode_at_once = functools.cache(self._decodes_at_once)
        self._decode_one_by_one = functools.cache(self._decodes_one_by_one)
        self._encode_forecast = functools.cache(self._forecast_encode)
        self._encode_compute_s = functools.cache(self._compute_encode)
        self._references_of = functools.cache(self._references)

    def fits(self, phase: Phase, need: PhaseNeed) -> bool:
        """Whether the device has what is needed, and what it may need by chance."""
        return self._fit(phase, need.weights_bytes, need.forecast_bytes)

    def total_bytes(self, phase: Phase, need: PhaseNeed) -> int:
        """What is needed of the device, with overhead and uncertainty."""
        return needed_bytes(self._problem, phase, need.weights_bytes, need.forecast_bytes)

    def encode(self, staying: Names, kept: Kept) -> PhaseNeed:
        """The text encoder for the prompts, then the autoencoder for the reference images.

        Args:
            staying: Components that are on the device anyway.
            kept: How the text encoder is kept.
        """
        problem = self._problem
        seconds = self._encode_compute_s() + weights_seconds(problem, kept)
        waiting_s = 0.0
        if kept.placement is Placement.STREAMED:
            seconds += self.streaming_encode().seconds(kept)
            waiting_s = self.streaming_encode().waiting_seconds(kept)
        if problem.references:
            seconds += self._references_of(staying).seconds
        return PhaseNeed(*self._encode_bytes(staying, kept), seconds, waiting_s)

    def encode_references(self, staying: Names) -> PhaseNeed:
        """The same where the prompts' embeddings are kept: only the reference images are encoded.

        Args:
            staying: Components that are on the device anyway.
        """
        if self._problem.references:
            return self._references_of(staying)
        return PhaseNeed(self._others(staying, TEXT_ENCODER), 0, 0.0)

    def has_room_to_encode(self, staying: Names, kept: Kept) -> bool:
        """Whether there is room for `encode`; quicker than to look at its time as well."""
        return self._fit(Phase.ENCODE, *self._encode_bytes(staying, kept))

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
        return PhaseNeed(*self._denoise_bytes(staying, kept, batch), seconds, waiting_s)

    def denoise_seconds(self, batch: int) -> float:
        """Of `denoise`, what computing takes, in parts of the batch."""
        computing_s = sum(count * once_s for count, once_s in self._denoise_runs(batch))
        return computing_s + part_seconds(self._problem, -(-self._images // batch))

    def has_room_to_denoise(self, staying: Names, kept: Kept, batch: int) -> bool:
        """Whether there is room for `denoise`; quicker than to look at its time as well."""
        others = self._others(staying, TRANSFORMER)
        return kept.device_bytes + others <= self._room_to_denoise(batch)

    def is_allowed(self, staying: Names, name: str, kept: Kept) -> bool:
        """Whether the memory mode allows to keep a component in its phase so."""
        return within_mode(self._problem, kept, kept.device_bytes + self._others(staying, name))

    def decode(self, staying: Names, way: DecodeWay) -> PhaseNeed:
        """The autoencoder for all images.

        Args:
            staying: Components that are on the device anyway.
            way: How the images are decoded.
        """
        others = self._others(staying, AUTOENCODER)
        kept = self.autoencoder(staying)
        if way.on_cpu:
            own = kept.device_bytes if kept.placement is Placement.RESIDENT else 0
            return PhaseNeed(others + own, 0, way.seconds)
        seconds = way.seconds + weights_seconds(self._problem, kept)
        return PhaseNeed(others + kept.device_bytes, way.forecast_bytes, seconds)

    def decodes(self, batch: int) -> tuple[DecodeWay, ...]:
        """Ways to decode images that were denoised in parts of this size, the gentlest first."""
        if batch == 1:
            return self._decode_one_by_one()
        return (self._decode_at_once(batch), *self._decode_one_by_one())

    def autoencoder(self, staying: Names) -> Kept:
        """How the autoencoder is kept: it has no blocks that could be streamed."""
        if AUTOENCODER in staying:
            return resident(self._problem.weights[AUTOENCODER])
        return in_turns(self._problem, AUTOENCODER)

    def _fit(self, phase: Phase, weights: int, forecast: int) -> bool:
        return needed_bytes(self._problem, phase, weights, forecast) <= self._problem.budget_bytes

    def _encode_bytes(self, staying: Names, kept: Kept) -> tuple[int, int]:
        """Weights and working memory; of the reference images where they need more."""
        text = (kept.device_bytes + self._others(staying, TEXT_ENCODER), self._encode_forecast())
        if not self._problem.references:
            return text
        references = self._references_of(staying)
        return max(text, (references.weights_bytes, references.forecast_bytes), key=sum)

    def _denoise_bytes(self, staying: Names, kept: Kept, batch: int) -> tuple[int, int]:
        """Weights and working memory."""
        weights = kept.device_bytes + self._others(staying, TRANSFORMER)
        return weights, self._denoise_forecast(batch)

    def _bytes_of_others(self, staying: Names, name: str) -> int:
        return sum(self._problem.weights[other] for other in staying if other != name)

    def _references(self, staying: Names) -> PhaseNeed:
        problem, coefficients = self._problem, self._problem.coefficients
        precision = problem.precisions[AUTOENCODER]
        sizes = [{"width_px": width, "height_px": height} for width, height in problem.references]
        working = max(
            coefficients.encode_reference_working_bytes(**size, precision=precision)
            for size in sizes
        )
        flops = sum(coefficients.encode_reference_flops(**size) for size in sizes)
        kept = self.autoencoder(staying)
        seconds = compute_seconds(problem, Phase.ENCODE, flops) + weights_seconds(problem, kept)
        weights = kept.device_bytes + self._others(staying, AUTOENCODER)
        return PhaseNeed(weights, working, seconds)

    def _forecast_encode(self) -> int:
        return self._problem.coefficients.encode_working_bytes(
            prompts=self._problem.prompts,
            precision=self._problem.precisions[TEXT_ENCODER],
            beside=self._problem.beside,
        )

    def _compute_encode(self) -> float:
        flops = self._problem.coefficients.encode_flops(prompts=self._problem.prompts)
        return compute_seconds(self._problem, Phase.ENCODE, flops)

    def _streaming_encode(self) -> Streaming:
        prompts = self._problem.prompts
        runs = ((prompts, self._encode_compute_s() / prompts),)
        return Streaming(self._problem, Phase.ENCODE, runs)

    def _streaming_denoise(self, batch: int) -> Streaming:
        return Streaming(self._problem, Phase.DENOISE, self._denoise_runs(batch))

    def _forecast_denoise(self, batch: int) -> int:
        width_px, height_px = self._size
        return self._problem.coefficients.denoise_working_bytes(
            images=batch,
            width_px=width_px,
            height_px=height_px,
            references=self._problem.references,
            precision=self._problem.precisions[TRANSFORMER],
            beside=self._problem.beside,
            attention=self._problem.policy.attention,
        )

    def _weights_room(self, batch: int) -> int:
        return weights_room(self._problem, Phase.DENOISE, self._denoise_forecast(batch))

    def _runs_of_denoise(self, batch: int) -> Runs:
        """Of the transformer: in each step once or twice for each part of the batch."""
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
        return found

    def _decodes_at_once(self, batch: int) -> DecodeWay:
        return at_once(self._problem, self._task, batch)

    def _decodes_one_by_one(self) -> tuple[DecodeWay, ...]:
        return one_by_one(self._problem, self._task, ram_bytes=self.ram_bytes)
