"""Predicted against measured memory; writes bench/results.

    python bench/forecast.py --device cpu     small networks against a tracker of real tensors
    python bench/forecast.py --device cuda    the real networks with random weights, against torch

Predicted is what the planner is told: the coefficients of a model. Measured is the peak above the
weights while the engine's phases run, two steps of denoising each. On the CPU every attention
counts as one kernel, as it is on a GPU. On a GPU the networks are made on the spot in bf16, one
after the other, as far as they fit; no weights are needed. That part was not run on a real GPU yet.
"""

import argparse
import contextlib
import gc
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app.core.paths import resource  # noqa: E402
from app.core.policy import Precision  # noqa: E402
from app.core.units import format_bytes  # noqa: E402
from app.engine.coefficients import ModelCoefficients, shipped_coefficients  # noqa: E402
from app.engine.compute_device import AcceleratorDevice, CpuDevice  # noqa: E402
from app.engine.forecast.model_forecast import dry_run_coefficients  # noqa: E402
from app.engine.forecast.model_spec import ModelSpec, known_spec, spec_of  # noqa: E402
from app.engine.forecast.networks import DTYPES, Networks  # noqa: E402
from app.engine.forecast.phase_calls import PhaseCalls  # noqa: E402
from app.engine.model_folder import inspect_model_folder  # noqa: E402
from app.engine.one_kernel import OneKernel  # noqa: E402
from app.engine.out_of_memory import is_out_of_memory  # noqa: E402
from app.engine.simulated_accounts import Accounts  # noqa: E402
from bench.report import table, write_result  # noqa: E402
from tests.tiny_models import make_tiny_model  # noqa: E402

GPU_MODELS = ("klein-4b", "klein-base-4b", "klein-9b", "dev")
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
    "cuda": "Coefficients against torch's allocator, bf16, random weights.",
}
TOKEN_BYTES = 20_000
"""Of the tokenizer: the CPU's tracker counts them too, beside a GPU they are in RAM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One run: what was predicted and measured, above the weights."""

    model: str
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


class Bench:
    """The phases of one model, predicted and measured."""

    def __init__(
        self,
        coefficients: ModelCoefficients,
        spec: ModelSpec,
        *,
        device: str,
        precision: Precision,
        meter: "CpuMeter | CudaMeter",
    ) -> None:
        self._coefficients = coefficients
        self._spec = spec
        self._precision = precision
        self._meter = meter
        self._networks = lambda: Networks(spec, device, DTYPES[precision])

    def rows(self, sizes_px: tuple[int, ...], batches: tuple[int, ...]) -> Iterator[Row]:
        """All phases; each phase's network is there only while it is measured."""
        known, precision = self._coefficients, self._precision
        networks = self._networks()
        _ = networks.text_encoder
        calls = PhaseCalls(self._spec, networks, beside=self._meter.beside)
        predicted = known.encode_working_bytes(prompts=1, precision=precision)
        yield self._row("encode", (0, 0), 1, None, predicted, calls.encode)
        networks = self._networks()
        _ = networks.transformer, networks.autoencoder
        calls = PhaseCalls(self._spec, networks, beside=self._meter.beside)
        for side, images in ((side, images) for side in sizes_px for images in batches):
            size: dict[str, Any] = {"images": images, "width_px": side, "height_px": side}
            predicted = known.denoise_working_bytes(**size, precision=precision)
            yield self._row(
                "denoise",
                (side, side),
                images,
                None,
                predicted,
                lambda calls=calls, size=size: calls.denoise(**size),
            )
        del networks, calls
        networks = self._networks()
        _ = networks.autoencoder
        calls = PhaseCalls(self._spec, networks, beside=self._meter.beside)
        for side, images, tile in _decodes(sizes_px, batches):
            size = {"images": images, "width_px": side, "height_px": side, "tile_px": tile}
            predicted = known.decode_working_bytes(**size, precision=precision)
            yield self._row(
                "decode",
                (side, side),
                images,
                tile,
                predicted,
                lambda calls=calls, size=size: calls.decode(**size),
            )

    def _row(
        self,
        phase: str,
        size: tuple[int, int],
        images: int,
        tile_px: int | None,
        predicted: int,
        call: Callable[[], object],
    ) -> Row:
        measured, note = None, ""
        try:
            measured = self._meter.measure(call)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            note = "does not fit on this device"
        return Row(
            model=self._spec.name or self._spec.label,
            phase=phase,
            width_px=size[0],
            height_px=size[1],
            images=images,
            tile_px=tile_px,
            predicted_bytes=predicted,
            measured_bytes=measured,
            note=note,
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


class CudaMeter:
    """Peak of torch's allocator above what it held before."""

    def __init__(self) -> None:
        self.beside = AcceleratorDevice(torch.device("cuda", 0))

    def measure(self, call: Callable[[], object]) -> int:
        """The peak while `call` runs for the second time: at the first, workspaces are made."""
        gc.collect()
        torch.cuda.empty_cache()
        with torch.no_grad():
            call()
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        with torch.no_grad():
            call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before


def _decodes(
    sizes_px: tuple[int, ...], batches: tuple[int, ...]
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


def gpu_benches(device: str) -> Iterator[Bench]:
    """The published models."""
    for name in GPU_MODELS:
        coefficients = shipped_coefficients(name)
        if coefficients is None:
            raise SystemExit(f"the coefficients of {name} are missing")
        yield Bench(
            coefficients,
            known_spec(name),
            device=device,
            precision=Precision.BF16,
            meter=CudaMeter(),
        )


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
    device = parser.parse_args().device
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("this torch sees no GPU")
    on_gpu = device == "cuda"
    benches = gpu_benches(device) if on_gpu else cpu_benches()
    sizes = (GPU_SIZES_PX, GPU_BATCHES) if on_gpu else (CPU_SIZES_PX, CPU_BATCHES)
    rows = [row for bench in benches for row in bench.rows(*sizes)]
    cells = [
        (
            f"{row.model} {row.phase}",
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
