"""In which precision each component's weights are kept, where the user leaves that open.

On the CPU as they are stored. On a GPU in bf16, as long as the weights have a place: all in RAM,
from where they come and go at will, or all on the device at once. Where they have neither, they
would be read from the disk again and again; there the gentlest quantization that has a place is
taken: 8 bits in fp8, then 4. Where not even 4 bits have, they are read least in 4 bits.
"""

from dataclasses import dataclass

from app.core.policy import MemoryPolicy, Precision
from app.engine.coefficients import ModelCoefficients
from app.engine.planning.components import AUTOENCODER, COMPONENTS, TEXT_ENCODER, TRANSFORMER
from app.engine.planning.figures import gigabytes
from app.engine.quantize.recipe import QUANTIZED

LADDER = (Precision.BF16, Precision.FP8, Precision.NF4)
"""Of a GPU, from the closest to the smallest."""
PRECISION_WORDS = {Precision.FP8: "fp8", Precision.INT8: "int8", Precision.NF4: "4 bits"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenPrecisions:
    """What was decided.

    Attributes:
        precisions: Of each component; never AUTO.
        reason: Why they are not the usual ones, in a sentence, or "".
    """

    precisions: dict[str, Precision]
    reason: str = ""


def resolve_precisions(
    coefficients: ModelCoefficients,
    policy: MemoryPolicy,
    *,
    on_cpu: bool,
    vram_room_bytes: int,
    ram_room_bytes: int,
) -> ChosenPrecisions:
    """The precision of each component, decided where the policy leaves it open.

    Args:
        coefficients: Of the model.
        policy: What the user decided.
        on_cpu: Whether the processor runs it.
        vram_room_bytes: What may be used of the device.
        ram_room_bytes: Of RAM for weights, without swapping.
    """
    wanted = {
        TEXT_ENCODER: policy.precisions.text_encoder,
        TRANSFORMER: policy.precisions.transformer,
        # Nothing quantizes it: it is small, and its errors would show.
        AUTOENCODER: Precision.AUTO
        if policy.precisions.autoencoder in QUANTIZED
        else policy.precisions.autoencoder,
    }
    # What others have quantized runs as it is stored.
    wanted |= {one.component: one.precision for one in coefficients.foreign}
    if on_cpu:
        return ChosenPrecisions(precisions=_with(wanted, coefficients.stored_precision))
    usual = _with(wanted, Precision.BF16)
    # The autoencoder is small, and stays as it is.
    left_open = {name for name in (TEXT_ENCODER, TRANSFORMER) if wanted[name] is Precision.AUTO}
    if not left_open:
        return ChosenPrecisions(precisions=usual)
    for precision in LADDER:
        tried = {name: precision if name in left_open else usual[name] for name in COMPONENTS}
        need = _weights_bytes(coefficients, tried)
        if need <= ram_room_bytes or need <= vram_room_bytes:
            break
    else:
        precision = LADDER[-1]
        tried = {name: precision if name in left_open else usual[name] for name in COMPONENTS}
    if precision is Precision.BF16:
        return ChosenPrecisions(precisions=usual)
    asked = gigabytes(_weights_bytes(coefficients, usual), up=True)
    return ChosenPrecisions(
        precisions=tried,
        reason=f"Neither RAM nor GPU memory holds {asked} GB of weights in bf16: they are kept in "
        f"{PRECISION_WORDS[precision]}, {gigabytes(_weights_bytes(coefficients, tried), up=True)} "
        "GB. Choose bf16 as the precision to have them read from the disk instead.",
    )


def as_stored_words(coefficients: ModelCoefficients, policy: MemoryPolicy) -> str:
    """That components are not kept as asked, because others have quantized them; or ""."""
    asked = {
        TEXT_ENCODER: policy.precisions.text_encoder,
        TRANSFORMER: policy.precisions.transformer,
    }
    return " ".join(
        f"The {one.component.replace('_', ' ')} in this folder is stored in {one.stored_as}: it "
        f"runs so, not in {PRECISION_WORDS.get(wanted, wanted.value)}. To choose its precision, "
        "use the model's bf16 folder."
        for one in coefficients.foreign
        if (wanted := asked[one.component]).value not in (Precision.AUTO.value, one.stored_as)
    )


def file_bytes(coefficients: ModelCoefficients, name: str, precision: Precision) -> int:
    """What is read from the disk to load a component: the model's file, or the converted one."""
    stored = precision if precision in QUANTIZED else coefficients.stored_precision
    return coefficients.weights_bytes(name, stored) + coefficients.ram_only_bytes(name, stored)


def _with(wanted: dict[str, Precision], usual: Precision) -> dict[str, Precision]:
    return {
        name: usual if precision is Precision.AUTO else precision
        for name, precision in wanted.items()
    }


def _weights_bytes(coefficients: ModelCoefficients, precisions: dict[str, Precision]) -> int:
    return sum(
        coefficients.weights_bytes(name, precision) + coefficients.ram_only_bytes(name, precision)
        for name, precision in precisions.items()
    )
