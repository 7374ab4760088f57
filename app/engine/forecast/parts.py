"""What each network of a model needs, from dry runs; equal networks are run only once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from app.core.policy import Attention, Precision
from app.engine.architecture import Architecture, architecture_of, digest_of
from app.engine.forecast import points
from app.engine.forecast.dry_run import DryRun
from app.engine.forecast.fit import Point, fit_above, fit_flops, fit_peak
from app.engine.forecast.model_spec import ModelSpec
from app.engine.forecast.networks import DTYPES, count_parameters
from app.engine.lines import Lines
from app.engine.quantize.kept_ways import Way
from app.engine.request_counts import (
    decode_counts,
    denoise_case,
    denoise_counts,
    with_attention,
    with_sums,
)
from app.engine.weight_sizes import NetworkCoefficients

ByPrecision = dict[Precision, Lines]
WAYS = {
    Precision.FP8: (Way.DEQUANTIZE, Way.FP8_ROWS),
    Precision.INT8: (Way.DEQUANTIZE, Way.INT8_ROWS),
    Precision.NF4: (Way.DEQUANTIZE,),
}
"""How quantized layers may be multiplied with; "fp8, scaled after" needs what "by rows" does."""
Part = TypeVar("Part")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextEncoderPart:
    """Weights, working memory and operations of encoding a prompt."""

    network: NetworkCoefficients
    encode: ByPrecision
    flop: Lines


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerPart:
    """Weights, working memory and operations of denoising."""

    network: NetworkCoefficients
    denoise: dict[str, ByPrecision]
    denoise_with: dict[Attention, dict[str, ByPrecision]]
    quantized: ByPrecision
    flop: Lines


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoencoderPart:
    """Weights, working memory and operations of decoding, and of encoding a reference image."""

    network: NetworkCoefficients
    decode: ByPrecision
    decode_flop: Lines
    reference: ByPrecision
    reference_flop: Lines


class PartMaker:
    """Makes the parts of models, and remembers them."""

    def __init__(self) -> None:
        self._made: dict[str, object] = {}

    def text_encoder(self, spec: ModelSpec) -> TextEncoderPart:
        """Of one prompt at a time, as the engine encodes."""
        architecture = architecture_of(spec.configs)
        key = _pick(architecture, "text_encoder", "vision"), spec.text_out_layers
        return self._once("text_encoder", key, lambda: _text_encoder(spec))

    def transformer(self, spec: ModelSpec) -> TransformerPart:
        """Of the pipeline's denoising loop."""
        architecture = architecture_of(spec.configs)
        key = _pick(architecture, "transformer"), spec.guidance, spec.layout
        return self._once("transformer", key, lambda: _transformer(spec))

    def autoencoder(self, spec: ModelSpec) -> AutoencoderPart:
        """Of whole pictures."""
        key = (_pick(architecture_of(spec.configs), "autoencoder"),)
        return self._once("autoencoder", key, lambda: _autoencoder(spec))

    def _once(self, name: str, key: tuple[object, ...], make: Callable[[], Part]) -> Part:
        digest = name + digest_of({}, *key)
        if digest not in self._made:
            self._made[digest] = make()
        return cast("Part", self._made[digest])


def _pick(architecture: Architecture, *names: str) -> Architecture:
    return {name: architecture[name] for name in names if name in architecture}


def _text_encoder(spec: ModelSpec) -> TextEncoderPart:
    runs = {precision: DryRun(spec, precision) for precision in DTYPES}
    measured = {precision: run.encode() for precision, run in runs.items()}
    working = {precision: found.working_bytes for precision, found in measured.items()}
    for precision, ways in WAYS.items():
        # The way is found by a trial on the device: room for any of them.
        working[precision] = max(
            DryRun(spec, precision, way=way).encode().working_bytes for way in ways
        )
    return TextEncoderPart(
        network=count_parameters("text_encoder", runs[Precision.BF16].networks.text_encoder),
        encode={precision: _constant(value) for precision, value in working.items()},
        flop=_constant(measured[Precision.BF16].flops),
    )


def _transformer(spec: ModelSpec) -> TransformerPart:
    runs = {precision: DryRun(spec, precision, shallow=True) for precision in DTYPES}
    whole = DryRun(spec, Precision.BF16)
    plain = _denoised(runs[Precision.BF16], points.QUANTIZED)
    network = count_parameters("transformer", whole.networks.transformer)
    return TransformerPart(
        network=network,
        denoise={
            case: {p: _denoise_lines(run, case) for p, run in runs.items()}
            for case in points.DENOISE
        },
        denoise_with={kind: _with_attention(spec, kind) for kind in points.ATTENTION_TERMS},
        quantized={p: _quantized_lines(spec, p, plain, network.widest_matrix()) for p in WAYS},
        flop=fit_flops(points.DENOISE_FLOP_TERMS, _denoised(whole, points.FLOPS)),
    )


def _with_attention(spec: ModelSpec, kind: Attention) -> dict[str, ByPrecision]:
    runs = {p: DryRun(spec, p, attention=kind, shallow=True) for p in DTYPES}
    return {
        case: {p: _denoise_lines(run, case, kind) for p, run in runs.items()}
        for case in points.DENOISE
    }


def _quantized_lines(
    spec: ModelSpec, precision: Precision, plain: Sequence[Point], width: int
) -> Lines:
    """What quantized layers, of which one is so wide, need more than plain ones.

    In the way that needs most.
    """
    more = [0] * len(plain)
    for way in WAYS[precision]:
        found = _denoised(DryRun(spec, precision, way=way, shallow=True), points.QUANTIZED)
        more = [
            max(most, one.working_bytes - other.working_bytes)
            for most, (_, one), (_, other) in zip(more, found, plain, strict=True)
        ]
    return fit_above(
        points.QUANTIZED_TERMS[precision],
        [(with_sums(counts, width), size) for (counts, _), size in zip(plain, more, strict=True)],
    )


def _autoencoder(spec: ModelSpec) -> AutoencoderPart:
    runs = {precision: DryRun(spec, precision) for precision in DTYPES}
    decoded = {precision: _decoded(run) for precision, run in runs.items()}
    encoded = {precision: _encoded(run) for precision, run in runs.items()}
    return AutoencoderPart(
        network=count_parameters("autoencoder", runs[Precision.BF16].networks.autoencoder),
        decode={
            p: fit_peak(points.DECODE_TERMS, found, points.decode_domain())
            for p, found in decoded.items()
        },
        decode_flop=fit_flops(points.DECODE_FLOP_TERMS, decoded[Precision.BF16]),
        reference={
            p: fit_peak(points.REFERENCE_TERMS, found, points.reference_domain())
            for p, found in encoded.items()
        },
        reference_flop=fit_flops(points.REFERENCE_FLOP_TERMS, encoded[Precision.BF16]),
    )


def _denoise_lines(run: DryRun, case: str, attention: Attention = Attention.SDPA) -> Lines:
    terms, requests = points.DENOISE[case]
    if attention in points.ATTENTION_TERMS:
        term = points.ATTENTION_TERMS[attention]
        many = attention is Attention.MATH and case.startswith("several")
        terms = (*terms, f"images*{term}" if many else term)
        requests = (*requests, *points.MORE_FOR_ATTENTION[case])
    shape = run.attention_shape
    domain = [
        with_attention(counts, *shape)
        for counts in points.denoise_domain()
        if denoise_case(counts) == case
    ]
    return fit_peak(terms, _denoised(run, requests), domain)


def _constant(value: int) -> Lines:
    return Lines(terms=("1",), lines=((float(value),),))


def _denoised(run: DryRun, requests: Sequence[points.DenoisePoint]) -> list[Point]:
    return [
        (
            with_attention(denoise_counts(images, *size, references), *run.attention_shape),
            run.denoise(images=images, width_px=size[0], height_px=size[1], references=references),
        )
        for images, size, references in requests
    ]


def _decoded(run: DryRun) -> list[Point]:
    return [
        (
            decode_counts(images, *size),
            run.decode(images=images, width_px=size[0], height_px=size[1]),
        )
        for images, size in points.DECODE
    ]


def _encoded(run: DryRun) -> list[Point]:
    return [
        (decode_counts(1, *size), run.encode_reference(width_px=size[0], height_px=size[1]))
        for size in points.REFERENCE
    ]
