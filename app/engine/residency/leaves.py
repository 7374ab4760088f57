"""The plain tensors inside any parameter or buffer, and modules pointed at other copies of them.

Quantized weights are tensor subclasses that wrap plain tensors. Torch's own protocol for them
(`__tensor_flatten__`) is used where they have it; other kinds are registered with what takes them
apart and puts them together.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from app.engine.residency.layout import BlockLayout, lay_out

Parts = Mapping[str, torch.Tensor]
Flatten = Callable[[torch.Tensor], tuple[Parts, object]]
Rebuild = Callable[[Parts, object], torch.Tensor]
Build = Callable[[Parts], torch.Tensor]

_KINDS: dict[type[torch.Tensor], tuple[Flatten, Rebuild]] = {}


def register_kind(kind: type[torch.Tensor], flatten: Flatten, rebuild: Rebuild) -> None:
    """Have tensors of a class, and of those below it, taken apart in a way of its own.

    Args:
        kind: The class.
        flatten: Gives the tensors inside, by a name each, and whatever else `rebuild` needs.
        rebuild: Makes the same of other tensors with these names; must copy none of them.
    """
    _KINDS[kind] = (flatten, rebuild)


def take_apart(tensor: torch.Tensor) -> tuple[dict[str, torch.Tensor], Build]:
    """The plain tensors inside a tensor, by their path, and what makes the same of others.

    A plain tensor is its own only part, with an empty path.

    Raises:
        TypeError: Its class is not known.
    """
    parts, build = _take_apart(tensor)
    if not isinstance(tensor, torch.nn.Parameter):
        return parts, build
    return parts, lambda made: _as_parameter(build(made))


def _as_parameter(tensor: torch.Tensor) -> torch.nn.Parameter:
    if isinstance(tensor, torch.nn.Parameter):
        return tensor  # Of a class of its own.
    return torch.nn.Parameter(tensor, requires_grad=False)


def _take_apart(tensor: torch.Tensor) -> tuple[dict[str, torch.Tensor], Build]:
    opened = _open(tensor)
    if opened is None:
        return {"": tensor.detach()}, lambda made: made[""]
    inner, close = opened
    parts: dict[str, torch.Tensor] = {}
    builds: dict[str, tuple[tuple[tuple[str, str], ...], Build]] = {}
    for name, one in inner.items():
        below, build = _take_apart(one)
        paths = tuple((path, f"{name}.{path}" if path else name) for path in below)
        builds[name] = (paths, build)
        parts.update((whole, below[path]) for path, whole in paths)

    def build_all(made: Parts) -> torch.Tensor:
        return close(
            {
                name: build({path: made[whole] for path, whole in paths})
                for name, (paths, build) in builds.items()
            }
        )

    return parts, build_all


def _open(tensor: torch.Tensor) -> tuple[Parts, Build] | None:
    """The tensors directly inside, and what puts them together; None for a plain tensor."""
    found = next((_KINDS[kind] for kind in type(tensor).__mro__ if kind in _KINDS), None)
    if found is not None:
        flatten, rebuild = found
        inner, other = flatten(tensor)
        return inner, lambda made: rebuild(made, other)
    # Torch's protocol has no types.
    wrapper: Any = tensor
    if is_traceable_wrapper_subclass(wrapper):
        names, context = wrapper.__tensor_flatten__()
        size, stride = wrapper.size(), wrapper.stride()
        unflatten: Any = type(wrapper).__tensor_unflatten__
        return (
            {name: getattr(wrapper, name) for name in names},
            lambda made: unflatten(dict(made), context, size, stride),
        )
    if type(tensor) in (torch.Tensor, torch.nn.Parameter) or isinstance(tensor, FakeTensor):
        return None
    raise TypeError(f"weights of class {type(tensor).__name__} cannot be packed")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Held:
    """A tensor of a module; one that is shared has several places."""

    parts: Mapping[str, str]
    """Names in the layout, by the path inside the tensor."""
    build: Build
    places: list[tuple[dict[str, torch.Tensor | None], str]]
    """Dictionaries of modules, and the keys in them."""


class ModuleTensors:
    """The tensors that a module and those below it have, however they are wrapped.

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
        """
        left_out = {id(below) for root in without for below in root.modules()}
        wanted = None if layout is None else {span.name for span in layout.spans}
        self._held: list[_Held] = []
        found: dict[int, _Held] = {}
        plain: dict[str, torch.Tensor] = {}
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
                    parts, build = take_apart(tensor)
                    names = {path: f"{name}.{path}" if path else name for path in parts}
                    if wanted is not None and not wanted >= set(names.values()):
                        continue
                    held = _Held(parts=names, build=build, places=[(home, key)])
                    found[id(tensor)] = held
                    self._held.append(held)
                    plain.update((names[path], part) for path, part in parts.items())
        if wanted is not None and (missing := wanted - set(plain)):
            raise KeyError(f"not in the network: {', '.join(sorted(missing)[:5])}")
        self.layout = lay_out(plain.items()) if layout is None else layout

    def pack_into(self, buffer: torch.Tensor) -> None:
        """Copy what the module has now into a packed buffer in RAM."""
        current = self._current()
        for span in self.layout.spans:
            span.view_of(buffer).copy_(current[span.name])

    def bind(self, buffer: torch.Tensor) -> "Binding":
        """Make the tensors as views of a packed buffer on any device."""
        views = {span.name: span.view_of(buffer) for span in self.layout.spans}
        entries: list[tuple[dict[str, torch.Tensor | None], str, torch.Tensor]] = []
        for held in self._held:
            tensor = held.build({path: views[name] for path, name in held.parts.items()})
            entries += [(home, key, tensor) for home, key in held.places]
        return Binding(entries)

    def _current(self) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = {}
        for held in self._held:
            home, key = held.places[0]
            tensor = home[key]
            if tensor is None:
                raise KeyError(f"{key} is gone from its module")
            parts, _build = take_apart(tensor)
            found.update((held.parts[path], part) for path, part in parts.items())
        return found


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
