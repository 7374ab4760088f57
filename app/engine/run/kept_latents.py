"""The latents of a run on disk, so that another engine goes on where this one was ended."""

import contextlib
import hashlib
import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from app.core.atomic import sweep_partials, write_atomic
from app.core.request import GenerationRequest
from app.engine.kept_runs import kept_file
from app.engine.out_of_memory import is_out_of_memory
from app.engine.run.images import RunImages
from app.engine.save_guard import SaveGuard

log = logging.getLogger(__name__)

AT_RISK_S = 2.0
"""Latents are written once those on disk are so much behind: a step that takes longer is written
each time, shorter ones every few."""
SLOW_DISK_FACTOR = 20
"""The next write waits so many times as long as the last one took."""
_PREFIX = "image-"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunIdentity:
    """What latents depend on: only the same may go on with them.

    Attributes:
        request: Without its number of images, which the latents of one do not depend on, and
            without the places of its reference images.
        references: Digests of what is in the reference images' files.
        width_px: That images are really made at.
        height_px: That images are really made at.
        model: Files of the model, with their times and sizes.
        precisions: Of text encoder, transformer and autoencoder.
        device: Kind of device; others round otherwise.
        libraries: Versions.
    """

    request: GenerationRequest
    width_px: int
    height_px: int
    model: object
    precisions: tuple[str, ...]
    device: str
    libraries: tuple[str, ...]
    references: tuple[str, ...] = ()

    def digest(self) -> str:
        """The same text for the same identity, in every process."""
        same = replace(self, request=replace(self.request, images=1, references=()))
        return hashlib.sha256(msgspec.json.encode(same)).hexdigest()


class KeptLatents:
    """One run's file; without a folder nothing is written."""

    def __init__(self, folder: Path | None, job_id: str, *, guard: SaveGuard) -> None:
        self._path = None if folder is None else kept_file(folder, job_id)
        self._guard = guard
        self._next_s = time.perf_counter() + AT_RISK_S
        self._written = False

    def restore(self, images: RunImages, digest: str) -> int:
        """Take over what an earlier engine has left; the most steps of any image, 0 for nothing."""
        if self._path is None:
            return 0
        sweep_partials(self._path.parent)
        found = _read(self._path, digest)
        if found is None:
            return 0
        self._written = True
        images.restore(found)
        return max((step for step, _latents in found.values()), default=0)

    def note_step(self, images: RunImages, digest: str) -> None:
        """A step is done; written when those on disk are too far behind.

        Args:
            images: All of the run.
            digest: Of the run's identity.
        """
        if time.perf_counter() >= self._next_s:
            self.write(images, digest)

    def note_finished(self, images: RunImages, digest: str) -> None:
        """Some images are finished: they need not lie on the disk any more."""
        if not self._written:
            return
        if images.kept():
            self.write(images, digest)
        else:
            self.remove()

    def write(self, images: RunImages, digest: str) -> None:
        """Write the latents of all images under way; where that fails, it costs only this."""
        if self._path is None:
            return
        began_s = time.perf_counter()
        try:
            data = _packed(images, digest)
            with self._guard.writing(self._path.parent):
                write_atomic(self._path, data)
            self._written = True
        except Exception as error:
            # Packing them takes as much RAM again, which is what may be short.
            if not (isinstance(error, OSError | SafetensorError) or is_out_of_memory(error)):
                raise
            log.info("the latents cannot be kept on disk: %s", error)
        now_s = time.perf_counter()
        self._next_s = now_s + max(AT_RISK_S, SLOW_DISK_FACTOR * (now_s - began_s))

    def remove(self) -> None:
        """The run has ended: nobody will go on with it."""
        self._written = False
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()


def _packed(images: RunImages, digest: str) -> bytes:
    """What is written of images under way."""
    kept = images.kept()
    tensors = {f"{_PREFIX}{index}": one.contiguous() for index, (_step, one) in kept.items()}
    steps = {str(index): step for index, (step, _latents) in kept.items()}
    return save(tensors, {"digest": digest, "steps": msgspec.json.encode(steps).decode()})


def _read(path: Path, digest: str) -> dict[int, tuple[int, torch.Tensor]] | None:
    """What lies in a file, or None when there is none, it is of another run, or it is broken."""
    if not path.is_file():
        return None
    try:
        opened: Any = safe_open(path, framework="pt")  # Its class has no types.
        with opened as file:
            metadata: dict[str, str] = file.metadata() or {}
            if metadata.get("digest") != digest:
                log.info("the latents in %s are of another run", path.name)
                return None
            steps = msgspec.json.decode(metadata["steps"], type=dict[int, int])
            return {
                index: (step, file.get_tensor(f"{_PREFIX}{index}")) for index, step in steps.items()
            }
    except (OSError, SafetensorError, msgspec.DecodeError, KeyError) as error:
        log.info("the latents in %s cannot be used: %s", path.name, error)
        return None
