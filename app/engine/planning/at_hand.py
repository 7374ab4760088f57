"""What earlier runs have left on the disk that a run need not make again."""

from dataclasses import dataclass

from app.core.policy import Precision


@dataclass(frozen=True, slots=True, kw_only=True)
class AtHand:
    """What is kept for a request and its model; see `app.engine.kept_for_runs`.

    Attributes:
        converted: Components whose quantized weights are kept, with their precision.
        known_prompts: Precisions of text encoder and transformer with which the embeddings of all
            prompts of the request are kept.
    """

    converted: frozenset[tuple[str, Precision]] = frozenset()
    known_prompts: frozenset[tuple[Precision, Precision]] = frozenset()
