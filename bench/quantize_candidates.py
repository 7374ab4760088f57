"""Linear layers of the libraries that were weighed against our own; those that are installed.

None of them is a dependency, except gguf, which reads files of others.
"""

import importlib.util
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch

Layer = Callable[[torch.Tensor], torch.Tensor]
Candidate = tuple[str, Callable[[torch.Tensor], tuple[Layer, int]]]
"""Name, and what makes of a bf16 weight a layer and its size in bytes."""


def candidates() -> dict[str, list[Candidate]]:
    """By kind: "fp8", "int8", "4 bits"."""
    found: dict[str, list[Candidate]] = {"fp8": [], "int8": [], "4 bits": []}
    if importlib.util.find_spec("torchao"):
        found["fp8"].append(("torchao Float8WeightOnly", _torchao("Float8WeightOnlyConfig")))
        found["int8"].append(("torchao Int8WeightOnly", _torchao("Int8WeightOnlyConfig")))
        dynamic = "Int8DynamicActivationInt8WeightConfig"
        found["int8"].append(("torchao Int8Dynamic", _torchao(dynamic)))
        found["4 bits"].append(("torchao IntxWeightOnly int4, 32", _torchao_int4))
    if importlib.util.find_spec("bitsandbytes"):
        found["int8"].append(("bitsandbytes Linear8bitLt", _bnb_int8))
        found["4 bits"].append(("bitsandbytes Linear4bit nf4, 64", _bnb_nf4))
    if importlib.util.find_spec("gguf"):
        found["int8"].append(("GGUF Q8_0 through diffusers", _gguf("Q8_0")))
        found["4 bits"].append(("GGUF Q4_0 through diffusers", _gguf("Q4_0")))
        found["4 bits"].append(("GGUF Q4_1 through diffusers", _gguf("Q4_1")))
    return found


def _linear(weight: torch.Tensor) -> torch.nn.Linear:
    made = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    made.weight = torch.nn.Parameter(weight, requires_grad=False)
    return made


def _flat_bytes(tensor: torch.Tensor) -> int:
    untyped: Any = tensor
    names, _context = untyped.__tensor_flatten__()
    return sum(getattr(tensor, name).nbytes for name in names)


def _torchao(config: str, **options: object) -> Callable[[torch.Tensor], tuple[Layer, int]]:
    def make(weight: torch.Tensor) -> tuple[Layer, int]:
        quantization: Any = importlib.import_module("torchao.quantization")
        linear = _linear(weight)
        model = torch.nn.Sequential(linear)
        quantization.quantize_(model, getattr(quantization, config)(**options))
        return model, _flat_bytes(linear.weight)

    return make


def _torchao_int4(weight: torch.Tensor) -> tuple[Layer, int]:
    quantization: Any = importlib.import_module("torchao.quantization")
    group = quantization.PerGroup(32)
    # A type that torch's own stubs do not name.
    int4: Any = vars(torch)["int4"]
    return _torchao("IntxWeightOnlyConfig", weight_dtype=int4, granularity=group)(weight)


def _bitsandbytes() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("bitsandbytes")


def _bnb_int8(weight: torch.Tensor) -> tuple[Layer, int]:
    nn = _bitsandbytes().nn
    rows, width = weight.shape
    layer = nn.Linear8bitLt(width, rows, bias=False, has_fp16_weights=False, threshold=0.0)
    layer.weight = nn.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    layer = layer.to(weight.device)
    return layer, layer.weight.nbytes + 4 * rows


def _bnb_nf4(weight: torch.Tensor) -> tuple[Layer, int]:
    nn = _bitsandbytes().nn
    rows, width = weight.shape
    layer = nn.Linear4bit(
        width, rows, bias=False, compute_dtype=torch.bfloat16, quant_type="nf4",
        compress_statistics=False,
    )  # fmt: skip
    layer.weight = nn.Params4bit(
        weight, requires_grad=False, quant_type="nf4", compress_statistics=False
    )
    layer = layer.to(weight.device)
    return layer, layer.weight.nbytes + layer.weight.quant_state.absmax.nbytes


def _gguf(kind: str) -> Callable[[torch.Tensor], tuple[Layer, int]]:
    def make(weight: torch.Tensor) -> tuple[Layer, int]:
        gguf: Any = importlib.import_module("gguf")
        utils: Any = importlib.import_module("diffusers.quantizers.gguf.utils")
        number = getattr(gguf.GGMLQuantizationType, kind)
        data = torch.from_numpy(gguf.quantize(weight.float().cpu().numpy(), number))
        rows, width = weight.shape
        layer = utils.GGUFLinear(
            width, rows, bias=False, compute_dtype=torch.bfloat16, device="meta"
        )
        layer.weight = utils.GGUFParameter(data.to(weight.device), quant_type=number)
        return layer, data.nbytes

    return make
