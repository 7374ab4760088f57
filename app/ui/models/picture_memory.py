"""How a picture's weights and memory were handled, in the words of its file or of its run."""

from dataclasses import dataclass, field

from app.core.metadata import ImageRecord
from app.core.plan import GenerationPlan
from app.core.policy import MemoryPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureMemory:
    """What can be told; words are as in files, and may be of another version.

    Attributes:
        ran_in: Precision each component ran in, by its name.
        asked: Precision asked for, by component; empty in files of older versions.
        mode: Memory mode asked for; "" where nothing tells it.
        attention: Asked for; "" where nothing tells it.
        compiled: Whether blocks were to be compiled; None where nothing tells it.
        tile_px: Side of decode tiles asked for, as in MemoryPolicy.
        tells_tiles: Whether `tile_px` is known.
    """

    ran_in: dict[str, str] = field(default_factory=dict[str, str])
    asked: dict[str, str] = field(default_factory=dict[str, str])
    mode: str = ""
    attention: str = ""
    compiled: bool | None = None
    tile_px: int | None = None
    tells_tiles: bool = False

    @classmethod
    def of_record(cls, record: ImageRecord) -> "PictureMemory":
        """As a picture's file tells it."""
        return cls(
            ran_in=record.precisions,
            asked=record.asked_precisions,
            mode=record.memory_mode,
            attention=record.asked_attention,
            # Told together: files of older versions have neither.
            compiled=record.compiled if record.memory_mode else None,
            tile_px=record.asked_tile_px,
            tells_tiles=bool(record.asked_attention),
        )

    @classmethod
    def of_run(cls, policy: MemoryPolicy, plan: GenerationPlan | None) -> "PictureMemory":
        """As a run of this session was asked for, and went by its plan."""
        parts = () if plan is None else plan.components
        asked = policy.precisions
        return cls(
            ran_in={part.name: part.runs_as for part in parts},
            asked={
                "text_encoder": asked.text_encoder.value,
                "transformer": asked.transformer.value,
                "autoencoder": asked.autoencoder.value,
            },
            mode=policy.mode.value,
            attention=policy.attention.value,
            compiled=policy.compile,
            tile_px=policy.tile_px,
            tells_tiles=True,
        )
