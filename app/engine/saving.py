"""Saving a job's images, each with the record of how it was made."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from PIL import Image

from app.core.errors import AppError, ErrorInfo
from app.core.events import EngineMemory, ImageDone
from app.core.jobs import Job
from app.core.metadata import ImageRecord, ReferenceRecord
from app.core.naming import NameFields
from app.core.plan import GenerationPlan
from app.core.run_report import PhaseReport, TakenRung
from app.engine.model_folder import ModelInfo
from app.engine.output import encode_png, write_png
from app.engine.planning.components import AUTOENCODER, TEXT_ENCODER, TRANSFORMER
from app.engine.save_guard import SaveGuard


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSaver:
    """What the images of one job have in common.

    Attributes:
        job: They were made for.
        info: About the model.
        app_version: Of Headroom.
        seconds: Per phase before saving.
        memory: After the last phase before saving.
        guard: Around each file.
        plan: They were made by.
        rungs: Taken during the run.
        phases: Planned and measured, before saving.
        references: The reference images.
        products: As in `ImageRecord`.
    """

    job: Job
    info: ModelInfo
    app_version: str
    seconds: dict[str, float]
    memory: EngineMemory
    guard: SaveGuard
    plan: GenerationPlan
    rungs: tuple[TakenRung, ...] = ()
    phases: tuple[PhaseReport, ...] = ()
    references: tuple[ReferenceRecord, ...] = ()
    products: Mapping[str, str] = field(default_factory=dict[str, str])

    def save(self, rgb: bytes, index: int) -> ImageDone:
        """Write image `index`; what cannot be written is handed back as a whole PNG file.

        Tried again after memory ran out behind the writing, it finds the file and writes no other.
        """
        request, receipts = self.job.request, self.guard.receipts
        path = None if receipts is None else receipts.path_of(index)
        if path is not None:
            return self._done(index, path=path)
        created = datetime.now().astimezone()
        width_px, height_px = self._size()
        png = encode_png(
            self._scaled(rgb),
            width_px=width_px,
            height_px=height_px,
            record=self._record(index, created) if self.job.output.metadata else None,
        )
        naming = NameFields(
            created=created,
            seed=request.seed_of(index),
            index=index + self.job.output.first_index,
            model=self._model_name(),
            prompt=request.prompt,
            width_px=width_px,
            height_px=height_px,
            steps=request.steps,
            job_id=self.job.id,
        )
        target = self.job.output
        folder = Path(target.folder) if target.file is None else Path(target.file).parent
        problem: ErrorInfo | None = None
        try:
            with self.guard.writing(folder):
                path = str(
                    write_png(
                        png,
                        target,
                        naming,
                        on_name=None
                        if receipts is None
                        else lambda name: receipts.note(index, name, png),
                    )
                )
        except AppError as error:
            problem = error.info()
        return self._done(index, path=path, problem=problem, png=None if problem is None else png)

    def _done(
        self,
        index: int,
        *,
        path: str | None,
        problem: ErrorInfo | None = None,
        png: bytes | None = None,
    ) -> ImageDone:
        return ImageDone(
            job_id=self.job.id,
            index=index,
            seed=self.job.request.seed_of(index),
            path=path,
            problem=problem,
            png=png,
        )

    def _size(self) -> tuple[int, int]:
        """Of the files."""
        if self.job.policy.upscale_back:
            return self.job.request.width_px, self.job.request.height_px
        return self.plan.width_px, self.plan.height_px

    def _scaled(self, rgb: bytes) -> bytes:
        """The pixels at the files' size: the same, unless they were made smaller than asked for."""
        made = (self.plan.width_px, self.plan.height_px)
        if self._size() == made:
            return rgb
        picture = Image.frombytes("RGB", made, rgb)
        return picture.resize(self._size(), Image.Resampling.LANCZOS).tobytes()

    def _model_name(self) -> str:
        return self.info.name or self.info.folder.name

    def _asked_precisions(self) -> dict[str, str]:
        asked = self.job.policy.precisions
        return {
            TEXT_ENCODER: asked.text_encoder.value,
            TRANSFORMER: asked.transformer.value,
            AUTOENCODER: asked.autoencoder.value,
        }

    def _record(self, index: int, created: datetime) -> ImageRecord:
        # Pictures are given away: where the model lies on this machine is nobody else's business.
        request = replace(self.job.request, model=self._model_name(), references=())
        return ImageRecord(
            request=request,
            app_version=self.app_version,
            model_label=self.info.label,
            model_name=self.info.name,
            index=index,
            seed=request.seed_of(index),
            seconds=self.seconds,
            peak_device_bytes=self.memory.device_peak_bytes,
            peak_host_bytes=self.memory.host_peak_rss_bytes,
            created=created.isoformat(timespec="seconds"),
            made_width_px=self.plan.width_px,
            made_height_px=self.plan.height_px,
            resampled=self._size() != (self.plan.width_px, self.plan.height_px),
            verdict=self.plan.verdict.value,
            changes=self.plan.changes,
            rungs=self.rungs,
            phases=self.phases,
            precisions={one.name: one.runs_as for one in self.plan.components},
            products=dict(self.products),
            memory_mode=self.job.policy.mode.value,
            attention=self.plan.attention.value,
            compiled=self.job.policy.compile,
            asked_precisions=self._asked_precisions(),
            asked_attention=self.job.policy.attention.value,
            asked_tile_px=self.job.policy.tile_px,
            references=self.references,
        )
