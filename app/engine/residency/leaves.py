"""The tensors of a module, and the module pointed at other copies of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor

from app.engine.residency.layout import BlockLayout, lay_out


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Held:
    """A tensor of a module; one that is shared has several places."""

    name: str
    """In the layout."""
    is_parameter: bool
    places: list[tuple[dict[str, torch.Tensor | None], str]]
    """Dictionaries of modules, and the keys in them."""


class ModuleTensors:
    """The tensors that a module and those below it have.

    Attributes:
        layout: One behind the other, as `lay_out` puts them, or as it was given.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        *,
        without: Iterable[torch.nn.Module] = (),
        layout: BlockLayout | None = None,
    ) -> None:
        """Look at what a module has now; on the meta device that is enough.

        Args:
            module: Names begin below it.
            without: Modules below whose tensors are left out, with those below them.
            layout: Of these tensors; those that are not in it are left out. None makes one.

        Raises:
            KeyError: The layout names tensors that are not there.
            TypeError: A tensor is more than its numbers: one of a class of its own.
        """
        left_out = {id(below) for root in without for below in root.modules()}
        wanted = None if layout is None else {span.name for span in layout.spans}
        found: dict[int, _Held] = {}
        tensors: dict[str, torch.Tensor] = {}
        untyped: Any = module
        prefix: str
        below: torch.nn.Module
        for prefix, below in untyped.named_modules():
            if id(below) in left_out:
                continue
            for home in (vars(below)["_parameters"], vars(below)["_buffers"]):
                for key, tensor in home.items():
                    if tensor is None:
                        continue
                    if id(tensor) in found:
                        found[id(tensor)].places.append((home, key))
                        continue
                    name = f"{prefix}.{key}" if prefix else key
                    if wanted is not None and name not in wanted:
                        continue
                    _check_plain(tensor)
                    is_parameter = isinstance(tensor, torch.nn.Parameter)
                    found[id(tensor)] = _Held(
                        name=name, is_parameter=is_parameter, places=[(home, key)]
                    )
                    tensors[name] = tensor
        if wanted is not None and (missing := wanted - set(tensors)):
            raise KeyError(f"not in the network: {', '.join(sorted(missing)[:5])}")
        self._held = tuple(found.values())
        self.layout = lay_out(tensors.items()) if layout is None else layout

    def pack_into(self, buffer: torch.Tensor) -> None:
        """Copy what the module has now into a packed buffer in RAM."""
        spans = {span.name: span for span in self.layout.spans}
        for held in self._held:
            home, key = held.places[0]
            tensor = home[key]
            if tensor is None:
                raise KeyError(f"{key} is gone from its module")
            spans[held.name].view_of(buffer).copy_(tensor.detach())

    def bind(self, buffer: torch.Tensor) -> "Binding":
        """Make the tensors as views of a packed buffer on any device."""
        spans = {span.name: span for span in self.layout.spans}
        entries: list[tuple[dict[str, torch.Tensor | None], str, torch.Tensor]] = []
        for held in self._held:
            tensor = spans[held.name].view_of(buffer)
            if held.is_parameter:
                tensor = torch.nn.Parameter(tensor, requires_grad=False)
            entries += [(home, key, tensor) for home, key in held.places]
        return Binding(entries)


def _check_plain(tensor: torch.Tensor) -> None:
    plain = type(tensor) in (torch.Tensor, torch.nn.Parameter)
    if not plain and not isinstance(tensor, FakeTensor):
        raise TypeError(f"weights of class {type(tensor).__name__} cannot be packed")


class Binding:
    """Tensors that a module can be pointed at, made once.

    Pointing it there sets entries of its dictionaries: it makes no tensor and asks no device.
    """

    __slots__ = ("_entries",)

    def __init__(
        self, entries: Iterable[tuple[dict[str, torch.Tensor | None], str, torch.Tensor]]
    ) -> None:
        self._entries = tuple(entries)

    def apply(self) -> None:
        """Point the module at them."""
        for home, key, tensor in self._entries:
            home[key] = tensor

    def tensors(self) -> list[torch.Tensor]:
        """Each once for each place that has it."""
        return [tensor for _home, _key, tensor in self._entries]
