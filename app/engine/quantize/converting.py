"""Quantizing a network while its weights are read, into a file that is opened the next time."""

import contextlib
import errno
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import torch
from torch import nn

from app.core.atomic import atomic_file, sweep_partials
from app.core.errors import EngineError, ModelError
from app.core.units import format_bytes
from app.engine.out_of_memory import is_out_of_memory
from app.engine.quantize.file_layout import (
    FileLayout,
    Group,
    is_gap,
    lay_out_file,
    read_checks,
    stretches_of,
)
from app.engine.quantize.kept_files import SUFFIX, remove_outdated, sources_text, told
from app.engine.quantize.linear import QuantizedLinear
from app.engine.quantize.piece_flow import WriteBehind, work_ahead
from app.engine.quantize.recipe import FORMAT_VERSION, Recipe
from app.engine.quantize.running_checks import RunningChecks
from app.engine.quantize.skeleton import named_modules, quantized_skeleton
from app.engine.quantize.source_key import source_key
from app.engine.quantize.source_piece import Piece, pieces_of
from app.engine.quantize.ways import way_for
from app.engine.residency.blocks import streamable_blocks
from app.engine.residency.host_store import find_missing
from app.engine.residency.leaves import ModuleTensors
from app.engine.stored_weights import DamagedFileError, Stored, StoredTensor, stored_tensors

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Takes the bytes that were written, and all that will be."""
_CPU = torch.device("cpu")
_SPARE_BYTES = 64 << 20
"""Left free on the disk."""


MAX_WORKERS = 8
"""Threads that compute codes on the CPU: more than a disk has work for, and pieces for each."""


def _ignore(_done_bytes: int, _total_bytes: int) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """How weights are converted.

    Attributes:
        recipe: What becomes of them.
        folder: Where converted files are kept.
        model: Label of the model, for lists of the files.
        device: Where codes are computed.
        progress: Told while a file is written.
        check: Called often; may raise to stop, and nothing is left behind.
        opened: Told the file that is used from now on.
    """

    recipe: Recipe
    folder: Path
    model: str = ""
    device: torch.device = _CPU
    progress: Progress = _ignore
    check: Callable[[], None] = lambda: None
    opened: Callable[[Path], None] = lambda _path: None


def open_converted(
    component: str, network: nn.Module, stored: Stored, conversion: Conversion
) -> Stored:
    """Weights for a network in fewer bits: of a file that is there, or is made now.

    Args:
        component: "text_encoder" or "transformer".
        network: On "meta", in the types that are to be run; its layers become quantized ones.
        stored: Its weights by the names of its tensors; what it computes itself is in no file.
        conversion: How.

    Returns:
        The weights by the names of the quantized network's tensors.

    Raises:
        DamagedFileError: What was written cannot be read.
        EngineError: The disk has no room for the file, or its folder cannot be written to.
        OSError: A file cannot be read.
    """
    path = converted_path(component, network, stored, conversion)
    # Tried here, while the device is still empty, not in the first step.
    for dtype in {tensor.dtype for tensor in network.parameters()}:
        way_for(conversion.recipe.precision, conversion.device, dtype)
    layers = quantized_skeleton(network, conversion.recipe)
    kept = _kept(path, network)
    if kept is None:
        _Writer(component, network, layers, stored, conversion).write(path)
        try:
            kept = _with_checks(path)
        except (ModelError, ValueError, OSError) as error:
            # The disk has not kept it; or, on Windows, an old one that another engine has mapped
            # could not be replaced.
            raise DamagedFileError(path) from error
    conversion.opened(path)
    return kept


def _kept(path: Path, network: nn.Module) -> Stored | None:
    """What a converted file holds; None when there is none, or it was damaged, and is removed."""
    if not path.is_file():
        return None
    found: Stored = {}
    try:
        found = _with_checks(path)
        missing = find_missing(network, found)
        damage = missing.absent or missing.of_another_shape
    except (ModelError, ValueError, OSError) as error:
        damage = str(error)
    if damage:
        log.info("a converted file is damaged and made again: %s", damage)
        with contextlib.suppress(OSError):
            path.unlink()
        return None
    # The last use is what a list of the files is ordered by.
    with contextlib.suppress(OSError):
        os.utime(path)
    return found


def _with_checks(path: Path) -> Stored:
    """What a converted file holds; what is read of it is compared with its checksums.

    Raises:
        ModelError: Its header is damaged.
        ValueError: It has not all checksums.
    """
    checks = read_checks(path)
    found: dict[str, StoredTensor] = {}
    for name, tensor in stored_tensors([path]).items():
        known = checks.get(name, ())
        if not is_gap(name) and len(known) != stretches_of(tensor.nbytes):
            raise ValueError(f"no checksums of {name}")
        found[name] = replace(tensor, checks=known)
    return found


def converted_path(
    component: str, network: nn.Module, stored: Stored, conversion: Conversion
) -> Path:
    """Where the converted file of some weights is, or would be.

    Raises:
        OSError: The source cannot be read.
    """
    types = sorted({str(tensor.dtype) for tensor in network.parameters()})
    names = sorted(name for name, _ in network.named_parameters())
    key = source_key({tensor.path for tensor in stored.values()})
    digest = conversion.recipe.digest(key, component, types, names)
    return conversion.folder / f"{component}-{conversion.recipe.precision.value}-{digest}{SUFFIX}"


class _Writer:
    def __init__(
        self,
        component: str,
        network: nn.Module,
        layers: dict[str, QuantizedLinear],
        stored: Stored,
        conversion: Conversion,
    ) -> None:
        self._component = component
        self._layers = layers
        self._stored = stored
        self._conversion = conversion
        self._groups = tuple(_groups(component, network, layers, stored))

    def write(self, path: Path) -> None:
        conversion = self._conversion
        about = told(
            self._component,
            conversion.recipe.precision,
            conversion.model,
            sources=sources_text(tensor.path for tensor in self._stored.values()),
            format=FORMAT_VERSION,
        )
        layout = lay_out_file(self._groups, about)
        try:
            # The folder may be made anew, and a killed writer may have left much behind.
            path.parent.mkdir(parents=True, exist_ok=True)
            sweep_partials(path.parent)
            remove_outdated(path.parent)
            if shutil.disk_usage(path.parent).free < layout.size_bytes + _SPARE_BYTES:
                raise self._no_room(path, layout)
            log.info("converting the %s to %s", self._component, conversion.recipe.precision.value)
            with atomic_file(path) as file:
                self._write_all(file, layout)
        except OSError as error:
            if path.is_file():
                # Windows lets nobody take the name of a file that another engine has mapped.
                log.info("another engine has made the converted file meanwhile (%s)", error)
                return
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise self._no_room(path, layout) from error
            if is_out_of_memory(error):
                raise
            raise self._refused(path, error) from error

    def _write_all(self, file: BinaryIO, layout: FileLayout) -> None:
        conversion = self._conversion
        # The data comes first: its checksums stand in the header.
        file.seek(layout.header_bytes)
        done_bytes = layout.header_bytes
        checks = RunningChecks()
        on_cpu = conversion.device.type == "cpu"
        workers = max(1, min(MAX_WORKERS, torch.get_num_threads())) if on_cpu else 1
        read = work_ahead(self._pieces(), _read, "quantize-reader")
        with WriteBehind(file) as writer, contextlib.closing(read):
            made = work_ahead(read, self._made, "quantize-worker", threads=workers, ahead=workers)
            with contextlib.closing(made):
                for piece, tensors in made:
                    conversion.check()
                    for name, tensor in tensors.items():
                        row_bytes = tensor.nbytes // max(len(tensor), 1) if piece.first_row else 0
                        checks.add(name, tensor)
                        writer.put(layout.places[name] + piece.first_row * row_bytes, tensor)
                        done_bytes += tensor.nbytes
                    conversion.progress(done_bytes, layout.size_bytes)
        file.seek(0)
        file.write(layout.header(checks.checks()))
        conversion.progress(layout.size_bytes, layout.size_bytes)

    def _made(
        self, content: tuple[Piece, torch.Tensor]
    ) -> tuple[Piece, Mapping[str, torch.Tensor]]:
        piece, numbers = content
        layer = self._layers.get(piece.name)
        if layer is None:
            return piece, {piece.name: numbers}
        conversion = self._conversion
        codes, scales = layer.encode_all(numbers, conversion.device, conversion.check)
        return piece, {f"{piece.name}.codes": codes, f"{piece.name}.scales": scales}

    def _pieces(self) -> Iterator[Piece]:
        for group in self._groups:
            for span in group.spans():
                name = f"{group.prefix}{span.name}"
                owner, _, part = name.rpartition(".")
                if owner not in self._layers or part == "bias":
                    yield from pieces_of(name, self._stored[name], span.dtype)
                elif part == "codes":  # Scales are made with their codes.
                    weight = self._stored[f"{owner}.weight"]
                    yield from pieces_of(owner, weight, weight.dtype)

    def _refused(self, path: Path, error: OSError) -> EngineError:
        precision = self._conversion.recipe.precision.value
        return EngineError(
            f"Weights in {precision} are kept in a file, which cannot be written in {path.parent} "
            f"({error.strerror or error}): allow writing there, or choose another precision.",
            code="engine.converted_unwritable",
            details=str(error),
        )

    def _no_room(self, path: Path, layout: FileLayout) -> EngineError:
        precision = self._conversion.recipe.precision.value
        return EngineError(
            f"Weights in {precision} are kept in a file, which needs "
            f"{format_bytes(layout.size_bytes)} in {path.parent}, and the disk has less: free some "
            "space there, remove converted weights of other models, or choose another precision.",
            code="engine.no_disk_space",
        )


def _read(piece: Piece) -> tuple[Piece, torch.Tensor]:
    return piece, piece.read()


def _groups(
    component: str, network: nn.Module, layers: dict[str, QuantizedLinear], stored: Stored
) -> Iterator[Group]:
    """What a network has besides its blocks, and its blocks."""
    blocks = streamable_blocks(component, network)
    prefixes = {id(module): f"{name}." for name, module in named_modules(network)}
    whole = [("", ModuleTensors(network, without=blocks))]
    for prefix, tensors in (*whole, *((prefixes[id(b)], ModuleTensors(b)) for b in blocks)):
        computed = frozenset(
            span.name
            for span in tensors.layout.spans
            if f"{prefix}{span.name}" not in stored
            and f"{prefix}{span.name}".rpartition(".")[0] not in layers
        )
        yield Group(prefix=prefix, layout=tensors.layout, left_out=computed)
