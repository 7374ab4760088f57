"""What a model needs for a request, in microseconds: the dry run's results as coefficients.

They are made by `app.engine.forecast` from the model's configs; those of the known models ship in
`resources/forecast`, others are made by the engine when it first loads such a model.
"""

import functools
import logging
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from app.core.paths import resource
from app.core.policy import Attention, Precision
from app.engine.architecture import (
    Architecture,
    Configs,
    architecture_of,
    digest_of,
    read_all_configs,
)
from app.engine.foreign_weights import ForeignWeights, foreign_of
from app.engine.gguf_turning import turning_bytes
from app.engine.lines import Lines
from app.engine.model_folder import ModelInfo, stored_dtypes
from app.engine.quantize.recipe import QUANTIZED
from app.engine.request_counts import (
    SUMS,
    attention_shape,
    decode_counts,
    denoise_case,
    denoise_counts,
    image_tokens,
    reference_size,
    with_attention,
    with_sums,
)
from app.engine.weight_sizes import NetworkCoefficients

log = logging.getLogger(__name__)

SCHEMA = 3
SHIPPED: tuple[str, ...] = (
    "demo",
    "klein-4b",
    "klein-base-4b",
    "klein-9b",
    "klein-base-9b",
    "dev",
)
"""Models whose coefficients ship; each also with "+small-decoder" where that decoder fits."""
SMALL_DECODER = "+small-decoder"
PREVIEW_FIT_PX = 256
"""Side of the picture that previews are fitted with, once a model is loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCoefficients:
    """What a model needs; all sizes are bytes of tensors, without what a GPU adds.

    Attributes:
        schema: Of the file.
        name: As in the catalog, or the digest of the configs.
        label: For people.
        guidance: Value of a `GuidanceKind`: "none", "embedded" or "cfg".
        distilled: Whether it is a few-step model.
        default_steps: Denoising steps it was made for.
        stored_precision: Of the published weights.
        made_with: Versions of the libraries whose code was run.
        architecture: See `app.engine.architecture`; a folder of another needs other coefficients.
        networks: By component: "text_encoder", "transformer", "autoencoder".
        encode: Working memory of one prompt's encoding, by precision.
        denoise: Working memory of the denoising loop, by `denoise_case` and precision.
        denoise_with: The same for kinds of attention that need another amount.
        denoise_quantized: What quantized layers need besides, by precision.
        decode: Working memory of decoding a batch whole, by precision.
        encode_reference: Working memory of encoding one reference image, by precision.
        encode_flop: Of one prompt's encoding.
        denoise_flop: Of one pass of the transformer.
        decode_flop: Of decoding a batch whole.
        encode_reference_flop: Of encoding one reference image.
        foreign: Components of the folder that others have quantized: their sizes are those of
            their files, in any precision. Of a folder, so in no file of coefficients.
    """

    schema: int = SCHEMA
    name: str
    label: str
    guidance: str
    distilled: bool
    default_steps: int
    stored_precision: Precision
    made_with: dict[str, str]
    architecture: Architecture
    networks: dict[str, NetworkCoefficients]
    encode: dict[Precision, Lines]
    denoise: dict[str, dict[Precision, Lines]]
    denoise_with: dict[Attention, dict[str, dict[Precision, Lines]]]
    denoise_quantized: dict[Precision, Lines]
    decode: dict[Precision, Lines]
    encode_reference: dict[Precision, Lines]
    encode_flop: Lines
    denoise_flop: Lines
    decode_flop: Lines
    encode_reference_flop: Lines
    foreign: tuple[ForeignWeights, ...] = ()

    def weights_bytes(
        self, component: str, precision: Precision, beside: Precision = Precision.BF16
    ) -> int:
        """Weights of a component that computing has on the device.

        Args:
            component: Which.
            precision: Of its weights.
            beside: Of what is not quantized beside quantized weights.

        Raises:
            ValueError: The precision is AUTO.
        """
        blocks = sum(self.block_bytes(component, precision, beside))
        foreign = foreign_of(self.foreign, component)
        if foreign is not None and foreign.outside_bytes is not None:
            return foreign.outside_bytes + blocks
        return self.networks[component].outside.stored_bytes(precision, beside) + blocks

    def ram_only_bytes(
        self, component: str, precision: Precision, beside: Precision = Precision.BF16
    ) -> int:
        """Weights that stay in the computer's RAM beside a GPU: the text encoder's embeddings.

        Raises:
            ValueError: The precision is AUTO.
        """
        return self.networks[component].ram_only.stored_bytes(precision, beside)

    def block_bytes(
        self, component: str, precision: Precision, beside: Precision = Precision.BF16
    ) -> tuple[int, ...]:
        """Weights of each block that can come and go, in the order they run.

        The transformer's double blocks, then its single blocks; those of the text encoder's layers
        that are read; none of the autoencoder.

        Raises:
            ValueError: The precision is AUTO.
        """
        foreign = foreign_of(self.foreign, component)
        if foreign is not None:
            return foreign.block_bytes
        return self.networks[component].block_bytes(precision, beside)

    def encode_working_bytes(
        self, *, prompts: int, precision: Precision, beside: Precision = Precision.BF16
    ) -> int:
        """Peak above the text encoder's weights; prompts are encoded one after the other."""
        if prompts < 1:
            return 0
        if precision is Precision.AUTO:
            raise _undecided()
        working = self.encode[precision].at({})
        if precision in QUANTIZED and beside is Precision.FP32:
            working += self.encode[beside].at({}) - self.encode[Precision.BF16].at({})
        return working

    def denoise_working_bytes(
        self,
        *,
        images: int,
        width_px: int,
        height_px: int,
        references: tuple[tuple[int, int], ...] = (),
        precision: Precision,
        beside: Precision = Precision.BF16,
        attention: Attention = Attention.AUTO,
    ) -> int:
        """Peak above the transformer's weights, in any step.

        Two passes for guidance run one after the other, so they need little more than one.

        Args:
            images: Denoised at once.
            width_px: Of the images.
            height_px: Of the images.
            references: Width and height of each reference image as it was given, in pixels.
            precision: Of the transformer.
            beside: What quantized weights are computed in.
            attention: What computes attention; most kinds need the same.
        """
        counts = denoise_counts(images, width_px, height_px, references)
        if attention is Attention.CHUNKED:
            counts = with_attention(counts, *attention_shape(self.architecture))
        lines = self.denoise_with.get(attention, self.denoise)[denoise_case(counts)]
        if precision not in QUANTIZED:
            return lines[_unquantized(precision)].at(counts)
        foreign = foreign_of(self.foreign, "transformer")
        if foreign is not None and foreign.turned_back:
            largest = self.networks["transformer"].largest_matrix()
            return lines[beside].at(counts) + turning_bytes(foreign.turned_back, largest)
        more = self.denoise_quantized[precision]
        if SUMS in more.terms:
            counts = with_sums(counts, self.networks["transformer"].widest_matrix())
        return lines[beside].at(counts) + more.at(counts)

    def decode_working_bytes(
        self,
        *,
        images: int,
        width_px: int,
        height_px: int,
        tile_px: int | None,
        precision: Precision,
        in_ram: bool = False,
    ) -> int:
        """Peak above the autoencoder's weights.

        Args:
            images: Decoded at once; in tiles one after the other, with the latents of all.
            width_px: Of the images.
            height_px: Of the images.
            tile_px: Side of tiles with their overlap; None decodes whole.
            precision: Of the autoencoder.
            in_ram: Whether the tiles are joined in the same memory, as on the CPU; from a GPU each
                tile leaves for RAM.
        """
        precision = _unquantized(precision)
        lines = self.decode[precision]
        if tile_px is None:
            return lines.at(decode_counts(images, width_px, height_px))
        tile_size = min(tile_px, width_px), min(tile_px, height_px)
        working = lines.at(decode_counts(1, *tile_size))
        element_bytes = 4 if precision is Precision.FP32 else 2
        # The latents of all images, packed and spread; the lines count those of a tile.
        channels = int(self.architecture["transformer"]["in_channels"])
        latents = image_tokens(width_px, height_px) * images - image_tokens(*tile_size)
        working += 2 * latents * channels * element_bytes
        if in_ram:
            # The pictures, and a copy of one with a row of tiles more.
            working += (images + 1) * 3 * width_px * height_px * element_bytes
        return working

    def encode_reference_working_bytes(
        self, *, width_px: int, height_px: int, precision: Precision
    ) -> int:
        """Peak above the autoencoder's weights; reference images are encoded one by one."""
        width_px, height_px = reference_size(width_px, height_px)
        counts = decode_counts(1, width_px, height_px)
        return self.encode_reference[_unquantized(precision)].at(counts)

    def preview_fit_working_bytes(self, *, precision: Precision) -> int:
        """Peak above the autoencoder's weights while previews are fitted."""
        return self.encode_reference_working_bytes(
            width_px=PREVIEW_FIT_PX, height_px=PREVIEW_FIT_PX, precision=precision
        )

    def encode_flops(self, *, prompts: int) -> int:
        """Floating-point operations to encode prompts."""
        return prompts * self.encode_flop.at({})

    def denoise_step_flops(
        self,
        *,
        images: int,
        width_px: int,
        height_px: int,
        references: tuple[tuple[int, int], ...] = (),
    ) -> int:
        """Floating-point operations of one pass of the transformer."""
        return self.denoise_flop.at(denoise_counts(images, width_px, height_px, references))

    def decode_flops(self, *, images: int, width_px: int, height_px: int) -> int:
        """Floating-point operations to decode images whole."""
        return self.decode_flop.at(decode_counts(images, width_px, height_px))

    def encode_reference_flops(self, *, width_px: int, height_px: int) -> int:
        """Floating-point operations to encode a reference image."""
        width_px, height_px = reference_size(width_px, height_px)
        return self.encode_reference_flop.at(decode_counts(1, width_px, height_px))


def stored_precision(folder: Path) -> Precision:
    """What a model folder's transformer is stored in; half precision of either kind is BF16 here.

    Raises:
        ModelError: The weights are missing or broken.
    """
    return Precision.FP32 if stored_dtypes(folder)["transformer"] == "float32" else Precision.BF16


def shipped_coefficients(name: str) -> ModelCoefficients | None:
    """The coefficients of a known model by its name, or None for any other name."""
    if name.removesuffix(SMALL_DECODER) not in SHIPPED:
        return None
    return _read_shipped(name)


def coefficients_for(info: ModelInfo, cache_folder: Path) -> ModelCoefficients | None:
    """The coefficients of a model's folder, or None until the engine has made them.

    Shipped ones answer only for a folder whose networks are theirs.
    """
    try:
        architecture = architecture_of(read_all_configs(info.folder))
    except (OSError, msgspec.DecodeError):
        return None
    for name in (info.name, f"{info.name}{SMALL_DECODER}") if info.name is not None else ():
        found = shipped_coefficients(name)
        if found is not None and found.architecture == architecture:
            return of_folder(found, info)
    kept = read_coefficients(cache_file(info, architecture, cache_folder))
    return None if kept is None else of_folder(kept, info)


def of_folder(coefficients: ModelCoefficients, info: ModelInfo) -> ModelCoefficients:
    """A model's coefficients for a folder, whose weights others may have quantized."""
    return replace(coefficients, foreign=info.foreign) if info.foreign else coefficients


def cache_file(info: ModelInfo, architecture: Configs, folder: Path) -> Path:
    """Where the coefficients of a model that is not among the known ones are kept."""
    use = (SCHEMA, info.family.value, info.guidance.value, info.text_out_layers)
    return folder / f"{digest_of(architecture, *use)}.json"


def read_coefficients(path: Path) -> ModelCoefficients | None:
    """Coefficients from a file; None when there is none, or it is broken or of another version."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    try:
        found = msgspec.json.decode(data, type=ModelCoefficients)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        log.info("the forecast in %s cannot be used: %s", path, error)
        return None
    return found if found.schema == SCHEMA else None


@functools.cache
def _read_shipped(name: str) -> ModelCoefficients | None:
    return read_coefficients(resource(f"forecast/{name}.json"))


def _unquantized(precision: Precision) -> Precision:
    """What the computation runs in.

    Raises:
        ValueError: The precision is AUTO, which says nothing.
    """
    if precision is Precision.AUTO:
        raise _undecided()
    return Precision.FP32 if precision is Precision.FP32 else Precision.BF16


def _undecided() -> ValueError:
    return ValueError("AUTO is no precision: decide on one first")
