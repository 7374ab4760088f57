"""The transformer in a GGUF file: its tensors under diffusers' names; needs no torch.

GGUF files of FLUX.2 keep the names of its publisher. A layer may be a part of the rows of a
tensor there, which lie together in the file: nothing has to be read to tell where they are.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.core.errors import ModelError
from app.engine.safetensors_header import TensorEntry, invalid_weights, unreadable_weights

GGUF_SUFFIX = ".gguf"
KIND_PREFIX = "gguf:"
"""Before the kind of quantized tensors in `TensorEntry.dtype`, as in "gguf:Q4_K"."""
KINDS = frozenset(
    {"Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K"}
    | {"IQ4_NL", "IQ4_XS"}
)
"""That diffusers can turn back into numbers."""
SWAPPED = "norm_out.linear.weight"
"""Its halves are the other way round in diffusers."""
_MAGIC = b"GGUF"
_FLOATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_OUTSIDE = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "time_in.in_layer": "time_guidance_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_guidance_embed.timestep_embedder.linear_2",
    "guidance_in.in_layer": "time_guidance_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_guidance_embed.guidance_embedder.linear_2",
    "double_stream_modulation_img.lin": "double_stream_modulation_img.linear",
    "double_stream_modulation_txt.lin": "double_stream_modulation_txt.linear",
    "single_stream_modulation.lin": "single_stream_modulation.linear",
    "final_layer.adaLN_modulation.1": "norm_out.linear",
    "final_layer.linear": "proj_out",
}
_IN_DOUBLE = {
    "img_attn.norm.query_norm": "attn.norm_q",
    "img_attn.norm.key_norm": "attn.norm_k",
    "img_attn.proj": "attn.to_out.0",
    "img_mlp.0": "ff.linear_in",
    "img_mlp.2": "ff.linear_out",
    "txt_attn.norm.query_norm": "attn.norm_added_q",
    "txt_attn.norm.key_norm": "attn.norm_added_k",
    "txt_attn.proj": "attn.to_add_out",
    "txt_mlp.0": "ff_context.linear_in",
    "txt_mlp.2": "ff_context.linear_out",
}
_THREE_IN_ONE = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
}
_IN_SINGLE = {
    "linear1": "attn.to_qkv_mlp_proj",
    "linear2": "attn.to_out",
    "norm.query_norm": "attn.norm_q",
    "norm.key_norm": "attn.norm_k",
}
_NAME = re.compile(r"(?:model\.diffusion_model\.)?(.+)\.(weight|bias|scale)")
_BLOCK = re.compile(r"(double|single)_blocks\.(\d+)\.(.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tensor:
    """As the file has it."""

    name: str
    kind: str
    shape: tuple[int, ...]
    offset_bytes: int
    size_bytes: int


def read_gguf(path: Path) -> dict[str, TensorEntry]:
    """The tensors of a transformer by diffusers' names; only the header is read.

    Shapes are those of the weights. What is no tensor of FLUX.2 keeps its name.

    Raises:
        ModelError: The file is broken, no GGUF file, or quantized in a way that cannot be run.
    """
    found: dict[str, TensorEntry] = {}
    for tensor in _tensors(path):
        names = list(_names(tensor.name))
        for part, name in enumerate(names):
            rows = tensor.shape[0] // len(names)
            size_bytes = tensor.size_bytes // len(names)
            found[name] = TensorEntry(
                dtype=_dtype(path, tensor.kind),
                shape=(rows, *tensor.shape[1:]),
                size_bytes=size_bytes,
                offset_bytes=tensor.offset_bytes + part * size_bytes,
            )
    return found


def _tensors(path: Path) -> Iterator[_Tensor]:
    import gguf

    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise invalid_weights(path, "GGUF", "it does not begin as one")
        reader: Any = gguf.GGUFReader(path)
        for tensor in reader.tensors:
            yield _Tensor(
                name=str(tensor.name),
                kind=str(tensor.tensor_type.name),
                # Dimensions are kept the other way round.
                shape=tuple(int(size) for size in reversed(tensor.shape)),
                offset_bytes=int(tensor.data_offset),
                size_bytes=int(tensor.n_bytes),
            )
    except OSError as error:
        raise unreadable_weights(path, error) from error
    # What numpy and the reader say to bytes that make no sense.
    except (ValueError, KeyError, IndexError, OverflowError) as error:
        raise invalid_weights(path, "GGUF", str(error)) from error


def _names(name: str) -> Iterator[str]:
    """What a tensor is called by diffusers: several names where it is several layers in one."""
    parts = _NAME.fullmatch(name)
    if parts is None:
        yield name
        return
    place, end = parts[1], "weight" if parts[2] == "scale" else parts[2]
    block = _BLOCK.fullmatch(place)
    if block is None:
        yield f"{_OUTSIDE.get(place, place)}.{end}"
        return
    kind, number, inside = block.groups()
    if kind == "single":
        yield f"single_transformer_blocks.{number}.{_IN_SINGLE.get(inside, inside)}.{end}"
    elif inside in _THREE_IN_ONE:
        for layer in _THREE_IN_ONE[inside]:
            yield f"transformer_blocks.{number}.{layer}.{end}"
    else:
        yield f"transformer_blocks.{number}.{_IN_DOUBLE.get(inside, inside)}.{end}"


def _dtype(path: Path, kind: str) -> str:
    if kind in _FLOATS:
        return _FLOATS[kind]
    if kind in KINDS:
        return f"{KIND_PREFIX}{kind}"
    raise ModelError(
        f"The weights file {path} is quantized as {kind}, which cannot be run: choose a file in "
        "Q8_0, Q6_K, Q5_K, Q4_K, Q4_0 or another common kind.",
        code="model.unknown_config",
    )
