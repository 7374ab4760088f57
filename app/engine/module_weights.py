"""The weights of a part of a network: kept in the computer's RAM, lent to a device.

A device never gives weights back: they are re-pointed to the tensors in RAM, and what was on the
device is dropped. Nothing changes weights while they run, so a copy back would say nothing new.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slot:
    """Where a network keeps a tensor: an attribute of one of its modules."""

    module: torch.nn.Module
    name: str
    index: int
    """Of the tensor in `ModuleWeights.host`; tensors that are shared have several slots."""
    is_parameter: bool


class ModuleWeights:
    """Parameters and buffers of some modules.

    Attributes:
        host: The tensors in RAM, each once.
        on_device: Whether the modules have them on the device now.
    """

    def __init__(
        self, modules: Iterable[torch.nn.Module], *, without: Iterable[torch.nn.Module] = ()
    ) -> None:
        """Collect what modules and those below them own.

        Args:
            modules: Their weights are in RAM.
            without: Modules below whose weights, with those below them, are left out.
        """
        left_out = {id(module) for root in without for module in root.modules()}
        self.host: list[torch.Tensor] = []
        self.on_device = False
        self._slots: list[_Slot] = []
        numbers: dict[int, int] = {}
        seen: set[int] = set()
        for root in modules:
            for module in root.modules():
                if id(module) in left_out or id(module) in seen:
                    continue
                seen.add(id(module))
                for name, tensor, is_parameter in _own_tensors(module):
                    index = numbers.setdefault(id(tensor), len(self.host))
                    if index == len(self.host):
                        self.host.append(tensor)
                    self._slots.append(
                        _Slot(module=module, name=name, index=index, is_parameter=is_parameter)
                    )

    @property
    def host_bytes(self) -> int:
        """Of all tensors, shared ones once."""
        return sum(tensor.nbytes for tensor in self.host)

    def lend(self, copies: Sequence[torch.Tensor]) -> None:
        """Let the modules use copies on a device, in the order of `host`, until `take_back`."""
        self._point_to(copies)
        self.on_device = True

    def take_back(self) -> None:
        """Let the modules use the tensors in RAM again; copies are dropped by this."""
        self._point_to(self.host)
        self.on_device = False

    def replace_host(self, index: int, tensor: torch.Tensor) -> None:
        """Keep a tensor of the same content in the place of another, such as a pinned one."""
        former = self.host[index]
        if isinstance(former, torch.nn.Parameter):
            tensor = torch.nn.Parameter(tensor, requires_grad=False)
        self.host[index] = tensor
        if not self.on_device:
            self._point_to(self.host)

    def _point_to(self, tensors: Sequence[torch.Tensor]) -> None:
        # One Parameter for all slots of a shared tensor, so that it stays shared.
        parameters: dict[int, torch.nn.Parameter] = {}
        for slot in self._slots:
            tensor = tensors[slot.index]
            if slot.is_parameter and not isinstance(tensor, torch.nn.Parameter):
                tensor = parameters.setdefault(
                    slot.index, torch.nn.Parameter(tensor, requires_grad=False)
                )
            setattr(slot.module, slot.name, tensor)


def _own_tensors(module: torch.nn.Module) -> list[tuple[str, torch.Tensor, bool]]:
    parameters = module.named_parameters(recurse=False, remove_duplicate=False)
    buffers = module.named_buffers(recurse=False, remove_duplicate=False)
    found = [(name, tensor, True) for name, tensor in parameters]
    return [*found, *((name, tensor, False) for name, tensor in buffers)]
