"""Our kinds of attention as backends of diffusers, and a transformer that uses one of them.

diffusers' own way to say it (`set_attention_backend`) also changes what every other network of the
process uses, and warns; here only the processors of one network are told. Libraries are found by
diffusers when it is imported: too old ones, and those that cannot be imported, are not there.
"""

import functools
import importlib
from collections.abc import Iterator
from typing import Any, Protocol

import torch

from app.core.policy import Attention
from app.engine.attention.chunked import chunked_attention

_NAMES: dict[Attention, str] = {
    Attention.SDPA: "native",
    Attention.FLASH: "_native_flash",
    Attention.EFFICIENT: "_native_efficient",
    Attention.CUDNN: "_native_cudnn",
    Attention.MATH: "_native_math",
    Attention.SAGE: "sage",
    Attention.FLASH_ATTN: "flash",
    Attention.XFORMERS: "xformers",
}
_CHUNKED = "headroom_chunked"


class AttentionKernel(Protocol):
    """What computes attention."""

    def __call__(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """Attention of (batch, tokens, heads, width) tensors."""
        ...


def missing(kind: Attention) -> str:
    """Why a kind is not there at all, in diffusers' words; "" when it can at least be tried."""
    try:
        _dispatch()._check_attention_backend_requirements(_backend(kind))
    except RuntimeError as error:
        return str(error)
    return ""


def kernel_of(kind: Attention) -> AttentionKernel:
    """The function that transformers call when they are set to this kind."""
    return functools.partial(_dispatch().dispatch_attention_fn, backend=_backend(kind))


def use_attention(network: torch.nn.Module, kind: Attention) -> None:
    """Have a transformer of diffusers compute attention so from now on."""
    backend = _backend(kind)
    for processor in _processors(network):
        processor._attention_backend = backend


def _processors(network: torch.nn.Module) -> Iterator[Any]:
    for module in network.modules():
        processor: Any = getattr(module, "processor", None)
        if hasattr(processor, "_attention_backend"):
            yield processor


def _backend(kind: Attention) -> Any:  # noqa: ANN401 - a member of an enumeration of diffusers
    if kind is Attention.CHUNKED:
        return _chunked_backend()
    return _dispatch().AttentionBackendName(_NAMES[kind])


@functools.cache
def _chunked_backend() -> Any:  # noqa: ANN401 - like a member of an enumeration of diffusers
    """Ours, registered as if diffusers had it.

    Its enumeration of backends cannot be added to; its dispatcher takes whatever is an instance of
    it, and looks that up among what is registered.
    """
    dispatch = _dispatch()
    backend: Any = str.__new__(dispatch.AttentionBackendName, _CHUNKED)
    backend._name_ = _CHUNKED.upper()
    backend._value_ = _CHUNKED
    dispatch._AttentionBackendRegistry.register(backend)(chunked_attention)
    return backend


def _dispatch() -> Any:  # noqa: ANN401 - untyped library
    return importlib.import_module("diffusers.models.attention_dispatch")
