"""Carries out where a plan wants weights: on the device for good, in turns, or block by block.

Every placement computes with the same numbers in the same order, so the pictures do not depend on
it. How weights come and go is `app.engine.residency`'s; here is which component's turn it is.
"""

import contextlib
from collections.abc import Callable, Generator, Iterable, Mapping

import torch

from app.core.plan import ComponentPlan
from app.core.streaming import Streaming
from app.engine.compute_device import ComputeDevice
from app.engine.residency.blocks import streamable_blocks
from app.engine.residency.host_network import (
    HostNetwork,
    packed_network,
    ram_buffer,
    unpacked_network,
)
from app.engine.residency.residence import Residence

__all__ = ["Placer", "streamable_blocks"]


class Placer:
    """Moves the weights of a pipeline's networks as a plan says, at the boundaries it is told of.

    Between `begin_phase` and `end_phase` a component can compute; outside it need not be on the
    device. When memory runs out in here, nothing is broken: give it a plan that needs less.
    """

    def __init__(
        self,
        networks: Mapping[str, torch.nn.Module | HostNetwork],
        device: ComputeDevice,
        *,
        between_blocks: Callable[[], None] | None = None,
    ) -> None:
        """Take charge of networks; all are placed in turns at first.

        Args:
            networks: By component: "text_encoder", "transformer", "autoencoder". Those that are
                not packed have their weights in RAM, and are packed where the device copies them.
            device: To lend weights to.
            between_blocks: Called before each block that may have another placement from then on;
                may call `replace`. Where weights are used where they are, it never is.
        """
        self._device = device
        self._transfers = device.transfers
        self._between_blocks = between_blocks
        self._components: dict[str, Residence] = {}
        self._hooks: dict[str, list[torch.utils.hooks.RemovableHandle]] = {}
        # Whether weights have left the device, and nobody has waited for copies of them.
        self._left = False
        for name, network in networks.items():
            self.add(name, network)

    def add(self, name: str, network: torch.nn.Module | HostNetwork) -> None:
        """Take charge of one more network; it is placed in turns until a plan says otherwise.

        Args:
            name: Of the component, which is not among those that are here.
            network: As those that this began with.
        """
        transfers = self._transfers
        if isinstance(network, HostNetwork):
            host = network
        elif transfers.in_place:
            host = unpacked_network(name, network)
        else:
            # What is copied once a phase, and not block by block, is not worth locked RAM, of which
            # torch takes a power of two.
            streams = bool(streamable_blocks(name, network))
            allocate = transfers.host_buffer if streams else ram_buffer
            host = packed_network(name, network, allocate=allocate)
        between_blocks = self._between_blocks
        if between_blocks is not None and not transfers.in_place:

            def before_block(*_inputs: object) -> None:
                between_blocks()

            # First, so that the block has its weights by what is decided here.
            self._hooks[name] = [
                module.register_forward_pre_hook(before_block) for module in host.modules
            ]
        self._components[name] = Residence(host, transfers)

    def replace(
        self, plans: Iterable[ComponentPlan], *, rearrange: Callable[[], None] | None = None
    ) -> None:
        """Let these components be placed so from now on; between phases, steps or two blocks.

        What gives way leaves the device before anything enters it. What was forgotten is passed
        over.

        Args:
            plans: Of some components or all.
            rearrange: Called in between, when nothing is copied: it may move weights in RAM. When
                it raises, what was not to leave comes back with the next `replace` or phase.

        Raises:
            torch.OutOfMemoryError: The device has no room for what is to stay on it now.
        """
        chosen = [
            (self._components[plan.name], plan) for plan in plans if plan.name in self._components
        ]
        for component, plan in chosen:
            component.follow(plan)
        with self._device.on_host():
            for component in self._components.values():
                self._leave(component)
            # Until copies into it have ended, what left is still taken.
            self.settle()
            if rearrange is not None:
                for component in self._components.values():
                    component.stop()
                try:
                    rearrange()
                finally:
                    # Also when it was stopped half way: some have moved.
                    for component in self._components.values():
                        component.renew_homes()
            for component in self._components.values():
                component.enter()

    def begin_phase(self, component: str) -> None:
        """Have a component ready to compute.

        Raises:
            torch.OutOfMemoryError: The device has no room for it.
        """
        self.settle()
        found = self._components[component]
        found.active = True
        found.enter()

    def expect(self, component: str, passes: int | None) -> None:
        """Have nothing brought for a pass of a component that does not come.

        It is forgotten when the component's phase ends, however that is, or it leaves the device.

        Args:
            component: Whose phase has begun.
            passes: Through all its blocks, that are still to end; None is without end.
        """
        self._components[component].expect(passes)

    def end_phase(self, component: str) -> None:
        """Let a component go from the device unless it is to stay; nothing of it runs after."""
        self._let_go(component)
        self.settle()

    @contextlib.contextmanager
    def phase(self, component: str) -> Generator[None]:
        """Around what a component computes; it is let go also when that fails.

        Then nobody is kept waiting for copies that were on their way: see `settle`.
        """
        try:
            self.begin_phase(component)
            yield
        except BaseException:
            self._let_go(component)
            raise
        self.end_phase(component)

    def settle(self) -> None:
        """Wait for copies that nobody wants any more, and give their memory back.

        Whoever has to answer that a job was taken back does so before; nothing here brings weights
        before it.
        """
        if not self._left:
            return
        self._left = False
        for component in self._components.values():
            component.settle()
        self._device.release_left()

    def evict(self) -> None:
        """Take all weights from the device; what is to stay comes back with the next `replace`."""
        for component in self._components.values():
            component.evict()

    def forget(self, component: str) -> int:
        """Let go of a network's weights for good, on the device and in RAM.

        Returns:
            Bytes in RAM that are free once the caller has let go of the network, too.
        """
        found = self._components.pop(component, None)
        if found is None:
            return 0
        for hook in self._hooks.pop(component, ()):
            hook.remove()
        found.forget()
        return found.host_bytes()

    def holds(self, component: str) -> bool:
        """Whether the component was not forgotten."""
        return component in self._components

    def device_bytes(self) -> int:
        """Of weights on the device now, and of slots for them."""
        return self.resident_bytes() + self.slots_bytes()

    def resident_bytes(self) -> int:
        """Of weights that are on the device to stay for now."""
        return sum(component.resident_bytes() for component in self._components.values())

    def slots_bytes(self) -> int:
        """Of memory on the device that streamed blocks pass through."""
        return sum(component.slots_bytes() for component in self._components.values())

    def take_streaming(self) -> Streaming | None:
        """Of weights that came to the device since the last call; None when none did.

        Call it when the device has computed what it was told: times of what is still on its way
        come with the next call.
        """
        times = self._transfers.take_times()
        if not times.copied_bytes:
            return None
        return Streaming(
            streamed_bytes=times.copied_bytes, copying_s=times.copying_s, waited_s=times.waited_s
        )

    def _let_go(self, component: str) -> None:
        found = self._components[component]
        found.active = False
        self._leave(found)

    def _leave(self, component: Residence) -> None:
        before_bytes = self.device_bytes()
        component.leave()
        self._left = self._left or self.device_bytes() < before_bytes
