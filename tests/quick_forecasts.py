"""Coefficients of tiny models without a dry run, which takes longer than all tests of a run.

Weights are counted from the files, to the byte. Working memory and time are rough: tests of what
depends on them use the demo, whose coefficients ship.
"""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from safetensors import safe_open

from app.core.policy import Precision
from app.engine.coefficients import ModelCoefficients
from app.engine.model_components import text_layers_read
from app.engine.model_folder import ModelInfo, stored_dtypes
from app.engine.request_counts import reference_size
from app.engine.weight_sizes import aligned_bytes

_FOLDERS = {"text_encoder": "text_encoder", "transformer": "transformer", "autoencoder": "vae"}
_BLOCK = re.compile(r"(single_transformer_blocks|transformer_blocks|layers)\.(\d+)\.")
_NOT_READ = re.compile(r"vision|projector|lm_head|(^|\.)norm\.")
_BYTES = defaultdict(lambda: 4, {Precision.BF16: 2})
"""Of an element; tiny models are too narrow for much to be quantized."""


class _Tensors(NamedTuple):
    """Parameters of tensors: outside blocks, of embeddings, and of each block in running order."""

    outside: list[int]
    tables: list[int]
    blocks: list[list[int]]


Sizes = Sequence[tuple[int, int]]


class QuickCoefficients:
    """What the planner asks of coefficients, for a model of some hundred thousand parameters."""

    def __init__(self, info: ModelInfo) -> None:
        self.name = info.name or info.folder.name
        self.label = info.label
        self.guidance = info.guidance.value
        self.distilled = info.distilled
        self.default_steps = info.default_steps
        self.foreign = ()
        stored = stored_dtypes(info.folder)["transformer"]
        self.stored_precision = Precision.FP32 if stored == "float32" else Precision.BF16
        self._counts = {
            name: _counts(info.folder / one, text_layers_read(info.text_out_layers))
            for name, one in _FOLDERS.items()
        }

    def weights_bytes(
        self, component: str, precision: Precision, beside: Precision = Precision.BF16
    ) -> int:
        del beside
        return self._bytes(self._counts[component].outside, precision) + sum(
            self.block_bytes(component, precision)
        )

    def ram_only_bytes(
        self, component: str, precision: Precision, beside: Precision = Precision.BF16
    ) -> int:
        del beside
        return self._bytes(self._counts[component].tables, precision)

    def block_bytes(
        self, component: str, precision: Precision, beside: Precision = Precision.BF16
    ) -> tuple[int, ...]:
        del beside
        blocks = self._counts[component].blocks
        return tuple(self._bytes(block, precision) for block in blocks)

    def _bytes(self, tensors: list[int], precision: Precision) -> int:
        return sum(aligned_bytes(_BYTES[precision] * count) for count in tensors)

    def encode_working_bytes(self, *, prompts: int, precision: Precision, **_: Any) -> int:
        return prompts * 512 * 512 * _BYTES[precision]

    def denoise_working_bytes(
        self,
        *,
        images: int,
        width_px: int,
        height_px: int,
        precision: Precision,
        references: Sizes = (),
        **_: Any,
    ) -> int:
        tokens = 512 + width_px * height_px // 256 + _reference_tokens(references)
        return images * tokens * 1000 * _BYTES[precision]

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
        side = max(width_px, height_px)
        side = side if tile_px is None else min(side, tile_px)
        joined = images * width_px * height_px * (6 if in_ram else 3)
        return (images * side * side * 40 + joined) * _BYTES[precision]

    def encode_flops(self, *, prompts: int) -> int:
        return prompts * 10**8

    def encode_reference_working_bytes(
        self, *, width_px: int, height_px: int, precision: Precision
    ) -> int:
        return _reference_tokens([(width_px, height_px)]) * 256 * 40 * _BYTES[precision]

    def preview_fit_working_bytes(self, *, precision: Precision) -> int:
        return 256 * 256 * 40 * _BYTES[precision]

    def encode_reference_flops(self, *, width_px: int, height_px: int) -> int:
        return _reference_tokens([(width_px, height_px)]) * 256 * 10**4

    def denoise_step_flops(
        self,
        *,
        images: int,
        width_px: int,
        height_px: int,
        references: Sizes = (),
    ) -> int:
        pixels = width_px * height_px + 256 * _reference_tokens(references)
        return images * pixels * 10**4

    def decode_flops(self, *, images: int, width_px: int, height_px: int) -> int:
        return images * width_px * height_px * 10**4


def quick_coefficients(info: ModelInfo) -> ModelCoefficients:
    return cast("ModelCoefficients", QuickCoefficients(info))


def use_quick_forecasts(replace: Callable[[object, str, object], None] = setattr) -> None:
    """Have this process measure no model; `replace` may be that of monkeypatch."""
    from app.engine.run import preparing

    known = preparing.coefficients_for
    measured: dict[Path, ModelCoefficients] = {}

    def find(info: ModelInfo, cache: Path) -> ModelCoefficients | None:
        return known(info, cache) or measured.get(info.folder)

    def measure(info: ModelInfo, _cache: Path) -> ModelCoefficients:
        return measured.setdefault(info.folder, quick_coefficients(info))

    replace(preparing, "coefficients_for", find)
    replace(preparing, "forecast_model", measure)


def _reference_tokens(references: Sizes) -> int:
    return sum(math.prod(edge // 16 for edge in reference_size(*one)) for one in references)


def _counts(folder: Path, layers_read: int) -> _Tensors:
    """Of the files' tensors those that are read."""
    outside: list[int] = []
    tables: list[int] = []
    blocks: dict[tuple[bool, int], list[int]] = defaultdict(list)
    for file in sorted(folder.glob("*.safetensors")):
        opened: Any = safe_open(file, framework="pt")
        with opened as weights:
            for name in weights.keys():  # noqa: SIM118 - no dict
                count = 1
                for length in weights.get_slice(name).get_shape():
                    count *= length
                match = _BLOCK.search(name)
                if folder.name == "text_encoder" and _NOT_READ.search(name):
                    continue
                if "embed_tokens" in name:
                    tables.append(count)
                elif match is None or folder.name == "vae":
                    outside.append(count)
                elif match[1] != "layers" or int(match[2]) < layers_read:
                    blocks[match[1].startswith("single"), int(match[2])].append(count)
    return _Tensors(outside, tables, [blocks[key] for key in sorted(blocks)])
