"""Operations on tensors without data, worked out once for each shape.

torch works out what an operation on such tensors gives in Python, which takes longer than a small
operation on real ones. The blocks of a network and the steps of a run ask the same again and again.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, cast

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from app.engine.live_storages import Args, Named, Operator, OpResult

Form = tuple[torch.Size, tuple[int, ...], torch.dtype]
"""Shape, strides and type of a tensor."""
Result = Form | tuple[Form, ...]
"""Of the one tensor that an operation gives, or of each in the tuple of them."""


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
        func: Operator,
        types: Sequence[type],
        args: Args = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> OpResult:
        """Run an operation, or give what it would give."""
        del types
        return self.run(func, args, dict(kwargs or {}))

    def run(self, func: Operator, args: Args, kwargs: Named) -> OpResult:
        """Run an operation, or give what it would give."""
        key = self._key(func, args, kwargs)
        if key is None:
            return func(*args, **kwargs)
        known = self._known.get(key)
        if known is not None:
            return _tensors(known)
        result = func(*args, **kwargs)
        form = _form_of_result(result)
        if form is not None:
            self._known[key] = form
        return result

    def _key(self, func: Operator, args: Args, named: Named) -> Hashable | None:
        """What the form of the result depends on; None where it must be worked out."""
        plain = self._plain.get(func)
        if plain is None:
            plain = self._plain[func] = _makes_tensors(func)
        if not plain:
            return None
        form = _form((args, tuple(sorted(named.items()))))
        return None if form is None else (func, form)


def _makes_tensors(func: Operator) -> bool:
    """Whether an operator gives new tensors and nothing else, and changes none."""
    schema = func._schema
    return (
        not schema.is_mutable
        and all(
            returned.alias_info is None and str(returned.type) == "Tensor"
            for returned in schema.returns
        )
        # The one that gives a view and does not say so.
        and func is not torch.ops.aten._unsafe_view.default
    )


def _tensors(known: Result) -> torch.Tensor | tuple[torch.Tensor, ...]:
    if isinstance(known[0], torch.Size):
        shape, strides, dtype = cast("Form", known)
        return torch.empty_strided(shape, strides, dtype=dtype, device="meta")
    return tuple(
        torch.empty_strided(shape, strides, dtype=dtype, device="meta")
        for shape, strides, dtype in cast("tuple[Form, ...]", known)
    )


def _form_of_result(result: object) -> Result | None:
    """None where a tensor of the result has data, or is a part of its storage."""
    if isinstance(result, torch.Tensor):
        return _form_of_whole(result)
    forms = [_form_of_whole(one) for one in cast("tuple[torch.Tensor, ...]", result)]
    found = tuple(form for form in forms if form is not None)
    return found if len(found) == len(forms) else None


def _form_of_whole(tensor: torch.Tensor) -> Form | None:
    """Of a tensor without data that fills its storage."""
    if (
        tensor.device.type != "meta"
        or tensor.untyped_storage().nbytes() != tensor.numel() * tensor.element_size()
    ):
        return None
    return (tensor.shape, tensor.stride(), tensor.dtype)


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
