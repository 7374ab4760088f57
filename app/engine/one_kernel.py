"""Functions that a GPU runs as one kernel while the CPU takes several operations for them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

Run = Callable[[Callable[[], Any], int], Any]
"""Runs a function as one operation of so many FLOPs, and gives its result."""


class OneKernel(TorchFunctionMode):
    """Hands attention and RMS norm, as long as it is on, to something that runs them as one."""

    def __init__(self, run: Run) -> None:
        """Use `run` for such functions."""
        base: Any = super()
        base.__init__()
        self._run = run

    def __torch_function__(
        self,
        func: Any,  # noqa: ANN401 - a function of torch
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the function gives
        """Call a function of torch."""
        del types
        named = dict(kwargs or {})
        if func is torch.nn.functional.scaled_dot_product_attention:
            return self._run(lambda: func(*args, **named), _attention_flops(*args, **named))
        if func in (torch.nn.functional.rms_norm, torch.rms_norm):
            return self._run(lambda: func(*args, **named), 0)
        return func(*args, **named)


def _attention_flops(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *_options: object,
    **_named: object,
) -> int:
    rows = query.shape[:-1].numel()
    return 2 * rows * key.shape[-2] * (query.shape[-1] + value.shape[-1])
