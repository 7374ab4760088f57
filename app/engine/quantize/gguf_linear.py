"""Linear layers with weights as GGUF files have them, turned back into numbers by diffusers."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from app.engine.quantize.gguf_file import KIND_PREFIX, SWAPPED, read_gguf
from app.engine.quantize.pieces import piece
from app.engine.quantize.skeleton import named_modules
from app.engine.safetensors_header import TensorEntry
from app.engine.stored_weights import MappedFiles, Stored, StoredTensor


class GgufLinear(nn.Module):
    """A linear layer whose weight is in blocks of a GGUF kind.

    Attributes:
        in_features: Width of what it takes.
        out_features: Width of what it gives.
        kind: Of the blocks, such as "Q4_K".
        codes: (out, bytes of a row), as they are in the file.
        bias: In the type of the network, or None.
    """

    codes: torch.Tensor
    bias: torch.Tensor | None

    def __init__(
        self, in_features: int, kind: str, codes: torch.Tensor, bias: torch.Tensor | None = None
    ) -> None:
        """Take tensors that fit each other, on any device, also "meta"."""
        super().__init__()
        self.in_features = in_features
        self.out_features = codes.shape[0]
        self.kind = kind
        self.register_buffer("codes", codes)
        self.register_buffer("bias", bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply x with the weight and add the bias; the result is of the type of x."""
        tokens = x.reshape(-1, self.in_features)
        step = piece(tokens.element_size() * self.in_features, self.out_features)
        y = tokens.new_empty(tokens.shape[0], self.out_features)
        for begin in range(0, self.out_features, step):
            end = min(begin + step, self.out_features)
            rows = gguf_rows(self.codes[begin:end], self.kind, tokens.dtype)
            torch.mm(tokens, rows.t(), out=y[:, begin:end])
            # Or they would still be there while the next ones are turned back.
            del rows
        if self.bias is not None:
            y.add_(self.bias)
        return y.view(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        """As nn.Linear tells it, with the kind."""
        return f"in_features={self.in_features}, out_features={self.out_features}, kind={self.kind}"


def gguf_rows(codes: torch.Tensor, kind: str, dtype: torch.dtype) -> torch.Tensor:
    """Weights of some rows of GGUF blocks."""
    turn_back, block_size, type_size = _kind(kind)
    blocks = codes.reshape(-1, type_size)
    return turn_back(blocks, block_size, type_size, dtype).to(dtype).reshape(codes.shape[0], -1)


def stored_gguf(path: Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """The tensors of a GGUF file by diffusers' names, and the kinds of the quantized ones.

    Quantized ones are bytes, (rows, bytes of a row).

    Raises:
        ModelError: The file is broken, or quantized in a way that cannot be run.
    """
    stored: dict[str, StoredTensor] = {}
    kinds: dict[str, str] = {}
    for name, entry in read_gguf(path).items():
        quantized = entry.dtype.startswith(KIND_PREFIX)
        if quantized:
            kinds[name] = entry.dtype.removeprefix(KIND_PREFIX)
        stored[name] = StoredTensor(
            path=path,
            offset_bytes=entry.offset_bytes,
            nbytes=entry.size_bytes,
            dtype=torch.uint8 if quantized else getattr(torch, entry.dtype),
            shape=_bytes_shape(entry) if quantized else entry.shape,
        )
    return stored, kinds


def gguf_skeleton(network: nn.Module, path: Path, dtype: torch.dtype) -> Stored:
    """Put GGUF layers in the place of those that a file has quantized.

    Args:
        network: On "meta"; changed.
        path: Of the file.
        dtype: Of what is computed with.

    Returns:
        The weights by the names of the changed network's tensors.

    Raises:
        ModelError: The file is broken, or quantized in a way that cannot be run.
    """
    stored, kinds = stored_gguf(path)
    modules = dict(named_modules(network))
    swapped = stored.pop(SWAPPED, None)
    if swapped is not None:
        # Not as the file has it, so in RAM; it is small.
        weight = _numbers(swapped, kinds.get(SWAPPED), dtype)
        rows = weight.shape[0] // 2
        put = nn.Parameter(torch.cat([weight[rows:], weight[:rows]]), requires_grad=False)
        modules[SWAPPED.rpartition(".")[0]].register_parameter("weight", put)
    for name, kind in kinds.items():
        owner, _, _part = name.rpartition(".")
        linear = modules.get(owner)
        if name not in stored or not isinstance(linear, nn.Linear):
            continue
        codes = torch.empty(stored[name].shape, dtype=torch.uint8, device="meta")
        parent, _, attribute = owner.rpartition(".")
        layer = GgufLinear(linear.in_features, kind, codes, linear.bias)
        setattr(network.get_submodule(parent), attribute, layer)
        stored[f"{owner}.codes"] = stored.pop(name)
    return stored


def _numbers(stored: StoredTensor, kind: str | None, dtype: torch.dtype) -> torch.Tensor:
    raw = MappedFiles().tensor(stored)
    return raw.to(dtype) if kind is None else gguf_rows(raw, kind, dtype)


def _bytes_shape(entry: TensorEntry) -> tuple[int, ...]:
    return entry.shape[0], entry.size_bytes // entry.shape[0]


@functools.lru_cache(maxsize=32)
def _kind(kind: str) -> tuple[Callable[..., torch.Tensor], int, int]:
    import gguf
    from diffusers.quantizers.gguf import utils

    untyped: Any = utils
    number = gguf.GGMLQuantizationType[kind]
    block_size, type_size = gguf.GGML_QUANT_SIZES[number]
    return untyped.dequantize_functions[number], block_size, type_size
