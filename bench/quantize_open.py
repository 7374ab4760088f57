"""How long it takes to open a converted file of real size: klein-9B with files full of nothing.

The files are sparse, so they take no room; what is measured is all that is done before weights are
read: the source is recognised, the network is built, the tensors are found and mapped.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from diffusers.models.transformers.transformer_flux2 import Flux2Transformer2DModel

from app.core.policy import Precision
from app.engine.quantize.converting import Conversion, converted_path, open_converted
from app.engine.quantize.file_layout import FileLayout, Group, lay_out_file, stretches_of
from app.engine.quantize.kept_files import told
from app.engine.quantize.recipe import Recipe
from app.engine.quantize.skeleton import named_modules, quantized_skeleton
from app.engine.residency.blocks import streamable_blocks
from app.engine.residency.leaves import ModuleTensors
from app.engine.stored_weights import MappedFiles, stored_tensors

KLEIN_9B = {
    "num_layers": 8,
    "num_single_layers": 24,
    "num_attention_heads": 32,
    "joint_attention_dim": 12288,
    "guidance_embeds": False,
}


def measure_open(precision: Precision = Precision.FP8) -> dict[str, Any]:
    """Seconds by what is done, and sizes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "source.safetensors"
        source_bytes = _write_sparse(source, _groups(_network()), {})
        stored = stored_tensors([source])
        conversion = Conversion(recipe=Recipe(precision=precision), folder=folder)
        target = converted_path("transformer", _network(), stored, conversion)
        made = _network()
        quantized_skeleton(made, conversion.recipe)
        about = told("transformer", precision, "klein-9B")
        target_bytes = _write_sparse(target, _groups(made), about)
        began_s = time.perf_counter()
        network = _network()
        built_s = time.perf_counter()
        opened = open_converted("transformer", network, stored, conversion)
        files = MappedFiles()
        mapped_bytes = sum(files.tensor(tensor).nbytes for tensor in opened.values())
        opened_s = time.perf_counter()
        del files
    return {
        "model": "klein-9B transformer",
        "precision": precision.value,
        "source_bytes": source_bytes,
        "converted_bytes": target_bytes,
        "mapped_bytes": mapped_bytes,
        "build_network_s": built_s - began_s,
        "open_and_map_s": opened_s - built_s,
        "target_s": 2.0,
    }


def _network() -> torch.nn.Module:
    config: dict[str, Any] = KLEIN_9B
    with torch.device("meta"):
        made: Any = Flux2Transformer2DModel(**config)
    return torch.nn.Module.to(made, torch.bfloat16)


def _groups(network: torch.nn.Module) -> list[Group]:
    blocks = streamable_blocks("transformer", network)
    prefixes = {id(module): f"{name}." for name, module in named_modules(network)}
    rest = Group(prefix="", layout=ModuleTensors(network, without=blocks).layout)
    return [
        rest,
        *(Group(prefix=prefixes[id(b)], layout=ModuleTensors(b).layout) for b in blocks),
    ]


def _stretches(layout: FileLayout) -> dict[str, int]:
    return {name: stretches_of(size_bytes) for name, size_bytes in layout.sizes.items()}


def _write_sparse(path: Path, groups: list[Group], about: dict[str, str]) -> int:
    layout = lay_out_file(groups, about)
    with path.open("wb") as file:
        # Of a file that is not read, any will do.
        file.write(layout.header({name: (0,) * n for name, n in _stretches(layout).items()}))
        file.truncate(layout.size_bytes)
    return layout.size_bytes
