"""Operations on tensors without data, worked out once for each shape.

torch works out what an operation on such tensors gives in Python, which takes longer than a small
operation on real ones. The blocks of a network and the steps of a run ask the same again and again.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, cast

import torch
from torch.utils._python_dispatch import TorchDispatchMode

Result = tuple[torch.Size, tuple[int, ...], torch.dtype]
"""Shape, strides and type of a tensor."""


class RememberedShapes(TorchDispatchMode):
    """Answers operations that were asked before with new tensors of the same form."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        base: Any = super()  # Its only argument has no type.
        base.__init__()
        self._known: dict[Hashable, Result] = {}
        self._plain: dict[object, bool] = {}

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 - an OpOverload
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the operation gives
        """Run an operation, or give what it would give."""
        del types
        named = dict(kwargs or {})
        key = self._key(func, args, named)
        if key is None:
            return func(*args, **named)
        known = self._known.get(key)
        if known is not None:
            shape, strides, dtype = known
            return torch.empty_strided(shape, strides, dtype=dtype, device="meta")
        result = func(*args, **named)
        if _is_whole(result):
            self._known[key] = (result.shape, result.stride(), result.dtype)
        return result

    def _key(
        self,
        func: Any,  # noqa: ANN401 - an OpOverload
        args: tuple[Any, ...],
        named: dict[str, Any],
    ) -> Hashable | None:
        """What the form of the result depends on; None where it must be worked out."""
        plain = self._plain.get(func)
        if plain is None:
            plain = self._plain[func] = _makes_one_tensor(func)
        if not plain:
            return None
        form = _form((args, tuple(sorted(named.items()))))
        return None if form is None else (func, form)


def _makes_one_tensor(func: Any) -> bool:  # noqa: ANN401 - an OpOverload
    """Whether an operator gives a single new tensor, and changes none."""
    schema = func._schema
    returns = list(schema.returns)
    return (
        not schema.is_mutable
        and len(returns) == 1
        and returns[0].alias_info is None
        and str(returns[0].type) == "Tensor"
        # The one that gives a view and does not say so.
        and func is not torch.ops.aten._unsafe_view.default
    )


def _is_whole(result: object) -> bool:
    """Whether a result is a tensor without data that fills its storage."""
    return (
        isinstance(result, torch.Tensor)
        and result.device.type == "meta"
        and result.untyped_storage().nbytes() == result.numel() * result.element_size()
    )


def _form(value: object) -> Hashable | None:
    """A hashable stand-in for arguments; None if a tensor among them has data."""
    if isinstance(value, torch.Tensor):
        if value.device.type != "meta":
            return None
        return (value.shape, value.stride(), value.dtype)
    if isinstance(value, list | tuple):
        forms = [_form(item) for item in cast("Sequence[object]", value)]
        return None if None in forms else (isinstance(value, list), *forms)
    # 1, 1.0 and True are equal, but do not promote alike.
    return (type(value), cast("Hashable", value))
