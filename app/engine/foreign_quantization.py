"""What other programs have quantized, in words; needs no torch."""

from collections.abc import Mapping

_MAKERS = {
    "bitsandbytes": "bitsandbytes",
    "quanto": "quanto",
    "torchao": "torchao",
    "modelopt": "NVIDIA's ModelOpt",
    "compressed-tensors": "compressed-tensors",
    "fp8": "a method for blocks in fp8",
    "fbgemm_fp8": "FBGEMM",
    "gptq": "GPTQ",
    "awq": "AWQ",
    "hqq": "HQQ",
    "svdquant": "SVDQuant",
}
_KINDS = ("quant_type", "quant_algo", "weights_dtype", "weights", "bnb_4bit_quant_type")
"""Where the methods say what became of the weights."""
ADVICE = (
    "use the model's bf16 folder, of which fp8, int8 or 4 bits are made here as you choose "
    "in Precision"
)


def words_of(config: Mapping[str, object]) -> str:
    """How a `quantization_config` says weights are quantized, as in "in 4 bits by bitsandbytes"."""
    method = str(config.get("quant_method") or "")
    by = f"by {_MAKERS.get(method.lower(), method)}" if method else "by a method without a name"
    kind = _kind_of(config)
    return f"in {kind} {by}" if kind else by


def _kind_of(config: Mapping[str, object]) -> str:
    if config.get("load_in_4bit"):
        return "4 bits"
    if config.get("load_in_8bit"):
        return "8 bits"
    found = (config.get(name) for name in _KINDS)
    return next((kind for kind in found if isinstance(kind, str) and kind), "")
