"""One model's phases run on tensors without data.

What lives on the device is counted as in the engine: its inputs, what diffusers keeps from step to
step, what each operation makes. The weights are counted apart.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from app.core.policy import Attention, Precision
from app.engine.architecture import architecture_of
from app.engine.forecast.fused_kernels import FusedKernels
from app.engine.forecast.model_spec import ModelSpec
from app.engine.forecast.networks import DTYPES, Networks, Untyped
from app.engine.forecast.phase_calls import PhaseCalls
from app.engine.forecast.phase_storages import PhaseStorages
from app.engine.forecast.remembered_shapes import RememberedShapes
from app.engine.quantize.kept_ways import Way
from app.engine.quantize.recipe import QUANTIZED, Recipe
from app.engine.quantize.ways import forced_way
from app.engine.request_counts import attention_shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a phase needed.

    Attributes:
        working_bytes: Peak above the weights.
        flops: Of one pass of the network.
        moments: Live bytes above the weights after each operation within the network, then the
            largest outside it. Phases of equal shape have equal operations.
    """

    working_bytes: int
    flops: int
    moments: tuple[int, ...] = field(repr=False)


class DryRun:
    """The phases of one model in one precision; see `PhaseCalls` for their arguments.

    Attributes:
        networks: Without data.
        attention_shape: Heads of the transformer's attention, and the width of each.
    """

    def __init__(
        self,
        spec: ModelSpec,
        precision: Precision,
        *,
        attention: Attention = Attention.SDPA,
        shallow: bool = False,
        way: Way = Way.DEQUANTIZE,
    ) -> None:
        """Build nothing yet.

        Args:
            spec: Of the model.
            precision: Of text encoder and transformer; beside quantized layers all is in bf16.
            attention: How attention is computed on the device.
            shallow: Whether the transformer has two blocks of each kind only: the same peak in
                less time; its `flops` are then of no use.
            way: How quantized layers are multiplied with.
        """
        quantized = precision in QUANTIZED
        self.networks = Networks(
            spec,
            "meta",
            DTYPES[Precision.BF16 if quantized else precision],
            shallow=shallow,
            recipe=Recipe(precision=precision) if quantized else None,
        )
        self.attention_shape = attention_shape(architecture_of(spec.configs))
        self._precision = precision
        self._way = way
        self._calls = PhaseCalls(spec, self.networks)
        self._attention = attention
        self._shapes = RememberedShapes()

    def encode(self) -> Measured:
        """One prompt's embeddings."""
        return self._watched(self.networks.text_encoder, self._calls.encode)

    def denoise(
        self,
        *,
        images: int,
        width_px: int,
        height_px: int,
        references: Sequence[tuple[int, int]] = (),
    ) -> Measured:
        """Two steps of the denoising loop."""
        return self._watched(
            self.networks.transformer,
            lambda: self._calls.denoise(
                images=images, width_px=width_px, height_px=height_px, references=references
            ),
        )

    def decode(
        self,
        *,
        images: int,
        width_px: int,
        height_px: int,
        tile_px: int | None = None,
        in_ram: bool = False,
    ) -> Measured:
        """A batch of latents to pixels."""
        return self._watched(
            self.networks.autoencoder,
            lambda: self._calls.decode(
                images=images,
                width_px=width_px,
                height_px=height_px,
                tile_px=tile_px,
                in_ram=in_ram,
            ),
        )

    def encode_reference(self, *, width_px: int, height_px: int) -> Measured:
        """One reference image to latents."""
        return self._watched(
            self.networks.autoencoder,
            lambda: self._calls.encode_reference(width_px=width_px, height_px=height_px),
        )

    def _watched(self, network: Untyped, call: Callable[[], object]) -> Measured:
        # Built before, so that its weights are not counted.
        _ = self.networks.autoencoder
        storages = PhaseStorages(self._shapes)
        watch = _Watch(storages, network)
        try:
            with (
                torch.no_grad(),
                forced_way(self._precision, self._way),
                FusedKernels(self._attention),
                storages,
            ):
                call()
        finally:
            watch.close()
        return watch.measured()


class _Watch:
    """Turns what was seen into figures; knows when the network was running."""

    def __init__(self, storages: PhaseStorages, network: Untyped) -> None:
        """Attend to one network; what comes before its first run is another phase."""
        self._storages = storages
        self._runs: list[tuple[int, int]] = []
        self._flops: list[int] = []
        self._begun = (0, 0)
        self._handles = [
            network.register_forward_pre_hook(self._before),
            network.register_forward_hook(self._after),
        ]

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()

    def measured(self) -> Measured:
        history = self._storages.history
        runs = self._runs or [(0, len(history))]
        inside = [value for begin, end in runs for value in history[begin:end]]
        # Between and after the runs; what came before, such as reference images being encoded, is
        # another phase.
        ends = [begin for begin, _end in runs[1:]] + [len(history)]
        outside = [
            value
            for (_begin, end), following in zip(runs, ends, strict=True)
            for value in history[end:following]
        ]
        moments = (*inside, max(outside, default=0))
        return Measured(
            working_bytes=max(moments),
            flops=self._flops[-1] if self._flops else self._storages.flops,
            moments=moments,
        )

    def _before(self, *_call: object) -> None:
        self._begun = (len(self._storages.history), self._storages.flops)

    def _after(self, *_call: object) -> None:
        begin, flops = self._begun
        self._runs.append((begin, len(self._storages.history)))
        self._flops.append(self._storages.flops - flops)
