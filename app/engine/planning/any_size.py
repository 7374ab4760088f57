"""What is needed of the device whatever the size and number of images: above all, to encode."""

from app.core.jobs import Phase
from app.core.plan import Placement
from app.engine.planning.components import AUTOENCODER, TEXT_ENCODER
from app.engine.planning.fastest import fastest_kept
from app.engine.planning.kept import Kept, in_turns, resident, within_mode
from app.engine.planning.memory import needed_bytes
from app.engine.planning.phase_need import Names, PhaseNeed
from app.engine.planning.problem import PlanProblem
from app.engine.planning.seconds import compute_seconds, weights_seconds
from app.engine.planning.streaming_cost import StreamingCost


class AnySize:
    """The needs of a problem that are the same for all sizes; made `once`.

    Attributes:
        streaming_encode: What it costs to stream the text encoder.
    """

    def __init__(self, problem: PlanProblem) -> None:
        coefficients, prompts = problem.coefficients, problem.prompts
        self._problem = problem
        self._encodes: dict[Names, Kept | None] = {}
        self._others: dict[tuple[Names, str], int] = {}
        self._compute_s = compute_seconds(
            problem, Phase.ENCODE, coefficients.encode_flops(prompts=prompts)
        )
        self.streaming_encode = StreamingCost(
            problem, Phase.ENCODE, ((prompts, self._compute_s / prompts),)
        )
        self._encode_forecast_bytes = coefficients.encode_working_bytes(
            prompts=prompts, precision=problem.precisions[TEXT_ENCODER], beside=problem.beside
        )
        precision = problem.precisions[AUTOENCODER]
        sizes = [{"width_px": width, "height_px": height} for width, height in problem.references]
        self._references_bytes = max(
            (
                coefficients.encode_reference_working_bytes(**size, precision=precision)
                for size in sizes
            ),
            default=0,
        )
        self._preview_bytes = coefficients.preview_fit_working_bytes(precision=precision)
        flops = sum(coefficients.encode_reference_flops(**size) for size in sizes)
        self._references_s = compute_seconds(problem, Phase.ENCODE, flops)

    def load(self, staying: Names, seconds: float) -> PhaseNeed:
        """What stays is brought; then the autoencoder encodes what previews are fitted with.

        Previews are fitted once for a model where they are wanted, and only where there is room:
        no picture is made smaller for them.

        Args:
            staying: Components that are on the device anyway.
            seconds: To load what is not there yet.
        """
        problem = self._problem
        fitting = self._beside_autoencoder(staying), self._preview_bytes
        if needed_bytes(problem, Phase.LOAD, *fitting) <= problem.budget_bytes:
            return PhaseNeed(*fitting, seconds)
        return PhaseNeed(sum(problem.weights[name] for name in staying), 0, seconds)

    def encode(self, staying: Names, kept: Kept) -> PhaseNeed:
        """The text encoder for the prompts, then the autoencoder for the reference images.

        Args:
            staying: Components that are on the device anyway.
            kept: How the text encoder is kept.
        """
        problem = self._problem
        seconds = self._compute_s + weights_seconds(problem, kept)
        waiting_s = 0.0
        if kept.placement is Placement.STREAMED:
            seconds += self.streaming_encode.seconds(kept)
            waiting_s = self.streaming_encode.waiting_seconds(kept)
        if problem.references:
            seconds += self._references(staying).seconds
        return PhaseNeed(*self._encode_bytes(staying, kept), seconds, waiting_s)

    def encode_references(self, staying: Names) -> PhaseNeed:
        """The same where the prompts' embeddings are kept: only the reference images are encoded.

        Args:
            staying: Components that are on the device anyway.
        """
        if self._problem.references:
            return self._references(staying)
        return PhaseNeed(self.others_bytes(staying, TEXT_ENCODER), 0, 0.0)

    def has_room_to_encode(self, staying: Names, kept: Kept) -> bool:
        """Whether there is room for `encode`; quicker than to look at its time as well."""
        problem = self._problem
        return (
            needed_bytes(problem, Phase.ENCODE, *self._encode_bytes(staying, kept))
            <= problem.budget_bytes
        )

    def fastest_encode(self, staying: Names) -> Kept | None:
        """The fastest fitting way to keep the text encoder, or None."""
        if staying not in self._encodes:
            self._encodes[staying] = fastest_kept(
                self._problem,
                TEXT_ENCODER,
                staying,
                has_room=lambda kept: self.has_room_to_encode(staying, kept),
                is_allowed=lambda kept: self.is_allowed(staying, TEXT_ENCODER, kept),
                streaming=lambda: self.streaming_encode,
            )
        return self._encodes[staying]

    def is_allowed(self, staying: Names, name: str, kept: Kept) -> bool:
        """Whether the memory mode allows to keep a component in its phase so."""
        return within_mode(
            self._problem, kept, kept.device_bytes + self.others_bytes(staying, name)
        )

    def others_bytes(self, staying: Names, name: str) -> int:
        """Weights of components that are on the device, without those of one."""
        key = staying, name
        if key not in self._others:
            weights = self._problem.weights
            self._others[key] = sum(weights[other] for other in staying if other != name)
        return self._others[key]

    def autoencoder(self, staying: Names) -> Kept:
        """How the autoencoder is kept: it has no blocks that could be streamed."""
        if AUTOENCODER in staying:
            return resident(self._problem.weights[AUTOENCODER])
        return in_turns(self._problem, AUTOENCODER)

    def _encode_bytes(self, staying: Names, kept: Kept) -> tuple[int, int]:
        """Weights and working memory; of the reference images where they need more."""
        others = self.others_bytes(staying, TEXT_ENCODER)
        text = (kept.device_bytes + others, self._encode_forecast_bytes)
        if not self._problem.references:
            return text
        return max(text, (self._beside_autoencoder(staying), self._references_bytes), key=sum)

    def _beside_autoencoder(self, staying: Names) -> int:
        """Weights on the device while the autoencoder encodes."""
        others = self.others_bytes(staying, AUTOENCODER)
        return self.autoencoder(staying).device_bytes + others

    def _references(self, staying: Names) -> PhaseNeed:
        kept = self.autoencoder(staying)
        seconds = self._references_s + weights_seconds(self._problem, kept)
        return PhaseNeed(self._beside_autoencoder(staying), self._references_bytes, seconds)
