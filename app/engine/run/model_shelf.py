"""The model that is loaded, kept from job to job, and where its weights are."""

import gc
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from app.core.plan import GenerationPlan
from app.engine.cancel import CancelPoints
from app.engine.compute_device import ComputeDevice
from app.engine.host_memory import give_back_host_memory
from app.engine.loader import (
    LoadedModel,
    ModelKey,
    load_model,
    load_text_encoder,
    model_key,
    networks,
)
from app.engine.model_folder import ModelInfo
from app.engine.placement import Placer
from app.engine.planning.components import TEXT_ENCODER
from app.engine.preview import fit_preview_matrix
from app.engine.quantize.converting import Conversion
from app.engine.reference_latents import ReferenceCache
from app.engine.residency.host_network import HostNetwork
from app.engine.run.host_side import host_store

FileBlocks = Mapping[str, frozenset[int]]
"""Numbers of blocks by component."""
_NONE: frozenset[int] = frozenset()


def file_blocks_of(plan: GenerationPlan) -> dict[str, frozenset[int]]:
    """Which blocks a plan has on the disk."""
    return {part.name: frozenset(part.file_blocks) for part in plan.components}


class ModelShelf:
    """Holds at most one model; all its weights are in RAM, some of them lent to the device.

    Attributes:
        device: The weights are lent to.
        model: That is loaded, or None.
        references: Reference images that it has encoded.
        between_blocks: Called before each block whose weights come and go.
    """

    def __init__(self, device: ComputeDevice, cancel: CancelPoints) -> None:
        self.device = device
        self.model: LoadedModel | None = None
        self.references = ReferenceCache()
        self.between_blocks: Callable[[], None] = nothing
        self._cancel = cancel
        self._placer: Placer | None = None
        self._key: ModelKey | None = None
        self._store = host_store(device)
        self._converted: dict[str, Path] = {}

    @property
    def placer(self) -> Placer:
        """Moves the weights of the loaded model.

        Raises:
            RuntimeError: No model is loaded.
        """
        if self._placer is None:
            raise RuntimeError("no model is loaded")
        return self._placer

    def placed_bytes(self) -> tuple[int, int]:
        """On the device now: of weights that stay for now, and of slots for the others."""
        placer = self._placer
        return (0, 0) if placer is None else (placer.resident_bytes(), placer.slots_bytes())

    def find(self, folder: Path) -> LoadedModel | None:
        """The loaded model if it is a folder's and the files are the same.

        It may be without its text encoder: see `has_text_encoder`.
        """
        self._key = model_key(folder)
        if self.model is None or self.model.key != self._key:
            return None
        # Blocks on the disk are read by the file's name: the user may have removed it meanwhile.
        if not all(path.is_file() for path in self._converted.values()):
            return None
        return self.model

    def has_text_encoder(self) -> bool:
        """Whether the loaded model can encode prompts."""
        return self._placer is not None and self._placer.holds(TEXT_ENCODER)

    def load(
        self,
        info: ModelInfo,
        dtypes: Mapping[str, torch.dtype],
        check: Callable[[], None],
        *,
        conversions: Mapping[str, Conversion] | None = None,
        needs_text_encoder: bool = True,
        file_blocks: FileBlocks | None = None,
        progress: Callable[[int], None] = lambda _bytes: None,
    ) -> LoadedModel:
        """Read a model, in the place of the one that is here, and place nothing yet.

        Args:
            info: About its folder, which `find` was asked for before.
            dtypes: Of the weights, by folder.
            check: Called between components; may raise to stop.
            conversions: Of the components that are quantized, by folder.
            needs_text_encoder: Whether that is loaded, too.
            file_blocks: Blocks that stay on the disk, by component.
            progress: Told how many bytes more are loaded.
        """
        # First, so that two models are never in memory at once.
        self.drop()
        key = self._key or model_key(info.folder)
        model = load_model(
            info,
            key,
            self.device.torch_device,
            check,
            dtypes=dtypes,
            conversions={
                name: self._noted(name, conversion)
                for name, conversion in (conversions or {}).items()
            },
            store=self._store,
            file_blocks=file_blocks,
            progress=progress,
            needs_text_encoder=needs_text_encoder,
        )
        parts = networks(model.pipeline)
        for network in parts.values():
            self._cancel.watch(network)
        self._placer = Placer(
            {**parts, **model.hosts}, self.device, between_blocks=lambda: self.between_blocks()
        )
        self.model = model
        return model

    def load_text_encoder(
        self,
        check: Callable[[], None],
        *,
        conversion: Conversion | None = None,
        file_blocks: FileBlocks | None = None,
        progress: Callable[[int], None] = lambda _bytes: None,
    ) -> None:
        """Read the text encoder of the loaded model, which has none.

        Args:
            check: Called between pieces; may raise to stop.
            conversion: When it is quantized.
            file_blocks: Blocks that stay on the disk, by component.
            progress: Told how many bytes more are loaded.
        """
        model, placer = self.model, self.placer
        if model is None:
            raise RuntimeError("no model is loaded")
        on_disk = (file_blocks or {}).get(TEXT_ENCODER, _NONE)
        noted = None if conversion is None else self._noted(TEXT_ENCODER, conversion)
        load_text_encoder(
            model,
            self.device.torch_device,
            check,
            conversion=noted,
            store=self._store,
            file_blocks=on_disk,
            progress=progress,
        )
        self._cancel.watch(model.pipeline.text_encoder)
        placer.add(TEXT_ENCODER, model.hosts[TEXT_ENCODER])

    def forget_text_encoder(self) -> int:
        """Give its RAM back, once its embeddings are made; it is read again when it is needed.

        Returns:
            Bytes that were given back; 0 when it was gone already.
        """
        if self.model is None or self._placer is None or not self._placer.holds(TEXT_ENCODER):
            return 0
        freed_bytes = self._placer.forget(TEXT_ENCODER)
        self._converted.pop(TEXT_ENCODER, None)
        self.model.pipeline.text_encoder = None
        self.model.hosts = {
            name: host for name, host in self.model.hosts.items() if name != TEXT_ENCODER
        }
        self.release()
        return freed_bytes

    def place(self, plan: GenerationPlan, *, cancellable: bool = True) -> None:
        """Have the weights placed as a plan says.

        Args:
            plan: To carry out.
            cancellable: Whether to look between pieces of weights that move in RAM if the job is
                to stop; not when all of it is done.

        Raises:
            CancelRequestedError: The job is to stop.
            torch.OutOfMemoryError: The device has no room for what is to stay on it.
            ModelError: What is to be in RAM again cannot be read from the disk.
        """
        check = self._cancel.flag.check if cancellable else nothing
        wanted = file_blocks_of(plan)
        hosts: Mapping[str, HostNetwork] = {} if self.model is None else self.model.hosts
        moves = {
            host: wanted.get(name, _NONE)
            for name, host in hosts.items()
            if self._store.would_move(host, wanted.get(name, _NONE))
        }

        def rearrange() -> None:
            for host, blocks in moves.items():
                self._store.follow(host, blocks, check)
            # What streamed before may still hold the RAM, in a circle.
            gc.collect()

        self.placer.replace(plan.components, rearrange=rearrange if moves else None)

    def fit_previews(self, model: LoadedModel) -> None:
        """Have the model ready for previews."""
        with self.placer.phase("autoencoder"):
            model.preview_matrix = fit_preview_matrix(model, self.device)

    def evict(self) -> None:
        """Take all weights from the device and give back what nobody uses."""
        if self._placer is not None:
            self._placer.evict()
        self.release()

    def release(self) -> None:
        """Give memory back that nobody uses."""
        if self._placer is not None:
            self._placer.settle()
        gc.collect()
        self.device.release_cached()
        give_back_host_memory()

    def drop(self) -> None:
        """Have no model."""
        self.references.clear()
        self._converted.clear()
        if self._placer is not None:
            self._placer.evict()
            self.model = self._placer = None
            self.release()

    def _noted(self, name: str, conversion: Conversion) -> Conversion:
        """The same, and `find` knows the component's file."""
        return replace(conversion, opened=partial(self._converted.__setitem__, name))


def nothing() -> None:
    """Nobody wants to know."""
