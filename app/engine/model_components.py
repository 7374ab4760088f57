"""The configs of a FLUX.2 pipeline's components, and whether they belong together."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from app.core.errors import ModelError
from app.engine.foreign_quantization import ADVICE, words_of
from app.engine.model_json import convert_config, missing_file, read_json
from app.engine.model_weights import ComponentWeights
from app.engine.quantize.gguf_file import KIND_PREFIX

_RUNNABLE_DTYPES = frozenset({"float32", "float16", "bfloat16"})
_RUNNABLE_QUANTIZED = frozenset({"float8_e4m3fn", "float8_e5m2"})
"""Of the text encoder and the transformer, beside the kinds of GGUF."""


class ModelFamily(enum.Enum):
    """Which pipeline of diffusers runs a model."""

    KLEIN = "klein"
    """Flux2KleinPipeline: Qwen3 text encoder."""
    DEV = "dev"
    """Flux2Pipeline: Mistral 3 text encoder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineLayout:
    """What diffusers' pipeline of a family consists of.

    Attributes:
        family: Of models.
        pipeline_class: In model_index.json.
        text_encoder_class: In model_index.json.
        text_out_layers: Hidden states it reads by default.
    """

    family: ModelFamily
    pipeline_class: str
    text_encoder_class: str
    text_out_layers: tuple[int, ...]


KLEIN = PipelineLayout(
    family=ModelFamily.KLEIN,
    pipeline_class="Flux2KleinPipeline",
    text_encoder_class="Qwen3ForCausalLM",
    text_out_layers=(9, 18, 27),
)
DEV = PipelineLayout(
    family=ModelFamily.DEV,
    pipeline_class="Flux2Pipeline",
    text_encoder_class="Mistral3ForConditionalGeneration",
    text_out_layers=(10, 20, 30),
)


def text_layers_read(out_layers: Sequence[int]) -> int:
    """How many of a text encoder's layers run, from the first: none after the last that is read.

    Args:
        out_layers: Hidden states that the transformer is given; 0 is what goes into the first
            layer, and each other the output of the layer of that number, counted from 1.
    """
    # A network without any layer has no hidden states at all.
    return max(1, *out_layers)


def final_norm_read(out_layers: Sequence[int], layers: int) -> bool:
    """Whether the text encoder's last norm is read: it lies behind all of its layers.

    Args:
        out_layers: Hidden states that the transformer is given.
        layers: That the whole text encoder has.
    """
    return max(out_layers) >= layers


class TransformerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """transformer/config.json; defaults are those of diffusers' Flux2Transformer2DModel."""

    class_name: str = msgspec.field(name="_class_name", default="")
    in_channels: int = 128
    num_layers: int = 8
    num_single_layers: int = 48
    attention_head_dim: int = 128
    num_attention_heads: int = 48
    joint_attention_dim: int = 15360
    guidance_embeds: bool = True
    quantization_config: dict[str, Any] | None = None

    @property
    def width(self) -> int:
        """Width of the transformer."""
        return self.attention_head_dim * self.num_attention_heads


class AutoencoderConfig(msgspec.Struct, frozen=True, kw_only=True):
    """vae/config.json; defaults are those of diffusers' AutoencoderKLFlux2."""

    class_name: str = msgspec.field(name="_class_name", default="")
    latent_channels: int = 32


class TextEncoderConfig(msgspec.Struct, frozen=True, kw_only=True):
    """text_encoder/config.json, or its `text_config` where the encoder also sees."""

    hidden_size: int
    num_hidden_layers: int
    quantization_config: dict[str, Any] | None = None


class _OuterConfig(msgspec.Struct, frozen=True, kw_only=True):
    text_config: dict[str, Any] | None = None
    quantization_config: dict[str, Any] | None = None


class _ComponentIndex(msgspec.Struct, frozen=True, kw_only=True):
    """The components in model_index.json: library and class."""

    transformer: tuple[str | None, str | None] = (None, None)
    vae: tuple[str | None, str | None] = (None, None)
    text_encoder: tuple[str | None, str | None] = (None, None)
    tokenizer: tuple[str | None, str | None] = (None, None)
    scheduler: tuple[str | None, str | None] = (None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configs:
    """The three networks' configs."""

    transformer: TransformerConfig
    autoencoder: AutoencoderConfig
    text_encoder: TextEncoderConfig

    def size(self) -> tuple[int, int, int, int]:
        """Double blocks, single blocks, transformer width, text encoder width."""
        return (
            self.transformer.num_layers,
            self.transformer.num_single_layers,
            self.transformer.width,
            self.text_encoder.hidden_size,
        )

    def text_out_layers(self, layout: PipelineLayout) -> tuple[int, ...]:
        """The pipeline's own layers, or, in a shallow encoder, as many spread evenly."""
        layers = self.text_encoder.num_hidden_layers
        count = self.transformer.joint_attention_dim // self.text_encoder.hidden_size
        default = layout.text_out_layers
        if count == len(default) and layers >= max(default):
            return default
        return tuple(layers * i // (count + 1) for i in range(1, count + 1))


def read_configs(folder: Path, layout: PipelineLayout) -> Configs:
    """The configs of a model folder, checked against each other.

    Raises:
        ModelError: One is missing, broken, of another kind of network, or does not fit the others.
    """
    _check_components(folder, layout)
    transformer_file = folder / "transformer" / "config.json"
    transformer = convert_config(read_json(transformer_file), TransformerConfig, transformer_file)
    autoencoder_file = folder / "vae" / "config.json"
    autoencoder = convert_config(read_json(autoencoder_file), AutoencoderConfig, autoencoder_file)
    text_encoder = _read_text_encoder(folder / "text_encoder" / "config.json")
    configs = Configs(transformer=transformer, autoencoder=autoencoder, text_encoder=text_encoder)
    _check_configs(folder, configs)
    return configs


def _read_text_encoder(path: Path) -> TextEncoderConfig:
    values = read_json(path)
    outer = convert_config(values, _OuterConfig, path)
    if outer.text_config is None:
        return convert_config(values, TextEncoderConfig, path)
    inner = convert_config(outer.text_config, TextEncoderConfig, path)
    quantization = inner.quantization_config or outer.quantization_config
    return msgspec.structs.replace(inner, quantization_config=quantization)


def _check_components(folder: Path, layout: PipelineLayout) -> None:
    """Each component is there and is the class the pipeline expects, not code of the folder."""
    index_file = folder / "model_index.json"
    index = convert_config(read_json(index_file), _ComponentIndex, index_file)
    for component, found, library, class_name in (
        ("transformer", index.transformer, "diffusers", "Flux2Transformer2DModel"),
        ("vae", index.vae, "diffusers", "AutoencoderKLFlux2"),
        ("text_encoder", index.text_encoder, "transformers", layout.text_encoder_class),
        ("tokenizer", index.tokenizer, "transformers", None),
        ("scheduler", index.scheduler, "diffusers", None),
    ):
        # Another library would be code from the folder itself, which is never run.
        if found[0] != library or class_name not in (None, found[1]):
            raise ModelError(
                f"The model in {folder} has {found[1] or 'nothing'} of {found[0] or 'no library'} "
                f"as its {component}, where FLUX.2 has {class_name or 'one'} of {library}: "
                "choose an unchanged FLUX.2 folder.",
                code="model.unknown_config",
            )
        if not (folder / component).is_dir():
            raise missing_file(folder / component)
    for path in ("scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json"):
        read_json(folder / path)
    tokenizer = folder / "tokenizer"
    if not any((tokenizer / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise missing_file(tokenizer / "tokenizer.json")


def _check_configs(folder: Path, configs: Configs) -> None:
    transformer, encoder = configs.transformer, configs.text_encoder
    for config, component, class_name in (
        (transformer, "transformer", "Flux2Transformer2DModel"),
        (configs.autoencoder, "vae", "AutoencoderKLFlux2"),
    ):
        if config.class_name != class_name:
            raise ModelError(
                f"The config {folder / component / 'config.json'} is of "
                f"{f'“{config.class_name}”' if config.class_name else 'no class'}, "
                f"where FLUX.2 has {class_name}: "
                "choose an unchanged FLUX.2 folder.",
                code="model.unknown_config",
            )
    numbers = (*configs.size(), transformer.in_channels, transformer.joint_attention_dim)
    if min(numbers) < 1 or encoder.num_hidden_layers < 1:
        raise ModelError(
            f"The configs in {folder} have sizes below 1: download them again from the model's "
            "source.",
            code="model.unknown_config",
        )
    if transformer.in_channels != 4 * configs.autoencoder.latent_channels:
        raise ModelError(
            f"The autoencoder in {folder / 'vae'} belongs to another model: it has "
            f"{configs.autoencoder.latent_channels} latent channels, and the transformer takes "
            f"{transformer.in_channels / 4:g}; put the autoencoder of the same model there.",
            code="model.unknown_config",
        )
    if transformer.joint_attention_dim % encoder.hidden_size:
        raise ModelError(
            f"The text encoder in {folder / 'text_encoder'} belongs to another model: it is "
            f"{encoder.hidden_size} wide, and the transformer in {folder / 'transformer'} takes "
            f"{transformer.joint_attention_dim}, which is no multiple of it; put the text encoder "
            "of the same model there.",
            code="model.unknown_config",
        )
    for component, quantization in (
        ("transformer", transformer.quantization_config),
        ("text_encoder", encoder.quantization_config),
    ):
        if quantization is not None:
            raise ModelError(
                f"The {component} in {folder} was quantized {words_of(quantization)}, which cannot "
                f"be read: {ADVICE}.",
                code="model.unknown_config",
            )


def check_weights(folder: Path, configs: Configs, weights: dict[str, ComponentWeights]) -> None:
    """The weights are of the networks that the configs describe.

    Raises:
        ModelError: They are of another network, or of a type that cannot be run.
    """
    for component, parts in weights.items():
        if not _is_runnable(component, parts.dtype()):
            raise ModelError(
                f"The weights in {folder / component} are stored as {parts.dtype()}, a form that "
                f"cannot be read: {ADVICE}.",
                code="model.unknown_config",
            )
    transformer = configs.transformer
    facts = (
        (
            "transformer",
            _shape(weights["transformer"], "x_embedder.weight"),
            (transformer.width, transformer.in_channels),
        ),
        (
            "transformer",
            _shape(weights["transformer"], "context_embedder.weight"),
            (transformer.width, transformer.joint_attention_dim),
        ),
        (
            "transformer",
            (
                weights["transformer"].layer_count("transformer_blocks."),
                weights["transformer"].layer_count("single_transformer_blocks."),
            ),
            (transformer.num_layers, transformer.num_single_layers),
        ),
        ("vae", _shape(weights["vae"], "bn.running_mean"), (transformer.in_channels,)),
        (
            "text_encoder",
            _shape(weights["text_encoder"], "embed_tokens.weight")[1:],
            (configs.text_encoder.hidden_size,),
        ),
    )
    for component, found, expected in facts:
        if found != expected:
            raise ModelError(
                f"The weights in {folder / component} are not those of its config.json: "
                "download this folder again from the model's source.",
                code="model.unknown_config",
                details=f"{found} instead of {expected}",
            )


def _is_runnable(component: str, dtype: str) -> bool:
    if component == "vae":
        return dtype in _RUNNABLE_DTYPES
    return dtype in _RUNNABLE_DTYPES | _RUNNABLE_QUANTIZED or dtype.startswith(KIND_PREFIX)


def _shape(weights: ComponentWeights, name: str) -> tuple[int, ...]:
    """Shape of the tensor whose name ends so; empty when there is none."""
    for tensor, entry in weights.tensors.items():
        if tensor == name or tensor.endswith(f".{name}"):
            return entry.shape
    return ()
