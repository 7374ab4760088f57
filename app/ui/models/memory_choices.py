"""Words for what one can choose about memory, and for what "automatic" comes to by the plan."""

from PySide6.QtCore import QCoreApplication

from app.core.plan import ComponentPlan, GenerationPlan, Placement
from app.core.policy import Attention, MemoryMode, MemoryPolicy, Precision
from app.core.units import GIB
from app.engine.planning.components import TEXT_ENCODER, TRANSFORMER
from app.engine.planning.mode_words import MODE_WORDS
from app.engine.planning.problem import RAM_HEADROOM_SHARE
from app.engine.quantize.fidelity import fidelity_hint
from app.ui.models.plan_inputs import PlanInputs
from app.ui.models.plan_words import SMALL_BYTES, gb

_WHOLE = frozenset({Precision.BF16, Precision.FP32})


def precision_word(precision: Precision) -> str:
    """What a precision is called."""
    return {
        Precision.AUTO: _tr("Automatic"),
        Precision.FP32: "fp32",
        Precision.BF16: "bf16",
        Precision.FP8: "fp8",
        Precision.INT8: "int8",
        Precision.NF4: _tr("4 bits"),
    }[precision]


def precision_tip(precision: Precision) -> str:
    """What a precision is good for, in a sentence."""
    return {
        Precision.AUTO: _tr("The plan chooses, by the GPU and the memory that is free"),
        Precision.FP32: _tr("32 bits a weight: twice the memory of bf16; for the CPU"),
        Precision.BF16: _tr("16 bits a weight: as FLUX.2 models are published"),
        Precision.FP8: _tr("8 bits a weight: half the memory of bf16"),
        Precision.INT8: _tr("8 bits a weight, in whole numbers: half the memory of bf16"),
        Precision.NF4: _tr("4.5 bits a weight: less than a third of the memory of bf16"),
    }[precision]


def fidelity(chosen: Precision, plan: GenerationPlan | None) -> str:
    """How near pictures come to those of the whole model, in a few words; "" for nothing to say.

    Args:
        chosen: For the transformer.
        plan: What automatic comes to; None where that is not known.
    """
    part = _part_of(plan, TRANSFORMER)
    if part is not None and part.stored_as and part.stored_as != part.precision.value:
        # How near such weights come was not measured.
        return ""
    planned = part is not None and (chosen is Precision.AUTO or part.stored_as)
    runs_in = part.precision if part is not None and planned else chosen
    if runs_in is Precision.AUTO or (chosen is Precision.AUTO and runs_in in _WHOLE):
        return ""
    hint = fidelity_hint(runs_in)
    return _tr("Pictures: {hint}").format(hint=hint) if hint else ""


def mode_word(mode: MemoryMode) -> str:
    """What a memory mode is called."""
    return _tr(MODE_WORDS[mode])


def attention_word(attention: Attention) -> str:
    """What a way to compute attention is called."""
    return {
        Attention.AUTO: _tr("Automatic"),
        Attention.SDPA: _tr("torch's choice"),
        Attention.FLASH: _tr("Flash (torch)"),
        Attention.EFFICIENT: _tr("Memory-efficient (torch)"),
        Attention.CUDNN: _tr("cuDNN (torch)"),
        Attention.MATH: _tr("Plain math (torch)"),
        Attention.CHUNKED: _tr("In parts"),
        Attention.SAGE: "SageAttention",
        Attention.FLASH_ATTN: "flash-attn",
        Attention.XFORMERS: "xFormers",
    }[attention]


def attention_tip(attention: Attention) -> str:
    """What is to be known about it, in a sentence."""
    if attention is Attention.AUTO:
        return _tr("The fastest that a trial on this device found to work")
    if attention is Attention.CHUNKED:
        return _tr("Needs least memory at extreme sizes, and takes longer")
    if attention is Attention.MATH:
        return _tr("Works everywhere; needs most memory")
    if attention in {Attention.SAGE, Attention.FLASH_ATTN, Attention.XFORMERS}:
        return _tr("Where it is installed; else the engine says so and takes another")
    return _tr("Where the device has it; else the engine says so and takes another")


def automatic(given: str) -> str:
    """The word for automatic, with what it comes to where that is known."""
    return _tr("Automatic: {given}").format(given=given) if given else _tr("Automatic")


def given_precision(plan: GenerationPlan | None) -> str:
    """In what the weights run by the plan: "bf16", or "bf16, text encoder fp8"."""
    if plan is None:
        return ""
    transformer = _part_of(plan, TRANSFORMER)
    encoder = _part_of(plan, TEXT_ENCODER)
    if transformer is None:
        return ""
    word = _word_of(transformer)
    if encoder is None or _word_of(encoder) == word:
        return word
    return _tr("{precision}, text encoder {other}").format(precision=word, other=_word_of(encoder))


def given_placement(plan: GenerationPlan | None, *, on_cpu: bool) -> str:
    """Where the weights are by the plan: "everything stays", "streamed, 3.1 GB stays"."""
    if plan is None:
        return ""
    if on_cpu:
        return _tr("all in RAM")
    streamed = [one for one in plan.components if one.placement is Placement.STREAMED]
    if streamed:
        stays = max(map(_stays_bytes, streamed))
        if stays < SMALL_BYTES:
            return _tr("streamed")
        return _tr("streamed, {size} stays").format(size=gb(stays))
    if all(one.placement is Placement.RESIDENT for one in plan.components):
        return _tr("everything stays")
    return _tr("networks take turns")


def as_set(size_bytes: int) -> str:
    """A size as somebody chose it: "0.75 GB", "2 GB"."""
    size = f"{size_bytes / GIB:.2f}".rstrip("0").rstrip(".")
    return _tr("{size} GB").format(size=size)


def headroom_bytes(policy: MemoryPolicy, *, on_cpu: bool) -> int:
    """What is left to other programs: of the GPU's memory, or of the RAM without a GPU."""
    return policy.ram_headroom_bytes if on_cpu else policy.headroom_bytes


def most_headroom_bytes(inputs: PlanInputs, *, on_cpu: bool) -> int:
    """The most that can be left to other programs; of the RAM plans never leave more."""
    if on_cpu:
        return inputs.host.total_bytes // RAM_HEADROOM_SHARE
    return inputs.device.total_bytes // 2


def _part_of(plan: GenerationPlan | None, component: str) -> ComponentPlan | None:
    components = () if plan is None else plan.components
    return next((one for one in components if one.name == component), None)


def _word_of(part: ComponentPlan) -> str:
    return part.stored_as or precision_word(part.precision)


def _stays_bytes(component: ComponentPlan) -> int:
    return max(0, component.device_bytes - component.slots_bytes)


def _tr(text: str) -> str:
    return QCoreApplication.translate("MemoryChoices", text)
