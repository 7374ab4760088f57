"""How a quantized layer is multiplied with on a device: decided by running it there, once."""

import contextlib
import enum
import logging
import time
from collections.abc import Callable, Generator, Mapping

import torch

from app.core.policy import Precision
from app.engine.devices import synchronize
from app.engine.out_of_memory import is_out_of_memory
from app.engine.quantize.formats import from_rows, to_fp8, to_int8
from app.engine.quantize.native import fp8_by_rows, fp8_scaled_after, int8_by_rows

log = logging.getLogger(__name__)

Product = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class Way(enum.Enum):
    """How x is multiplied with quantized weights."""

    DEQUANTIZE = "dequantize"
    """Weights become what x is, in pieces, and are multiplied as ever: works everywhere."""
    FP8_ROWS = "fp8 by rows"
    FP8_SCALED_AFTER = "fp8, scaled after"
    INT8_ROWS = "int8 by rows"


PRODUCTS: Mapping[Way, Product] = {
    Way.FP8_ROWS: fp8_by_rows,
    Way.FP8_SCALED_AFTER: fp8_scaled_after,
    Way.INT8_ROWS: int8_by_rows,
}
_CANDIDATES = {
    Precision.FP8: (Way.FP8_ROWS, Way.FP8_SCALED_AFTER),
    Precision.INT8: (Way.INT8_ROWS,),
}
_TOKENS, _FEATURES = 1024, 4096
"""Of the trial: large enough that the product outweighs what is around it."""
_TOLERANCE = 0.08
"""Rounding both sides leaves about 0.04 of the result's norm; a product gone wrong leaves 1."""
_TRIES = 5
LEAST_TOKENS = 32
"""With fewer, the products in 8 bits refuse, or gain nothing."""
_ODD_TOKENS = LEAST_TOKENS + 1
"""Pictures and prompts have any number of tokens, which some kernels do not take."""

_found: dict[tuple[Precision, torch.device, torch.dtype], Way] = {}
_forced: dict[Precision, Way] = {}


def way_for(precision: Precision, device: torch.device, dtype: torch.dtype) -> Way:
    """The way to multiply on a device; tries it out the first time it is asked."""
    if precision in _forced:
        return _forced[precision]
    # On a processor the closer result is worth more than the time, which depends on what else
    # runs there; and a forecast's tensors cannot be run.
    if precision not in _CANDIDATES or device.type in {"cpu", "meta"}:
        return Way.DEQUANTIZE
    key = (precision, device, dtype)
    if key not in _found:
        _found[key] = probe(precision, device, dtype)
        log.info("%s on %s in %s: %s", precision.value, device, dtype, _found[key].value)
    return _found[key]


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
    *,
    clock_s: Callable[[], float] = time.perf_counter,
) -> Way:
    """The first way that runs on a device, gives the right result, and is faster than the last.

    Needs about 100 MB there for a moment.

    Args:
        precision: FP8 or INT8; others have no way but to dequantize.
        device: To run on.
        dtype: Of what is multiplied with the weights.
        clock_s: Measures.
    """
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(_FEATURES, _FEATURES, generator=generator)
    x = torch.randn(_TOKENS, _FEATURES, generator=generator).to(device, dtype)
    made = to_fp8(weight) if precision is Precision.FP8 else to_int8(weight)
    codes, scales = (tensor.to(device) for tensor in made)
    del weight, made

    def dequantized() -> torch.Tensor:
        return torch.nn.functional.linear(x, from_rows(codes, scales, dtype))

    expected = dequantized()
    least_s = _seconds(dequantized, device, clock_s)
    for way in _CANDIDATES.get(precision, ()):
        if not all(
            _is_right(way, x[:tokens], codes, scales, expected[:tokens])
            for tokens in (_TOKENS, _ODD_TOKENS)
        ):
            continue
        product = PRODUCTS[way]
        taken_s = _seconds(lambda product=product: product(x, codes, scales), device, clock_s)
        if taken_s < least_s:
            return way
    return Way.DEQUANTIZE


def _is_right(
    way: Way, x: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor, expected: torch.Tensor
) -> bool:
    try:
        return _is_close(PRODUCTS[way](x, codes, scales), expected)
    # Whatever a device says to what it cannot do: RuntimeError, NotImplementedError, ValueError.
    except Exception as error:
        if is_out_of_memory(error):
            raise
        log.info("%s does not run here with %d tokens: %s", way.value, len(x), error)
        return False


def _is_close(result: torch.Tensor, expected: torch.Tensor) -> bool:
    off = (result.float() - expected.float()).square().sum()
    # False for NaN, too.
    return bool(off <= _TOLERANCE**2 * expected.float().square().sum())


def _seconds(
    product: Callable[[], object], device: torch.device, clock_s: Callable[[], float]
) -> float:
    """The shortest of some runs, after one that warms up."""
    product()
    taken_s: list[float] = []
    for _ in range(_TRIES):
        synchronize(device)
        began_s = clock_s()
        product()
        synchronize(device)
        taken_s.append(clock_s() - began_s)
    return min(taken_s)
