"""Tensors without data that say they are on an NVIDIA GPU, for a torch that was built without one.

torch's own checks of forms, types and devices run on them. What its checks leave to the GPU's
libraries is checked here, as torch's CUDA sources have it (aten/src/ATen/native/cuda/Blas.cpp and
ScaledBlas.cpp of 2.13): a real GPU refuses the same.
"""

import contextlib
from collections.abc import Callable, Generator, Mapping, Sequence
from types import EllipsisType
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

CUDA = torch.device("cuda", 0)
_ALIGNMENT_BYTES = 16
_LEAST_INT8_TOKENS = 17
_INT8_SIDES = 8
_FP8_SIDES = 16


class ProductsOnCuda(TorchDispatchMode):
    """Checks what products in 8 bits ask for on a GPU.

    Attributes:
        products: Names of the products that were asked for, and the tokens of each.
    """

    def __init__(self) -> None:
        """See nothing yet."""
        base: Any = super()  # Its only argument has no type.
        base.__init__()
        self.products: list[tuple[str, int]] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Check an operation, and run it."""
        del types
        named = dict(kwargs or {})
        given = {**dict(zip(_names(func), args, strict=False)), **named}
        if func is torch.ops.aten._int_mm.default:
            _check_int8(**given)
            self.products.append(("_int_mm", args[0].shape[0]))
        elif func is torch.ops.aten._scaled_mm.default:
            _check_fp8(**given)
            self.products.append(("_scaled_mm", args[0].shape[0]))
        return func(*args, **named)


def _names(func: Any) -> list[str]:
    """Of the arguments of an operation; `self` is another word in Python."""
    return [str(one.name).replace("self", "mat1") for one in func._schema.arguments]


def _check_int8(*, mat1: torch.Tensor, mat2: torch.Tensor) -> None:
    a, b = mat1, mat2
    assert a.dtype is b.dtype is torch.int8
    assert a.device == b.device == CUDA
    assert a.shape[0] >= _LEAST_INT8_TOKENS
    assert not a.shape[1] % _INT8_SIDES
    assert not b.shape[1] % _INT8_SIDES
    _check_rows_by_columns(a, b)


def _check_fp8(
    *,
    mat1: torch.Tensor,
    mat2: torch.Tensor,
    scale_a: torch.Tensor,
    scale_b: torch.Tensor,
    out_dtype: torch.dtype,
    use_fast_accum: bool,
    bias: torch.Tensor | None = None,
    scale_result: torch.Tensor | None = None,
) -> None:
    a, b = mat1, mat2
    assert bias is scale_result is None
    assert use_fast_accum
    assert a.dtype is b.dtype is torch.float8_e4m3fn
    assert scale_a.dtype is scale_b.dtype is torch.float32
    assert {tensor.device for tensor in (a, b, scale_a, scale_b)} == {CUDA}
    assert not a.shape[1] % _FP8_SIDES
    assert not b.shape[1] % _FP8_SIDES
    _check_rows_by_columns(a, b)
    if scale_a.numel() == 1:
        assert scale_b.numel() == 1
        return
    # By rows: Windows' and ROCm's builds refuse other results, and CUTLASS reads along the rows.
    assert scale_a.shape == (a.shape[0], 1)
    assert scale_b.shape == (1, b.shape[1])
    assert scale_a.is_contiguous()
    assert scale_b.is_contiguous()
    assert scale_b.t().is_contiguous()
    assert out_dtype in {torch.bfloat16, torch.float32}


def _check_rows_by_columns(a: torch.Tensor, b: torch.Tensor) -> None:
    """Row by row times column by column, which all GPUs take; in whole stretches of 16 bytes."""
    assert a.stride() == (a.shape[1], 1)
    assert b.stride() == (1, b.shape[0])
    for tensor in (a, b):
        assert not tensor.storage_offset() * tensor.element_size() % _ALIGNMENT_BYTES
        assert not max(tensor.stride()) * tensor.element_size() % _ALIGNMENT_BYTES


class _IndexedByOperations(TorchFunctionMode):
    """Python's brackets ask the GPU's driver which device is the current one; operations do not."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function, brackets as what they stand for."""
        del types
        if func is torch.Tensor.__getitem__:
            return _part(*args)
        if func is torch.Tensor.__setitem__:
            tensor, index, value = args
            return torch.ops.aten.copy_.default(_part(tensor, index), value)
        return func(*args, **dict(kwargs or {}))


_Index = slice | int | EllipsisType | torch.Tensor | None


def _part(tensor: torch.Tensor, index: _Index | tuple[_Index, ...]) -> torch.Tensor:
    if isinstance(index, torch.Tensor):
        return torch.ops.aten.index.Tensor(tensor, [index])
    parts = list(index) if isinstance(index, tuple) else [index]
    at = next((at for at, part in enumerate(parts) if part is Ellipsis), None)
    if at is not None:
        known = sum(part is not None for part in parts) - 1
        parts[at : at + 1] = [slice(None)] * (tensor.dim() - known)
    dim = 0
    for part in parts:
        if part is None:
            tensor = tensor.unsqueeze(dim)
        elif isinstance(part, slice):
            tensor = torch.ops.aten.slice.Tensor(tensor, dim, part.start, part.stop, part.step or 1)
        elif isinstance(part, int):
            tensor = tensor.select(dim, part)
            continue
        else:
            raise TypeError(f"no such index here: {part!r}")
        dim += 1
    return tensor


@contextlib.contextmanager
def fake_cuda() -> Generator[ProductsOnCuda]:
    """Within it `device="cuda"` has tensors without data."""
    checks = ProductsOnCuda()
    with (
        torch.no_grad(),
        FakeTensorMode(allow_non_fake_inputs=True),
        checks,
        _IndexedByOperations(),
    ):
        yield checks
