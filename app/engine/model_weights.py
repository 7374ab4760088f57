"""Finding a component's weight files, checked for completeness by their headers."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from app.core.errors import ModelError
from app.engine.model_json import convert_config, missing_file, read_json
from app.engine.quantize.gguf_file import GGUF_SUFFIX, read_gguf
from app.engine.safetensors_header import TensorEntry, read_header

PICKLE_SUFFIXES = frozenset({".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentWeights:
    """Weights of one component, as their headers tell.

    Attributes:
        component: Name of its folder, such as "transformer".
        files: The safetensors files, or one GGUF file.
        tensors: All tensors by name.
        file_bytes: Size of the files together.
    """

    component: str
    files: tuple[Path, ...]
    tensors: dict[str, TensorEntry]
    file_bytes: int

    def dtype(self) -> str:
        """The type most of the bytes are stored in, as torch calls it: "bfloat16"."""
        sizes: dict[str, int] = {}
        for tensor in self.tensors.values():
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + tensor.size_bytes
        return max(sizes, key=lambda dtype: sizes[dtype])

    def layer_count(self, prefix: str) -> int:
        """How many numbered layers there are under a prefix, such as "transformer_blocks."."""
        numbers = {
            name.removeprefix(prefix).partition(".")[0]
            for name in self.tensors
            if name.startswith(prefix)
        }
        return len(numbers)


class _Index(msgspec.Struct, frozen=True):
    weight_map: dict[str, str]


def read_weights(folder: Path, stem: str) -> ComponentWeights:
    """Headers of all weight files of a component's folder.

    Args:
        folder: The component's folder.
        stem: File name of its weights without suffix: "diffusion_pytorch_model" or "model".

    Raises:
        ModelError: No safetensors weights, pickled ones only, a shard is missing, or a file is
            truncated or broken.
    """
    files = _weight_files(folder, stem)
    tensors: dict[str, TensorEntry] = {}
    for file in files:
        tensors.update(read_gguf(file) if file.suffix == GGUF_SUFFIX else read_header(file))
    return ComponentWeights(
        component=folder.name,
        files=files,
        tensors=tensors,
        file_bytes=sum(file.stat().st_size for file in files),
    )


def _weight_files(folder: Path, stem: str) -> tuple[Path, ...]:
    if not folder.is_dir():
        raise missing_file(folder)
    single = folder / f"{stem}.safetensors"
    if single.is_file():
        return (single,)
    index = folder / f"{stem}.safetensors.index.json"
    if index.is_file():
        return _shards(folder, index)
    quantized = sorted(path for path in folder.iterdir() if path.suffix == GGUF_SUFFIX)
    if quantized and folder.name == "transformer":
        if len(quantized) > 1:
            raise ModelError(
                f"The folder {folder} holds several GGUF files: leave only the one to run.",
                code="model.unknown_config",
            )
        return (quantized[0],)
    pickles = sorted(
        path.name for path in folder.iterdir() if path.suffix.lower() in PICKLE_SUFFIXES
    )
    if pickles:
        raise ModelError(
            f"The weights in {folder} are pickle files ({pickles[0]}), which can run any program "
            "when they are opened: get the model as safetensors files.",
            code="model.pickle",
        )
    raise missing_file(single)


def _shards(folder: Path, index: Path) -> tuple[Path, ...]:
    names = set(convert_config(read_json(index), _Index, index).weight_map.values())
    # A shard stands beside its index: a name with a path in it would reach for another folder.
    if not names or not all(
        name.endswith(".safetensors") and Path(name).name == name for name in names
    ):
        raise ModelError(
            f"The weights' index {index} does not list safetensors files of its folder: "
            "download it again from the model's source.",
            code="model.broken_json",
        )
    shards = tuple(folder / name for name in sorted(names))
    for shard in shards:
        if not shard.is_file():
            raise missing_file(shard)
    return shards
