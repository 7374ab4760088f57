"""One component on a device: what of its weights is there, and its blocks' turns."""

from collections.abc import Collection

import torch

from app.core.plan import ComponentPlan, Placement
from app.engine.residency.host_block import HostBlock
from app.engine.residency.host_network import HostNetwork
from app.engine.residency.layout import ALIGNMENT_BYTES
from app.engine.residency.leaves import Binding, ModuleTensors
from app.engine.residency.ring import least_slots_bytes
from app.engine.residency.streamer import StreamBlock, Streamer
from app.engine.residency.transfers import Mark, Transfers


class Residence:
    """Brings one network's weights to a device and takes them back, as a plan says.

    Nothing is ever copied back: the network is pointed at its weights in RAM again. Between two
    blocks, too, the plan can be another one.

    Attributes:
        active: Whether the component is to compute now.
    """

    def __init__(self, host: HostNetwork, transfers: Transfers) -> None:
        """Take a network whose weights are on the host; nothing comes to the device yet."""
        self.active = False
        self._host = host
        self._transfers = transfers
        self._plan: ComponentPlan | None = None
        self._streamed: frozenset[int] = frozenset()
        self._rest: torch.Tensor | None = None
        self._rest_copied: Mark | None = None
        self._resident: dict[int, torch.Tensor] = {}
        self._arena: torch.Tensor | None = None
        self._streamer: Streamer | None = None
        # Whose copies may be on their way though nobody wants them any more.
        self._left: Streamer | None = None
        # Of a streamer that was stopped: what stays as it is, and where the next one goes on.
        self._bindings: dict[int, Binding] = {}
        self._next_block = 0
        self._passes: int | None = None
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []
        # On the CPU weights are used where they are: only what should be there is noted.
        self._is_here = False
        if transfers.in_place:
            return
        self._rest_tensors = ModuleTensors(host.network, layout=host.rest.layout)
        self._blocks = [
            StreamBlock(host=block, tensors=ModuleTensors(module, layout=block.layout))
            for block, module in zip(host.blocks, host.modules, strict=True)
        ]
        self._homes: dict[int, tuple[torch.Tensor | None, Binding]] = {}
        self._go_home()
        for index, module in enumerate(host.modules):
            self._watch(index, module)

    def follow(self, plan: ComponentPlan) -> None:
        """Be placed by a plan from the next `leave` and `enter` on.

        Raises:
            ValueError: The plan is one of another network.
        """
        blocks = len(self._host.blocks)
        streamed = frozenset(plan.streamed_blocks)
        if not streamed <= frozenset(range(blocks)):
            raise ValueError(f"{self._host.name} has {blocks} blocks, not {sorted(streamed)}")
        self._plan = plan
        self._streamed = streamed

    def expect(self, passes: int | None) -> None:
        """Have nothing brought for a pass that does not come; forgotten at the phase's end.

        More passes than were expected are computed as well, each with a wait for its first block.

        Args:
            passes: Through all blocks, that are still to end; None is without end.
        """
        self._passes = passes
        if self._streamer is not None:
            self._streamer.expect(passes)

    def leave(self) -> None:
        """Take from the device what is not to be there now; before it comes back, `settle`."""
        if not self.active:
            self.expect(None)
        if not self._is_wanted():
            self._take_all()
            return
        if self._transfers.in_place:
            return
        leaving = [index for index in self._resident if index in self._streamed]
        arena_leaves = self._arena is not None and self._arena.numel() != self._slots_bytes()
        if not leaving and not arena_leaves:
            return
        self.stop()
        # Or their views would keep the memory.
        self._go_home(only=leaving if not arena_leaves else range(len(self._blocks)))
        for index in leaving:
            self._bindings.pop(index, None)
            self._transfers.release(self._resident.pop(index))
        if arena_leaves:
            self._release_arena()

    def enter(self) -> None:
        """Bring to the device what is to be there now; what is to come is on its way after this.

        Raises:
            torch.OutOfMemoryError: It does not fit; then nothing of this component is there.
        """
        if not self._is_wanted():
            return
        self._is_here = True
        if self._transfers.in_place:
            return
        try:
            self._allocate()
            self._await_rest()
        except BaseException:
            self.evict()
            raise

    def evict(self) -> None:
        """Take all from the device; nothing is on its way any more after this."""
        self._take_all()
        self.settle()

    def settle(self) -> None:
        """Wait for copies that were on their way when all was taken from the device.

        Until then the weights must stay where they are in RAM.
        """
        self._await_rest()
        left, self._left = self._left, None
        if left is not None:
            left.drain()

    def stop(self) -> None:
        """Have nothing on its way; `enter` goes on from here, between any two blocks."""
        streamer, self._streamer = self._streamer, None
        if streamer is None:
            return
        self._next_block = streamer.next_block
        self._passes = streamer.passes_left
        self._bindings = dict(streamer.bindings)
        streamer.drain()

    def renew_homes(self) -> None:
        """Let go of places in RAM that blocks have left; nothing is copied meanwhile."""
        if not self._transfers.in_place:
            self._go_home(only=range(len(self._blocks)))

    def forget(self) -> None:
        """Let the network alone for good."""
        self.evict()
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def resident_bytes(self) -> int:
        """Of weights that are on the device to stay for now."""
        if self._transfers.in_place:
            return self._host.size_bytes if self._is_here else 0
        rest_bytes = 0 if self._rest is None else self._rest.numel()
        return rest_bytes + sum(buffer.numel() for buffer in self._resident.values())

    def slots_bytes(self) -> int:
        """Of memory on the device that blocks pass through."""
        return 0 if self._arena is None else self._arena.numel()

    def host_bytes(self) -> int:
        """Of its weights in RAM that the system cannot forget, as it can mapped files."""
        return self._host.ram_bytes

    def _is_wanted(self) -> bool:
        stays = self._plan is not None and self._plan.placement is Placement.RESIDENT
        return self.active or stays

    def _slots_bytes(self) -> int:
        """What the plan gives, and at least what the blocks need; never more than all of them."""
        sizes = [self._host.blocks[index].layout.size_bytes for index in sorted(self._streamed)]
        given = 0 if self._plan is None else self._plan.slots_bytes
        wanted = max(given // ALIGNMENT_BYTES * ALIGNMENT_BYTES, least_slots_bytes(sizes))
        return min(wanted, sum(sizes))

    def _allocate(self) -> None:
        transfers = self._transfers
        missing = [
            index
            for index in range(len(self._blocks))
            if index not in self._streamed and index not in self._resident
        ]
        slots_bytes = self._slots_bytes()
        arena_is_missing = slots_bytes > 0 and self._arena is None
        is_running = self._streamer is not None or not self._blocks
        if is_running and self._rest is not None and not missing and not arena_is_missing:
            return
        self.stop()
        if self._rest is None:
            self._rest = transfers.allocate(self._host.rest.layout.size_bytes)
            self._load_rest(self._rest)
        if arena_is_missing:
            self._arena = transfers.allocate(slots_bytes)
        for index in missing:
            size_bytes = self._host.blocks[index].layout.size_bytes
            self._resident[index] = transfers.allocate(size_bytes)
        if not self._blocks:
            return
        self._streamer = Streamer(
            self._blocks,
            transfers,
            resident=self._resident,
            arena=self._arena,
            reader=self._host.reader,
            # A prompt is encoded once: its first layer is needed again for another one only.
            cyclic=self._host.name == "transformer",
            bindings=self._bindings,
        )
        self._streamer.expect(self._passes)
        self._streamer.start(self._next_block)

    def _take_all(self) -> None:
        self._is_here = False
        if self._transfers.in_place:
            return
        if self._rest is None and not self._resident and self._arena is None:
            return
        self._left, self._streamer = self._streamer, None
        try:
            if self._left is not None:
                self._left.let_go()
        finally:
            self._bindings.clear()
            self._next_block = 0
            self._passes = None
            self._go_home()
            for buffer in self._resident.values():
                self._transfers.release(buffer)
            self._resident.clear()
            self._release_arena()
            if self._rest is not None:
                self._transfers.release(self._rest)
                self._rest = None

    def _release_arena(self) -> None:
        if self._arena is not None:
            self._transfers.release(self._arena)
            self._arena = None

    def _load_rest(self, buffer: torch.Tensor) -> None:
        packed = self._host.rest.packed()
        if packed is None:
            raise RuntimeError(f"the rest of {self._host.name} is not in RAM")
        self._rest_copied = self._transfers.copy(buffer, packed, None)
        self._rest_tensors.bind(buffer).apply()

    def _await_rest(self) -> None:
        """Hold the host, which would look too late whether the job was taken back.

        The first blocks are on their way meanwhile, so the device is no later for it.
        """
        copied, self._rest_copied = self._rest_copied, None
        if copied is not None:
            self._transfers.wait_on_host(copied)

    def _go_home(self, *, only: Collection[int] | None = None) -> None:
        """Point the network at its weights in RAM, or at no data where they are on the disk.

        Args:
            only: Numbers of these blocks; None is the rest and all blocks.
        """
        blocks = range(len(self._blocks)) if only is None else only
        if only is None:
            self._home(-1, self._host.rest, self._rest_tensors).apply()
        for index in blocks:
            self._home(index, self._blocks[index].host, self._blocks[index].tensors).apply()

    def _home(self, number: int, host: HostBlock, tensors: ModuleTensors) -> Binding:
        packed = host.packed()
        known = self._homes.get(number)
        if known is None or known[0] is not packed:
            binding = tensors.bind(_no_data(host) if packed is None else packed)
            known = self._homes[number] = packed, binding
            for tensor in binding.tensors():
                self._transfers.keep_off(tensor)
        return known[1]

    def _watch(self, index: int, module: torch.nn.Module) -> None:
        def before(*_inputs: object) -> None:
            if self._streamer is None and self.active:
                # A change failed half way: nothing says where the weights are.
                self.enter()
            if self._streamer is not None:
                self._streamer.before(index)

        def after(*_results: object) -> None:
            if self._streamer is not None:
                self._streamer.after()

        self._hooks.append(module.register_forward_pre_hook(before))
        self._hooks.append(module.register_forward_hook(after))


def _no_data(host: HostBlock) -> torch.Tensor:
    return torch.empty(host.layout.size_bytes, dtype=torch.uint8, device="meta")
