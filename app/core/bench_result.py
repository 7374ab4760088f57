"""What a short bench of this machine found: computing, copying, and both at once."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """Steps through a stack of random blocks, as large as this machine has room for.

    Attributes:
        device: As the engine calls it, like "cuda:0" or "cpu".
        device_name: For people.
        torch_version: Of the engine.
        precision: Of the weights, as torch calls it, like "bfloat16".
        blocks: In the stack.
        block_bytes: Of the weights of each.
        tokens: That go through it, as many as an image has.
        compute_step_s: A step with all weights on the device.
        compute_flops: Floating-point operations per second in that step.
        copy_bytes_per_s: From the host to the device, one block after the other; None on the CPU.
        pinned: Whether the host's weights were in pinned RAM.
        slots_bytes: Of the memory on the device that streamed weights passed through.
        streamed_step_s: A step with all weights streaming; None on the CPU.
        predicted_step_s: The same as the plans' model of streaming has it; None on the CPU.
        achieved_bytes_per_s: Of the link during the streamed steps; None where it is not known.
        hidden_share: Of the copying then, that computing did not wait for; None like it.
        seconds: It all took.
        remarks: Sentences about what could not be measured, or is to be known.
    """

    device: str
    device_name: str
    torch_version: str
    precision: str
    blocks: int
    block_bytes: int
    tokens: int
    compute_step_s: float
    compute_flops: float
    copy_bytes_per_s: float | None = None
    pinned: bool = False
    slots_bytes: int = 0
    streamed_step_s: float | None = None
    predicted_step_s: float | None = None
    achieved_bytes_per_s: float | None = None
    hidden_share: float | None = None
    seconds: float
    remarks: tuple[str, ...] = ()

    @property
    def floor_step_s(self) -> float | None:
        """No streamed step can be shorter: computing alone, or copying alone."""
        if self.copy_bytes_per_s is None:
            return None
        return max(self.compute_step_s, self.blocks * self.block_bytes / self.copy_bytes_per_s)

    @property
    def over_floor(self) -> float | None:
        """The streamed step over that floor: 1.05 is 5 % slower than can be."""
        floor_s = self.floor_step_s
        if floor_s is None or self.streamed_step_s is None or floor_s <= 0:
            return None
        return self.streamed_step_s / floor_s
