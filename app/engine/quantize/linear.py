"""Linear layers with quantized weights, kept as plain buffers: codes and their scales."""

import abc
from collections.abc import Callable
from typing import Self

import torch
from torch import nn

from app.core.policy import Precision
from app.engine.quantize.formats import FP8, from_nf4, from_rows, to_fp8, to_int8, to_nf4
from app.engine.quantize.kept_ways import Way
from app.engine.quantize.pieces import piece
from app.engine.quantize.recipe import NATIVE_SIDES, Recipe
from app.engine.quantize.ways import LEAST_TOKENS, native_product, way_for

_AT_ONCE_ON_CPU = 1 << 19
"""Weights that are turned into codes at once: the copies in fp32 on the way stay in its cache."""
_AT_ONCE_ON_GPU = 1 << 22
"""About 100 MB with those copies."""


class QuantizedLinear(nn.Module, abc.ABC):
    """A linear layer whose weight is stored in few bits.

    Attributes:
        precision: Of its weight.
        in_features: Width of what it takes.
        out_features: Width of what it gives.
        codes: The weight's codes.
        scales: What they are multiplied with.
        bias: In the type of the network, or None.
    """

    precision: Precision
    codes: torch.Tensor
    scales: torch.Tensor
    bias: torch.Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        codes: torch.Tensor,
        scales: torch.Tensor,
        bias: torch.Tensor | None = None,
    ) -> None:
        """Take tensors that fit each other, on any device, also "meta"."""
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.register_buffer("codes", codes)
        self.register_buffer("scales", scales)
        self.register_buffer("bias", bias)

    @classmethod
    @abc.abstractmethod
    def empty(cls, linear: nn.Linear, recipe: Recipe) -> Self:
        """A layer for the weights of another, on its device, with nothing in it yet."""

    @abc.abstractmethod
    def encode(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Codes and scales of some rows of a weight, in the form of this layer's."""

    @abc.abstractmethod
    def rows(self, begin: int, end: int, dtype: torch.dtype) -> torch.Tensor:
        """Some rows of the weight, for a product."""

    def encode_all(
        self,
        weight: torch.Tensor,
        device: torch.device,
        check: Callable[[], None] = lambda: None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Codes and scales of a weight in RAM, or of some of its rows, made on a device in pieces.

        Args:
            weight: (rows, in), in any floating type.
            device: Where they are computed.
            check: Called before each piece; may raise to stop.
        """
        at_once = _AT_ONCE_ON_CPU if device.type == "cpu" else _AT_ONCE_ON_GPU
        step = max(1, at_once // self.in_features)
        rows = weight.shape[0]
        codes = torch.empty((rows, *self.codes.shape[1:]), dtype=self.codes.dtype)
        scales = torch.empty((rows, *self.scales.shape[1:]), dtype=self.scales.dtype)
        for begin in range(0, rows, step):
            check()
            some = slice(begin, begin + step)
            codes[some], scales[some] = self.encode(weight[some].to(device))
        return codes, scales

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Multiply x with the weight and add the bias; the result is of the type of x."""
        tokens = x.reshape(-1, self.in_features)
        way = Way.DEQUANTIZE
        if tokens.shape[0] >= LEAST_TOKENS and self._native:
            way = way_for(self.precision, x.device, x.dtype)
        y = None
        if way is not Way.DEQUANTIZE:
            y = native_product(way, tokens, self.codes, self.scales)
        if y is None:
            y = self._dequantized_product(tokens)
        if self.bias is not None:
            y.add_(self.bias)
        return y.view(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        """As nn.Linear tells it, with the precision."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}, precision={self.precision.value}"
        )

    @property
    def _native(self) -> bool:
        """Whether it is such as the ways were tried with; others store e5m2, and any size."""
        sides = (self.in_features, self.out_features)
        return self.codes.dtype is not torch.float8_e5m2 and not any(
            side % NATIVE_SIDES for side in sides
        )

    def _dequantized_product(self, tokens: torch.Tensor) -> torch.Tensor:
        step = piece(tokens.element_size() * self.in_features, self.out_features)
        if step >= self.out_features:
            return nn.functional.linear(tokens, self.rows(0, self.out_features, tokens.dtype))
        y = tokens.new_empty(tokens.shape[0], self.out_features)
        for begin in range(0, self.out_features, step):
            end = min(begin + step, self.out_features)
            torch.mm(tokens, self.rows(begin, end, tokens.dtype).t(), out=y[:, begin:end])
        return y


class _ByRows(QuantizedLinear):
    """One code of 8 bits a weight, one scale a row."""

    code_dtype: torch.dtype

    @classmethod
    def empty(cls, linear: nn.Linear, recipe: Recipe) -> Self:
        """A layer for the weights of another, on its device, with nothing in it yet."""
        del recipe
        device = linear.weight.device
        return cls(
            linear.in_features,
            linear.out_features,
            torch.empty(linear.weight.shape, dtype=cls.code_dtype, device=device),
            torch.empty(linear.out_features, 1, device=device),
            linear.bias,
        )

    def rows(self, begin: int, end: int, dtype: torch.dtype) -> torch.Tensor:
        """Some rows of the weight, for a product."""
        return from_rows(self.codes[begin:end], self.scales[begin:end], dtype)


class Fp8Linear(_ByRows):
    """Weights in e4m3."""

    precision = Precision.FP8
    code_dtype = FP8

    def encode(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Codes and scales of some rows of a weight, in the form of this layer's."""
        return to_fp8(weight)


class Int8Linear(_ByRows):
    """Weights in 8-bit integers."""

    precision = Precision.INT8
    code_dtype = torch.int8

    def encode(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Codes and scales of some rows of a weight, in the form of this layer's."""
        return to_int8(weight)


class Nf4Linear(QuantizedLinear):
    """Weights in 4-bit NormalFloat, two a byte, with a scale for each block of a row."""

    precision = Precision.NF4

    @classmethod
    def empty(cls, linear: nn.Linear, recipe: Recipe) -> Self:
        """A layer for the weights of another, on its device, with nothing in it yet."""
        device, width = linear.weight.device, linear.in_features
        blocks = width // recipe.block_of(width)
        return cls(
            width,
            linear.out_features,
            torch.empty(linear.out_features, width // 2, dtype=torch.uint8, device=device),
            torch.empty(linear.out_features, blocks, dtype=torch.float16, device=device),
            linear.bias,
        )

    def encode(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Codes and scales of some rows of a weight, in the form of this layer's."""
        return to_nf4(weight, self.in_features // self.scales.shape[1])

    def rows(self, begin: int, end: int, dtype: torch.dtype) -> torch.Tensor:
        """Some rows of the weight, for a product."""
        return from_nf4(self.codes[begin:end], self.scales[begin:end], dtype)


_KINDS: dict[Precision, type[QuantizedLinear]] = {
    Precision.FP8: Fp8Linear,
    Precision.INT8: Int8Linear,
    Precision.NF4: Nf4Linear,
}


def empty_linear(linear: nn.Linear, recipe: Recipe) -> QuantizedLinear:
    """What takes the place of a linear layer, on its device, with nothing in it yet."""
    return _KINDS[recipe.precision].empty(linear, recipe)


def quantize_linear(linear: nn.Linear, precision: Precision) -> QuantizedLinear:
    """A linear layer in fewer bits, on the device that it was on."""
    made = empty_linear(linear, Recipe(precision=precision))
    device = linear.weight.device
    with torch.no_grad():
        codes, scales = made.encode_all(linear.weight, device)
    made.codes, made.scales = codes.to(device), scales.to(device)
    return made


def try_ways(network: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """Find out how a network's quantized layers are multiplied with, before weights fill a device.

    Later it would be done within the first step, where there may be no memory for it.

    Args:
        network: With weights or without.
        device: That will run it.
        dtype: Of what is multiplied with the weights.
    """
    kinds = {one.precision for one in network.modules() if isinstance(one, QuantizedLinear)}
    for precision in kinds:
        way_for(precision, device, dtype)
