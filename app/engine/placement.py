"""Carries out where a plan wants weights: on the device for good, in turns, or block by block.

Every placement computes with the same numbers in the same order, so the pictures do not depend on
it. diffusers' own offloading copies weights back to RAM, cannot keep some blocks on the device, and
cannot be changed during a run; this can, and runs on a simulated device as well.
"""

import contextlib
import logging
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any

import torch

from app.core.plan import ComponentPlan, Placement
from app.engine.compute_device import ComputeDevice
from app.engine.module_weights import ModuleWeights

log = logging.getLogger(__name__)


def streamable_blocks(component: str, network: Any) -> tuple[torch.nn.Module, ...]:  # noqa: ANN401
    """Parts of a network that run one after the other, in the order that plans number them.

    Args:
        component: "text_encoder", "transformer" or "autoencoder".
        network: Of diffusers or transformers.
    """
    if component == "transformer":
        return (*network.transformer_blocks, *network.single_transformer_blocks)
    if component == "text_encoder":
        model = network.model
        # Encoders that can see keep their text part one level down.
        return tuple(getattr(model, "language_model", model).layers)
    return ()


class Placer:
    """Moves the weights of a pipeline's networks as a plan says, at the boundaries it is told of.

    Between `begin_phase` and `end_phase` a component can compute; outside it need not be on the
    device. When memory runs out in here, nothing is broken: give it a plan that needs less.
    """

    def __init__(self, networks: Mapping[str, torch.nn.Module], device: ComputeDevice) -> None:
        """Take charge of networks whose weights are in RAM; all are placed in turns at first.

        Args:
            networks: By component: "text_encoder", "transformer", "autoencoder".
            device: To lend weights to.
        """
        self._device = device
        self._components: dict[str, _Component] = {}
        for name, network in networks.items():
            self.add(name, network)

    def add(self, name: str, network: torch.nn.Module) -> None:
        """Take charge of one more network; it is placed in turns until a plan says otherwise.

        Args:
            name: Of the component, which is not among those that are here.
            network: With its weights in RAM.
        """
        self._components[name] = _Component(name, network, self._device)

    def replace(self, plans: Iterable[ComponentPlan]) -> None:
        """Let these components be placed so from now on; between steps as well as between phases.

        What gives way leaves the device before anything enters it. What was forgotten is passed
        over.

        Raises:
            torch.OutOfMemoryError: The device has no room for what is to stay on it now.
        """
        chosen = [
            (self._components[plan.name], plan) for plan in plans if plan.name in self._components
        ]
        for component, plan in chosen:
            component.follow(plan)
        for component in self._components.values():
            component.leave()
        for component, _plan in chosen:
            component.enter()

    def begin_phase(self, component: str) -> None:
        """Have a component ready to compute.

        Raises:
            torch.OutOfMemoryError: The device has no room for it.
        """
        found = self._components[component]
        found.active = True
        found.enter()

    def end_phase(self, component: str) -> None:
        """Let a component go from the device unless it is to stay."""
        found = self._components[component]
        found.active = False
        found.leave()

    @contextlib.contextmanager
    def phase(self, component: str) -> Generator[None]:
        """Around what a component computes; it is let go also when that fails."""
        try:
            self.begin_phase(component)
            yield
        finally:
            self.end_phase(component)

    def evict(self) -> None:
        """Take all weights from the device; what is to stay comes back with the next `replace`."""
        for component in self._components.values():
            component.active = False
            component.evict()

    def forget(self, component: str) -> int:
        """Let go of a network's weights for good, on the device and in RAM.

        Returns:
            Bytes in RAM that are free once the caller has let go of the network, too.
        """
        found = self._components.pop(component, None)
        if found is None:
            return 0
        found.evict()
        return found.host_bytes()

    def holds(self, component: str) -> bool:
        """Whether the component was not forgotten."""
        return component in self._components

    def device_bytes(self) -> int:
        """Of weights that are lent to the device now."""
        return sum(component.lent_bytes() for component in self._components.values())


class _Component:
    """One network in groups that move as one: each streamable block, and the rest."""

    def __init__(self, name: str, network: torch.nn.Module, device: ComputeDevice) -> None:
        self.active = False
        self._name = name
        self._device = device
        self._blocks = streamable_blocks(name, network)
        self._rest = ModuleWeights([network], without=self._blocks)
        self._block_weights = [ModuleWeights([block]) for block in self._blocks]
        self._placement = Placement.TURNS
        self._streamed: frozenset[int] = frozenset()
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []
        for weights in self._groups():
            device.pin(weights)

    def follow(self, plan: ComponentPlan) -> None:
        """Be placed by a plan from the next `leave` and `enter` on."""
        streamed = frozenset(plan.streamed_blocks)
        if not streamed <= frozenset(range(len(self._blocks))):
            raise ValueError(f"{self._name} has {len(self._blocks)} blocks, not {sorted(streamed)}")
        self._placement = plan.placement
        if streamed == self._streamed:
            return
        self._streamed = streamed
        for hook in self._hooks:
            hook.remove()
        self._hooks = [hook for index in sorted(streamed) for hook in self._stream(index)]

    def leave(self) -> None:
        """Take from the device what is not to be there now."""
        wanted = self._wanted()
        for weights in self._groups():
            if weights not in wanted:
                self._device.offload(weights)

    def enter(self) -> None:
        """Bring to the device what is to be there now."""
        for weights in self._wanted():
            self._device.onload(weights)

    def evict(self) -> None:
        """Take all from the device."""
        for weights in self._groups():
            self._device.offload(weights)

    def lent_bytes(self) -> int:
        """Of weights on the device."""
        return sum(weights.host_bytes for weights in self._groups() if weights.on_device)

    def host_bytes(self) -> int:
        """Of all its weights in RAM."""
        return sum(weights.host_bytes for weights in self._groups())

    def _groups(self) -> Sequence[ModuleWeights]:
        return [self._rest, *self._block_weights]

    def _wanted(self) -> list[ModuleWeights]:
        if not self.active and self._placement is not Placement.RESIDENT:
            return []
        blocks = enumerate(self._block_weights)
        return [self._rest, *(block for index, block in blocks if index not in self._streamed)]

    def _stream(self, index: int) -> Sequence[torch.utils.hooks.RemovableHandle]:
        block, weights = self._blocks[index], self._block_weights[index]

        def before(*_inputs: object) -> None:
            self._device.onload(weights)

        def after(*_results: object) -> None:
            self._device.offload(weights)

        # Also when the block fails: what it needed is to be free for the recovery.
        return (
            block.register_forward_pre_hook(before),
            block.register_forward_hook(after, always_call=True),
        )
