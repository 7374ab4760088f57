"""Images that came out as no picture: never told as a success."""

from app.core.errors import EngineError
from app.core.jobs import Phase
from app.core.request import GenerationRequest

_WHERE = {
    Phase.DENOISE: "denoising gave numbers that are not finite",
    Phase.DECODE: "decoding gave only a blank or invalid one",
}


class BadImages:
    """Which images of a request are none, and in which phase that came about."""

    def __init__(self, request: GenerationRequest) -> None:
        self._request = request
        self._found: dict[int, Phase] = {}

    def add(self, index: int, phase: Phase) -> None:
        """Image `index` came to be no picture in a phase."""
        self._found[index] = phase

    def check(self) -> None:
        """Look whether all images are pictures.

        Raises:
            EngineError: Some are not.
        """
        causes: list[str] = []
        for phase, words in _WHERE.items():
            seeds = [
                str(self._request.seed_of(index))
                for index, where in sorted(self._found.items())
                if where is phase
            ]
            if seeds:
                causes.append(f"for seed {', '.join(seeds)}, {words}")
        if causes:
            raise EngineError(
                f"The model made no picture {'; '.join(causes)}: try another seed or size; "
                "if it happens again, the model's files may be damaged.",
                code="engine.bad_image",
            )
