"""How a quantized layer is multiplied with on a device: decided by running it there, once.

Not tried on a real GPU.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Generator, Mapping

import torch

from app.core.paths import app_paths
from app.core.policy import Precision
from app.engine.broken_device import DeviceBrokenError, still_computes
from app.engine.devices import device_name, synchronize
from app.engine.out_of_memory import is_out_of_memory
from app.engine.quantize.formats import from_rows, to_fp8, to_int8
from app.engine.quantize.kept_ways import (
    CANDIDATES,
    TRIAL_FEATURES,
    TRIAL_TOKENS,
    Way,
    WayRecord,
)
from app.engine.quantize.native import fp8_by_rows, fp8_scaled_after, int8_by_rows

log = logging.getLogger(__name__)

Product = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

PRODUCTS: Mapping[Way, Product] = {
    Way.FP8_ROWS: fp8_by_rows,
    Way.FP8_SCALED_AFTER: fp8_scaled_after,
    Way.INT8_ROWS: int8_by_rows,
}
_TOLERANCE = 0.08
"""Rounding both sides leaves about 0.04 of the result's norm; a product gone wrong leaves 1."""
_TRIES = 5
WORTH = 0.95
"""A product in 8 bits, which rounds more, must take less than this share of the other's time."""
LEAST_TOKENS = 32
"""With fewer, the products in 8 bits refuse, or gain nothing."""
_ODD_TOKENS = LEAST_TOKENS + 1
"""Pictures and prompts have any number of tokens, which some kernels do not take."""

_found: dict[tuple[Precision, torch.device, torch.dtype], Way] = {}
_refused: set[tuple[Way, torch.device, torch.dtype, int, torch.Size]] = set()
"""With the number of tokens, and the shape of the codes."""
_forced: dict[Precision, Way] = {}


def way_for(precision: Precision, device: torch.device, dtype: torch.dtype) -> Way:
    """The way to multiply on a device: as it was found out here before, or by trying it now.

    Raises:
        DeviceBrokenError: A way has broken the device; a new process can go on without it.
        torch.OutOfMemoryError: There is no memory to try.
    """
    if precision in _forced:
        return _forced[precision]
    # On a processor the closer result is worth more than the time, which depends on what else
    # runs there; and a forecast's tensors cannot be run.
    if precision not in CANDIDATES or device.type in {"cpu", "meta"}:
        return Way.DEQUANTIZE
    key = (precision, device, dtype)
    if key not in _found:
        _found[key] = _known_or_tried(precision, device, dtype)
    return _found[key]


def way_of(precision: Precision | None, device: torch.device, dtype: torch.dtype) -> Way:
    """The same, for what may be no precision; see `app.engine.foreign_weights.tried_precision`."""
    return Way.DEQUANTIZE if precision is None else way_for(precision, device, dtype)


def _known_or_tried(precision: Precision, device: torch.device, dtype: torch.dtype) -> Way:
    record = WayRecord(app_paths().products_file, device_name(device), precision, str(dtype))
    found = record.way
    if found is None:
        found = probe(precision, device, dtype, record)
        record.note_chosen(found)
    log.info("%s on %s in %s: %s", precision.value, device, dtype, found.value)
    return found


def native_product(
    way: Way, x: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor
) -> torch.Tensor | None:
    """The product in a way that was chosen; None where the device has none of this size.

    A trial is of one size, and libraries refuse others: cuBLAS, by rows on compute capability 9.0,
    wide layers with 256 tokens and fewer (https://github.com/pytorch/ao/issues/4582).

    Raises:
        torch.OutOfMemoryError: There is no memory for it.
    """
    product = PRODUCTS[way]
    if torch.compiler.is_compiling():
        return product(x, codes, scales)
    key = (way, x.device, x.dtype, x.shape[0], codes.shape)
    if key in _refused:
        return None
    try:
        return product(x, codes, scales)
    # A device that is broken says the same of the other product.
    except (RuntimeError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        log.info("%s does not run with %d tokens and %s: %s", way.value, *key[3:], error)
    _refused.add(key)
    return None


@contextlib.contextmanager
def forced_way(precision: Precision, way: Way) -> Generator[None]:
    """Multiply in one way whatever the device, to measure and to test it."""
    _forced[precision] = way
    try:
        yield
    finally:
        del _forced[precision]


def probe(
    precision: Precision,
    device: torch.device,
    dtype: torch.dtype,
    record: WayRecord,
    *,
    clock_s: Callable[[], float] = time.perf_counter,
) -> Way:
    """The first way that runs on a device, gives the right result, and is clearly faster.

    Needs about 100 MB there for a moment.

    Args:
        precision: FP8 or INT8; others have no way but to dequantize.
        device: To run on.
        dtype: Of what is multiplied with the weights.
        record: Is told what is tried, and tells what is not to be.
        clock_s: Measures.

    Raises:
        DeviceBrokenError: A way has broken the device.
        torch.OutOfMemoryError: There is no memory for it.
    """
    trial = _Trial(precision, device, dtype, clock_s)
    least_s = trial.seconds(trial.dequantized)
    for way in CANDIDATES.get(precision, ()):
        if record.leaves_out(way):
            log.info("%s is left out: it broke the device or the engine", way.value)
            continue
        with record.trying(way):
            try:
                taken_s = trial.run(way)
            except DeviceBrokenError:
                record.note_broke(way)
                raise
        if taken_s is not None and taken_s < WORTH * least_s:
            return way
    return Way.DEQUANTIZE


class _Trial:
    """The same numbers for all ways."""

    def __init__(
        self,
        precision: Precision,
        device: torch.device,
        dtype: torch.dtype,
        clock_s: Callable[[], float],
    ) -> None:
        self._device = device
        self._clock_s = clock_s
        generator = torch.Generator().manual_seed(0)
        weight = torch.randn(TRIAL_FEATURES, TRIAL_FEATURES, generator=generator)
        x = torch.randn(TRIAL_TOKENS, TRIAL_FEATURES, generator=generator)
        self._x = x.to(device, dtype)
        made = to_fp8(weight) if precision is Precision.FP8 else to_int8(weight)
        self._codes, self._scales = (tensor.to(device) for tensor in made)
        self._expected = self.dequantized()

    def dequantized(self) -> torch.Tensor:
        """The product that works everywhere."""
        rows = from_rows(self._codes, self._scales, self._x.dtype)
        return torch.nn.functional.linear(self._x, rows)

    def run(self, way: Way) -> float | None:
        """Seconds that a way takes; None where it does not run here, or is wrong.

        Raises:
            DeviceBrokenError: It broke the device.
            torch.OutOfMemoryError: There is no memory for it.
        """
        product = PRODUCTS[way]
        try:
            for tokens in (TRIAL_TOKENS, _ODD_TOKENS):
                found = product(self._x[:tokens], self._codes, self._scales)
                if not _is_close(found, self._expected[:tokens]):
                    log.info("%s is wrong here with %d tokens", way.value, tokens)
                    return None
            return self.seconds(lambda: product(self._x, self._codes, self._scales))
        # Whatever a device says to what it cannot do: RuntimeError, ValueError, and more.
        except Exception as error:
            if is_out_of_memory(error):
                raise
            log.info("%s does not run here: %s", way.value, error)
            if still_computes(self._device):
                return None
            # Everything else would fail now, too; the next process leaves this one out.
            raise DeviceBrokenError(
                f"{device_name(self._device)} stopped working when the product “{way.value}” was "
                f"tried ({error}); it is not tried again."
            ) from error

    def seconds(self, product: Callable[[], object]) -> float:
        """The shortest of some runs, after one that warms up."""
        product()
        taken_s: list[float] = []
        for _ in range(_TRIES):
            synchronize(self._device)
            began_s = self._clock_s()
            product()
            synchronize(self._device)
            taken_s.append(self._clock_s() - began_s)
        return min(taken_s)


def _is_close(result: torch.Tensor, expected: torch.Tensor) -> bool:
    off = (result.float() - expected.float()).square().sum()
    # False for NaN, too.
    return bool(off <= _TOLERANCE**2 * expected.float().square().sum())
