"""How close pictures stay to full precision, as measured; needs no torch.

The figures behind the words are in docs/quantization.md, made by `bench/quantize.py`.
"""

from app.core.policy import Precision

_HINTS = {
    Precision.AUTO: "",
    Precision.FP32: "exact",
    Precision.BF16: "as the model was made",
    Precision.FP8: "very close",
    Precision.INT8: "very close",
    Precision.NF4: "visible on fine detail",
}


def fidelity_hint(precision: Precision) -> str:
    """Some words on what a precision of the weights does to pictures; empty for AUTO."""
    return _HINTS[precision]
