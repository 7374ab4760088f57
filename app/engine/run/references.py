"""The reference images of one run: read once when it begins, encoded before its first step."""

from dataclasses import dataclass

import torch

from app.core.errors import EngineError, OutOfVramError
from app.core.events import Notice
from app.core.jobs import Job, Phase
from app.core.metadata import ReferenceRecord
from app.core.reference_image import ReferenceFile, read_reference
from app.engine.loader import LoadedModel
from app.engine.reference_latents import (
    ReferenceCache,
    encode_reference,
    encode_reference_on_cpu,
)
from app.engine.run.attempts import Attempts
from app.engine.run.context import RunContext


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReferences:
    """Files that were read, and the digests of what is in them.

    Attributes:
        files: In the request's order.
        digests: Of each.
    """

    files: tuple[ReferenceFile, ...]
    digests: tuple[str, ...]

    @classmethod
    def read(cls, job: Job) -> "RunReferences":
        """Read all files of a job's request.

        Raises:
            RequestError: One of them cannot be a reference image.
        """
        files = tuple(read_reference(path) for path in job.request.references)
        return cls(files=files, digests=tuple(file.digest() for file in files))

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Width and height of each, for the plan."""
        return tuple(file.size for file in self.files)

    def records(self) -> tuple[ReferenceRecord, ...]:
        """What a picture says about them."""
        return tuple(
            ReferenceRecord.of(file.path, digest)
            for file, digest in zip(self.files, self.digests, strict=True)
        )

    def are_in(self, cache: ReferenceCache) -> bool:
        """Whether all were encoded before."""
        return all(digest in cache for digest in self.digests)

    def encode(
        self, context: RunContext, attempts: Attempts, model: LoadedModel
    ) -> tuple[torch.Tensor, ...]:
        """The latents of all, on the CPU; those encoded before are taken from the cache.

        Where the device has no room for it, however little else is on it, the CPU encodes.

        Raises:
            RequestError: A file is damaged behind its first bytes.
            OutOfVramError: The computer's RAM ran out.
            EngineError: What comes out are no numbers.
        """
        cache, device = context.shelf.references, context.device
        pairs = tuple(zip(self.files, self.digests, strict=True))
        latents: dict[str, torch.Tensor] = {}

        def encode_next() -> bool:
            left = [pair for pair in pairs if pair[1] not in latents]
            if not left:
                return False
            file, digest = left[0]
            kept = cache.get(digest)
            if kept is None:
                kept = _encoded(context, attempts, model, file)
                cache.put(digest, kept)
            latents[digest] = kept
            return True

        try:
            while attempts.run(Phase.ENCODE, encode_next, waits=False):
                attempts.note_progress()
        except OutOfVramError:
            if device.kind == "cpu":
                raise
            context.send(_told_of_cpu(context.job))
            for file, digest in pairs:
                if digest not in latents:
                    with device.on_host():
                        latents[digest] = encode_reference_on_cpu(model, file.pixels())
        if not all(bool(torch.isfinite(grid).all()) for grid in latents.values()):
            raise EngineError(
                "The autoencoder turned a reference image into numbers that are not finite: "
                "the model's files may be damaged.",
                code="engine.bad_image",
            )
        return tuple(latents[digest] for digest in self.digests)


def _encoded(
    context: RunContext, attempts: Attempts, model: LoadedModel, file: ReferenceFile
) -> torch.Tensor:
    picture = file.pixels()
    attempts.place()
    placer = context.shelf.placer
    with placer.phase("autoencoder"), context.device.watch(Phase.ENCODE):
        return encode_reference(model, picture, context.device)


def _told_of_cpu(job: Job) -> Notice:
    return Notice(
        job_id=job.id,
        code="memory.references_on_cpu",
        message=(
            "The device has no room to encode the reference images, so the CPU does it: "
            "this takes longer, and the picture is the same but for roundings."
        ),
    )
