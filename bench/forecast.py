"""Predicted against measured memory; writes bench/results.

    python bench/forecast.py --device cpu     small networks against a tracker of real tensors
    python bench/forecast.py --device cuda    the real networks with random weights, against torch
        [--model klein-4b ...] [--precision bf16 ...]    only some of them; all is the default

Predicted is what the planner is told: the coefficients of a model. Measured is the peak above the
weights while the engine's phases run, two steps of denoising each. On the CPU every attention
counts as one kernel, as it is on a GPU. On a GPU the networks are made on the spot, one after the
other, as far as they fit in bf16, and then quantized where that is asked for; no files are needed.
Not run on a real GPU yet: `tests/bench/test_forecast_bench.py` runs it with small networks and an
allocator that only keeps accounts.
"""

import argparse
import contextlib
import gc
import sys
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app.core.paths import resource  # noqa: E402
from app.core.policy import Precision  # noqa: E402
from app.core.units import format_bytes  # noqa: E402
from app.engine.coefficients import ModelCoefficients, shipped_coefficients  # noqa: E402
from app.engine.compute_device import AcceleratorDevice, ComputeDevice, CpuDevice  # noqa: E402
from app.engine.forecast.model_forecast import dry_run_coefficients  # noqa: E402
from app.engine.forecast.model_spec import ModelSpec, known_spec, spec_of  # noqa: E402
from app.engine.forecast.networks import DTYPES, Networks  # noqa: E402
from app.engine.forecast.phase_calls import PhaseCalls  # noqa: E402
from app.engine.model_folder import inspect_model_folder  # noqa: E402
from app.engine.one_kernel import OneKernel  # noqa: E402
from app.engine.out_of_memory import is_out_of_memory  # noqa: E402
from app.engine.quantize.recipe import QUANTIZED, Recipe  # noqa: E402
from app.engine.quantize.skeleton import quantize_network  # noqa: E402
from app.engine.simulated_accounts import Accounts  # noqa: E402
from bench.report import table, write_result  # noqa: E402
from tests.tiny_models import make_tiny_model  # noqa: E402

GPU_MODELS = ("klein-4b", "klein-base-4b", "klein-9b", "dev")
GPU_PRECISIONS = (Precision.BF16, Precision.FP8, Precision.INT8, Precision.NF4)
GPU_SIZES_PX = (512, 1024, 1536, 2048)
GPU_BATCHES = (1, 2, 4)
CPU_SIZES_PX = (128, 256, 384)
CPU_BATCHES = (1, 2)
TILES_PX = (768, 512, 256)
"""Of decoding, besides whole."""
WITHIN_SHARE = 0.03
WITHIN_BYTES = 100_000_000
UNDER_SHARE = 0.01
"""Targets: within 3 % or 100 MB, never under by more than 1 %."""

NOTES = {
    "cpu": "Coefficients against a tracker of real tensors, fp32; attention counts as one kernel.",
    "cuda": "Coefficients against torch's allocator, random weights.",
}
TOKEN_BYTES = 20_000
"""Of the tokenizer: the CPU's tracker counts them too, beside a GPU they are in RAM."""


Value = TypeVar("Value")
NO_ROOM = "does not fit on this device"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One run: what was predicted and measured, above the weights."""

    model: str
    precision: str
    phase: str
    width_px: int
    height_px: int
    images: int
    tile_px: int | None
    predicted_bytes: int
    measured_bytes: int | None
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """With the error, unless there was no room for the run."""
        values = {name: getattr(self, name) for name in self.__slots__}
        if self.measured_bytes is not None:
            values["error_share"] = round(self.predicted_bytes / self.measured_bytes - 1, 5)
        return values


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One run that is to be measured; `call` makes it with the phases of a model."""

    phase: str
    side_px: int = 0
    images: int = 1
    tile_px: int | None = None
    predicted_bytes: int
    call: Callable[[PhaseCalls], object]


class Bench:
    """The phases of one model, predicted and measured."""

    def __init__(
        self,
        coefficients: ModelCoefficients,
        spec: ModelSpec,
        *,
        device: str,
        precision: Precision,
        meter: "CpuMeter | GpuMeter",
    ) -> None:
        self._coefficients = coefficients
        self._spec = spec
        self._precision = precision
        self._beside = Precision.BF16 if precision in QUANTIZED else precision
        self._meter = meter
        self._networks = lambda: Networks(spec, device, DTYPES[self._beside])

    def rows(self, sizes_px: Sequence[int], batches: Sequence[int]) -> Iterator[Row]:
        """All phases; each phase's network is there only while it is measured."""
        yield from self._part(("text_encoder",), (self._encode_case(),))
        sizes = [(side, images) for side in sizes_px for images in batches]
        denoises = [self._denoise_case(*size) for size in sizes]
        yield from self._part(("transformer", "autoencoder"), denoises)
        if self._precision in QUANTIZED:
            return  # Autoencoders never are.
        decodes = [self._decode_case(*one) for one in _decodes(sizes_px, batches)]
        yield from self._part(("autoencoder",), decodes)

    def _part(self, names: Sequence[str], cases: Iterable[Case]) -> Iterator[Row]:
        """The cases that need the same networks, with those or without them."""
        calls = self._tried(lambda: self._calls(names))
        for case in cases:
            measured = None
            if calls is not None:
                measured = self._tried(
                    lambda case=case: self._meter.measure(lambda: case.call(calls))
                )
            yield Row(
                model=self._spec.name or self._spec.label,
                precision=self._precision.value,
                phase=case.phase,
                width_px=case.side_px,
                height_px=case.side_px,
                images=case.images,
                tile_px=case.tile_px,
                predicted_bytes=case.predicted_bytes,
                measured_bytes=measured,
                note=NO_ROOM if measured is None else "",
            )

    def _calls(self, names: Sequence[str]) -> PhaseCalls:
        self._meter.release()
        networks = self._networks()
        for name in names:
            network: torch.nn.Module = getattr(networks, name)
            if self._precision in QUANTIZED and name != "autoencoder":
                quantize_network(network, Recipe(precision=self._precision))
        return PhaseCalls(self._spec, networks, beside=self._meter.beside)

    def _tried(self, attempt: Callable[[], Value]) -> Value | None:
        """What comes of it; None where there is no room for it."""
        try:
            return attempt()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        return None

    def _encode_case(self) -> Case:
        predicted = self._coefficients.encode_working_bytes(prompts=1, precision=self._precision)
        return Case(phase="encode", predicted_bytes=predicted, call=lambda calls: calls.encode())

    def _denoise_case(self, side_px: int, images: int) -> Case:
        size: dict[str, Any] = {"images": images, "width_px": side_px, "height_px": side_px}
        known = self._coefficients
        return Case(
            phase="denoise",
            side_px=side_px,
            images=images,
            predicted_bytes=known.denoise_working_bytes(**size, precision=self._precision),
            call=lambda calls: calls.denoise(**size),
        )

    def _decode_case(self, side_px: int, images: int, tile_px: int | None) -> Case:
        size: dict[str, Any] = {"images": images, "width_px": side_px, "height_px": side_px}
        known = self._coefficients
        return Case(
            phase="decode",
            side_px=side_px,
            images=images,
            tile_px=tile_px,
            predicted_bytes=known.decode_working_bytes(
                **size, tile_px=tile_px, precision=self._beside
            ),
            call=lambda calls: calls.decode(**size, tile_px=tile_px),
        )


class Unheeded:
    """Operations of a device that has room for all of them."""

    def begin(self) -> None:
        """Nothing to do."""

    def finish(self, new_bytes: int, flops: int) -> None:
        """Nothing to do."""

    def is_missing(self, tensor: torch.Tensor) -> bool:
        """All is where it belongs."""
        del tensor
        return False


class CpuMeter:
    """Peak of real tensors on the CPU, but for tiles that would have left a GPU."""

    def __init__(self) -> None:
        self._accounts = Accounts(Unheeded())
        self.beside = Uncounted(lambda: self._accounts.off())

    def release(self) -> None:
        """Nothing is kept back."""

    def measure(self, call: Callable[[], object]) -> int:
        """The peak while `call` runs."""
        self._accounts = accounts = Accounts(Unheeded())
        with torch.no_grad(), OneKernel(accounts.run_as_one), accounts:
            call()
        return accounts.peak_bytes


class Uncounted(CpuDevice):
    """RAM beside the memory that is counted."""

    def __init__(
        self, off: Callable[[], contextlib.AbstractContextManager[None, bool | None]]
    ) -> None:
        super().__init__()
        self._off = off

    def to_host(self, tensor: torch.Tensor) -> torch.Tensor:
        """A copy that does not count."""
        with self._off():
            return tensor.clone()

    @contextlib.contextmanager
    def on_host(self) -> Generator[None]:
        """What is made meanwhile does not count."""
        with self._off():
            yield


class GpuMeter:
    """Peak of torch's allocator above what it held before."""

    def __init__(
        self,
        beside: ComputeDevice | None = None,
        backend: Any = torch.cuda,  # noqa: ANN401 - a module
    ) -> None:
        """Take the first GPU, or another device whose allocator answers as torch.cuda does."""
        self.beside = AcceleratorDevice(torch.device("cuda", 0)) if beside is None else beside
        self._backend = backend

    def release(self) -> None:
        """Give memory that nothing uses back to the driver."""
        gc.collect()
        self._backend.empty_cache()

    def measure(self, call: Callable[[], object]) -> int:
        """The peak while `call` runs for the second time: at the first, workspaces are made."""
        self.release()
        with torch.no_grad():
            call()
            self._backend.synchronize()
            before = self._backend.memory_allocated()
            self._backend.reset_peak_memory_stats()
            call()
            self._backend.synchronize()
        return self._backend.max_memory_allocated() - before


def _decodes(
    sizes_px: Sequence[int], batches: Sequence[int]
) -> Iterator[tuple[int, int, int | None]]:
    for side in sizes_px:
        yield from ((side, images, None) for images in batches)
        yield from ((side, 1, tile) for tile in TILES_PX if tile < side)


def cpu_benches() -> Iterator[Bench]:
    """The demo and tiny models of each kind, in full precision."""
    with tempfile.TemporaryDirectory() as scratch:
        folders = [resource("models/demo")]
        for kind in ("klein", "klein-base", "dev"):
            folders += [make_tiny_model(kind, Path(scratch) / f"tiny-{kind}")]
        for folder in folders:
            info = inspect_model_folder(folder)
            yield Bench(
                dry_run_coefficients(info),
                spec_of(info),
                device="cpu",
                precision=Precision.FP32,
                meter=CpuMeter(),
            )


def gpu_benches(
    models: Iterable[tuple[ModelCoefficients, ModelSpec]],
    precisions: Sequence[Precision],
    *,
    device: str,
    meter: GpuMeter,
) -> Iterator[Bench]:
    """Models in each precision."""
    for coefficients, spec in models:
        for precision in precisions:
            yield Bench(coefficients, spec, device=device, precision=precision, meter=meter)


def published(names: Iterable[str]) -> Iterator[tuple[ModelCoefficients, ModelSpec]]:
    """What ships of these models."""
    for name in names:
        coefficients = shipped_coefficients(name)
        if coefficients is None:
            raise SystemExit(f"the coefficients of {name} are missing")
        yield coefficients, known_spec(name)


def passes(row: Row) -> bool:
    """Whether a row meets the targets."""
    if row.measured_bytes is None:
        return True
    off = row.predicted_bytes - row.measured_bytes
    near = abs(off) <= max(WITHIN_SHARE * row.measured_bytes, WITHIN_BYTES)
    return near and off >= -max(UNDER_SHARE * row.measured_bytes, TOKEN_BYTES)


def main() -> None:
    """Measure, print a table, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--model", nargs="+", choices=GPU_MODELS, default=GPU_MODELS)
    names = [precision.value for precision in GPU_PRECISIONS]
    parser.add_argument("--precision", nargs="+", choices=names, default=names)
    arguments = parser.parse_args()
    device: str = arguments.device
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("this torch sees no GPU")
    on_gpu = device == "cuda"
    if on_gpu:
        precisions = [Precision(name) for name in arguments.precision]
        models = published(arguments.model)
        benches = gpu_benches(models, precisions, device=device, meter=GpuMeter())
    else:
        benches = cpu_benches()
    sizes = (GPU_SIZES_PX, GPU_BATCHES) if on_gpu else (CPU_SIZES_PX, CPU_BATCHES)
    rows = [row for bench in benches for row in bench.rows(*sizes)]
    cells = [
        (
            f"{row.model} {row.precision} {row.phase}",
            f"{row.width_px}" if row.width_px else "",
            f"{row.images}",
            f"{row.tile_px or ''}",
            format_bytes(row.predicted_bytes),
            row.note if row.measured_bytes is None else format_bytes(row.measured_bytes),
            ""
            if row.measured_bytes is None
            else f"{100 * (row.predicted_bytes / row.measured_bytes - 1):+.2f} %",
        )
        for row in rows
    ]
    print(table(("phase", "px", "images", "tile", "predicted", "measured", "error"), cells))
    missed = [row for row in rows if not passes(row)]
    print(f"{len(rows) - len(missed)} of {len(rows)} within the targets")
    figures: dict[str, Any] = {
        "rows": [row.as_json() for row in rows],
        "within_targets": len(rows) - len(missed),
    }
    if on_gpu:
        figures["gpu"] = torch.cuda.get_device_name()
        figures["reserved_peak_bytes"] = torch.cuda.max_memory_reserved()
    print(write_result(f"forecast_{device}", figures, note=NOTES[device]))


if __name__ == "__main__":
    main()
