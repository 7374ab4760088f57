"""The text encoder and the transformer of a model folder, built and filled from their files.

The libraries' own loading makes a copy in RAM of what is read, converts it in another, and loads
what nothing reads; here each weight goes once to where it stays.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from app.core.errors import ModelError
from app.engine.libraries import diffusers_class
from app.engine.model_components import DEV, KLEIN, ModelFamily
from app.engine.model_folder import WEIGHT_STEMS, ModelInfo
from app.engine.model_json import read_json
from app.engine.model_weights import read_weights
from app.engine.quantize.converting import Conversion, open_converted
from app.engine.quantize.gguf_file import GGUF_SUFFIX
from app.engine.quantize.gguf_linear import GgufLinear, gguf_skeleton
from app.engine.quantize.linear import QuantizedLinear
from app.engine.quantize.skeleton import named_modules
from app.engine.quantize.stored_fp8 import fp8_skeleton
from app.engine.residency.host_network import HostNetwork
from app.engine.residency.host_store import HostStore, Missing, find_missing
from app.engine.stored_weights import MappedFiles, Stored, stored_tensors
from app.engine.truncated_encoder import build_text_encoder, restore_computed_buffers

_DECODER = re.compile(
    r"(?:model\.)?(?:language_model\.)?(?:model\.)?((?:layers\.\d+|embed_tokens|norm)\..+)"
)
"""Names in an encoder's files: older ones that see have the two prefixes the other way round."""
_TABLE = "embed_tokens.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """How a network is to be opened.

    Attributes:
        store: Where its weights are to be.
        dtype: Of its weights.
        file_blocks: Blocks that stay on the disk.
        conversion: Into fewer bits; None keeps the weights in `dtype`.
        check: Called often; may raise to stop.
        progress: Told how many bytes more are loaded.
    """

    store: HostStore
    dtype: torch.dtype
    file_blocks: frozenset[int]
    check: Callable[[], None]
    progress: Callable[[int], None]
    conversion: Conversion | None = None


def open_text_encoder(info: ModelInfo, opening: Opening) -> HostNetwork:
    """The layers of the text encoder that are read; its table stays in the mapped file.

    Raises:
        ModelError: The weights are not those of the config.
        OSError: A file cannot be read.
    """
    folder = info.folder / "text_encoder"
    layout = KLEIN if info.family is ModelFamily.KLEIN else DEV
    encoder = build_text_encoder(
        layout.text_encoder_class,
        read_json(folder / "config.json"),
        info.text_out_layers,
        opening.dtype,
    )
    restore_computed_buffers(encoder)
    stored = {
        f"model.{found[1]}": tensor
        for name, tensor in _stored(folder).items()
        if (found := _DECODER.fullmatch(name)) is not None
    }
    table = stored.pop(f"model.{_TABLE}", None)
    if table is None:
        raise refused(folder, Missing(absent=(_TABLE,), of_another_shape=()))
    encoder.table = MappedFiles().tensor(table)
    return _open("text_encoder", folder, encoder, stored, opening)


def open_transformer(info: ModelInfo, opening: Opening) -> HostNetwork:
    """The transformer.

    Raises:
        ModelError: The weights are not those of the config.
        OSError: A file cannot be read.
    """
    folder = info.folder / "transformer"
    network_class = diffusers_class("Flux2Transformer2DModel")
    config = network_class.load_config(str(folder), local_files_only=True)
    with torch.device("meta"):
        network: Any = network_class.from_config(config)
    # Not the network's own `to`, which warns about casting.
    torch.nn.Module.to(network, opening.dtype)
    (first, *_more) = files = read_weights(folder, WEIGHT_STEMS[folder.name]).files
    if first.suffix == GGUF_SUFFIX:
        stored = gguf_skeleton(network.eval(), first, opening.dtype)
    else:
        stored = stored_tensors(files)
    return _open("transformer", folder, network.eval(), stored, opening)


def refuse_missing(folder: Path, missing: Missing) -> None:
    """Pass over what is whole.

    Raises:
        ModelError: Something is missing.
    """
    if missing.absent or missing.of_another_shape:
        raise refused(folder, missing)


def refused(folder: Path, missing: Missing) -> ModelError:
    """The error for weights that are not those of their config."""
    absent, wrong = missing.absent[:5], missing.of_another_shape[:5]
    return ModelError(
        f"The weights in {folder} are not those of its config.json: "
        "download this folder again from the model's source.",
        code="model.incomplete",
        details=f"missing: {', '.join(absent)}; of another shape: {', '.join(wrong)}",
    )


def _stored(folder: Path) -> Stored:
    return stored_tensors(read_weights(folder, WEIGHT_STEMS[folder.name]).files)


def _open(
    name: str, folder: Path, network: torch.nn.Module, stored: Stored, opening: Opening
) -> HostNetwork:
    whole = fp8_skeleton(network, stored)
    refuse_missing(folder, find_missing(network, whole))
    # What others have quantized stays as it is: once more would only make it worse.
    if opening.conversion is None or _is_quantized(network):
        stored = whole
    else:
        stored = open_converted(name, network, stored, opening.conversion)
    return opening.store.open(
        name,
        network,
        stored,
        file_blocks=opening.file_blocks,
        check=opening.check,
        progress=opening.progress,
    )


def _is_quantized(network: torch.nn.Module) -> bool:
    kinds = (QuantizedLinear, GgufLinear)
    return any(isinstance(module, kinds) for _name, module in named_modules(network))
