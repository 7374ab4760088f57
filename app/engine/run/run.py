"""One job from its plan to its pictures."""

import contextlib
from collections.abc import Generator, Sequence
from dataclasses import replace

import torch

from app import __version__
from app.core.errors import EngineError, RequestError
from app.core.events import Notice, RunResumed, StepDone
from app.core.jobs import Phase
from app.core.plan import GenerationPlan
from app.core.request import GenerationRequest
from app.core.run_report import RunReport
from app.engine.devices import run_dtype
from app.engine.loader import LoadedModel
from app.engine.pipeline import encode, noise, prompts_to_encode
from app.engine.prompt_cut import prompt_cut_message
from app.engine.run.attempts import Attempts, PlanChangedError
from app.engine.run.bad_images import BadImages
from app.engine.run.context import RunContext
from app.engine.run.decode import DecodedImage, decode_as_planned
from app.engine.run.denoise import DenoiseTask, Step, denoise
from app.engine.run.fast_blocks import fast_blocks
from app.engine.run.images import ImageState, RunImages, store
from app.engine.run.kept_latents import KeptLatents, RunIdentity
from app.engine.run.live_memory import LiveMemory
from app.engine.run.memory_wait import MemoryWait
from app.engine.run.phases import PhaseLog
from app.engine.run.plan_in_force import PlanInForce
from app.engine.run.preparing import prepare
from app.engine.run.profiles import library_versions
from app.engine.run.references import RunReferences
from app.engine.run.reporting import phase_reports, run_report
from app.engine.run.stream_log import StreamLog
from app.engine.saving import ImageSaver

TO_COME = (Phase.ENCODE, Phase.DENOISE, Phase.DECODE)
"""Phases that need the device, in order; in a batch in parts the last two come again."""


class Run:
    """Carries out one job; every failure it can recover from, it does.

    Attributes:
        phases: As they were told.
    """

    def __init__(self, context: RunContext) -> None:
        """Begin nothing yet."""
        job = context.job
        wait = MemoryWait(job, context.device, context.cancel, send=context.send)
        self.phases = PhaseLog(
            job.id,
            device=context.device,
            meter=context.meter,
            send=context.send,
            check=context.cancel.check,
            on_end=self._on_phase_end,
            waited_s=lambda: wait.waited_s,
        )
        self._context = context
        self._job = job
        self._send = context.send
        self._device = context.device
        self._attempts = Attempts(
            job, context.shelf, wait=wait, send=context.send, holding_still=self._holding_still
        )
        self._live = LiveMemory(
            job, context.shelf, self._attempts, send=context.send, requests=context.relief
        )
        self._kept = KeptLatents(context.keep_folder, job.id, guard=context.guard)
        self._streams = StreamLog(context.shelf)
        in_fp16 = run_dtype(context.device.torch_device, torch.bfloat16) is torch.float16
        self._bad = BadImages(job.request, in_fp16=in_fp16)
        self._references = RunReferences(files=(), digests=())
        self._reference_latents: tuple[torch.Tensor, ...] = ()
        self._resumed_at = 0

    def execute(self) -> RunReport:
        """Work on the job until its last image is saved.

        Raises:
            CancelRequestedError: The job is to stop.
            AppError: It cannot be finished.
        """
        try:
            return self._carry_out()
        finally:
            self._live.close()

    def stop(self, *, goes_on: bool) -> None:
        """The run was ended from outside.

        Args:
            goes_on: Whether the job will be run again, from what is kept of it.
        """
        if goes_on:
            self._keep()
        else:
            self._kept.remove()

    @contextlib.contextmanager
    def _holding_still(self) -> Generator[None]:
        """Nothing is lost meanwhile; what was wanted of the device before is old news then."""
        self._keep()
        yield
        self._context.relief.take_device_part()

    def _keep(self) -> None:
        """Have what is done on the disk, too."""
        force = self._attempts.force
        model = self._context.shelf.model
        if force is not None and model is not None and force.images.kept():
            self._kept.write(force.images, self._digest(model))

    def _carry_out(self) -> RunReport:
        for problem in self._job.request.problems():
            raise RequestError(problem.message, code=problem.code)
        self._references = RunReferences.read(self._job)
        model = prepare(self._context, self.phases, self._attempts, self._references.sizes)
        cut = prompt_cut_message(model.info, self._job.request.prompt)
        if cut is not None:
            self._send(Notice(job_id=self._job.id, code="prompt.cut", message=cut))
        embeddings = self._encode(model)
        self._restore(model)
        while self._next_part():
            self._denoise(model, embeddings)
            self._finish_part(model)
        self._live.end()
        self._kept.remove()
        self._bad.check()
        return run_report(
            self._force,
            self.phases,
            self._streams,
            idle_bytes=self._context.meter.idle_bytes,
            resumed_at=self._resumed_at,
        )

    @property
    def _force(self) -> PlanInForce:
        force = self._attempts.force
        if force is None:
            raise RuntimeError("the run has no plan yet")
        return force

    @property
    def _plan(self) -> GenerationPlan:
        return self._force.plan

    @property
    def _images(self) -> RunImages:
        return self._force.images

    def _on_phase_end(self, phase: Phase) -> None:
        if self._attempts.force is not None:
            self._attempts.force.note_ran(phase)

    def _encode(self, model: LoadedModel) -> Sequence[torch.Tensor]:
        prompts = prompts_to_encode(model, self._job.request)
        cached = all(prompt in model.embeddings for prompt in prompts)
        seen = self._references.are_in(self._context.shelf.references)
        # What is not all computed was not planned so: its figures are nothing to learn from.
        partly = cached or (seen and bool(self._references.digests))

        def encode_all() -> Sequence[torch.Tensor]:
            if cached:
                return encode(model, prompts, self._device)
            model.compare_mapped("text_encoder", self._context.cancel.check)
            self._attempts.place()
            placer = self._context.shelf.placer
            with placer.phase("text_encoder"), self._device.watch(Phase.ENCODE):
                new = {prompt for prompt in prompts if prompt not in model.embeddings}
                placer.expect("text_encoder", len(new))
                self._streams.begin()
                embeddings = encode(model, prompts, self._device)
                self._streams.note(Phase.ENCODE, self._force)
                return embeddings

        note = "cached" if cached and seen else ""
        with self.phases.during(Phase.ENCODE, note=note, idle=partly):
            self._attempts.begin_phase()
            self._live.begin_phase(TO_COME)
            embeddings = self._attempts.run(Phase.ENCODE, encode_all)
            self._reference_latents = self._references.encode(self._context, self._attempts, model)
        if not all(bool(torch.isfinite(one).all()) for one in embeddings):
            raise EngineError(
                "The text encoder turned the prompt into numbers that are not finite: "
                "the model's files may be damaged.",
                code="engine.bad_image",
            )
        return embeddings

    def _restore(self, model: LoadedModel) -> None:
        """Go on where an earlier engine was ended."""
        self._resumed_at = self._kept.restore(self._images, self._digest(model))
        if self._resumed_at:
            self._force.touched.add(Phase.DENOISE)
            self._send(
                RunResumed(
                    job_id=self._job.id,
                    step=self._resumed_at,
                    steps=self._job.request.steps,
                )
            )

    def _denoise(self, model: LoadedModel, embeddings: Sequence[torch.Tensor]) -> None:
        """Bring the next part to its last step; other plans may come into force meanwhile."""
        steps = self._job.request.steps
        with self._part_phase(Phase.DENOISE):
            self._attempts.begin_phase()
            self._live.begin_phase(TO_COME[1:], afresh=self._images.has_finished())
            while (part := self._next_part()) and part[0].step < steps:
                with contextlib.suppress(PlanChangedError):
                    self._attempts.run(Phase.DENOISE, lambda: self._denoise_part(model, embeddings))

    def _denoise_part(self, model: LoadedModel, embeddings: Sequence[torch.Tensor]) -> None:
        part, request = self._next_part(), self._request()
        if not part or part[0].step >= request.steps:
            return
        self._attempts.step = step = part[0].step
        latents = [image.latents for image in part if image.latents is not None]
        grid = (
            torch.stack(latents)
            if len(latents) == len(part)
            else noise(model, request, [image.index for image in part])
        )
        task = DenoiseTask(
            request=request,
            embeddings=embeddings,
            latents=grid,
            step=step,
            references=self._reference_latents,
        )
        model.compare_mapped("transformer", self._context.cancel.check)
        self._attempts.place()
        placer = self._context.shelf.placer
        self._streams.begin()
        with (
            placer.phase("transformer"),
            self._device.watch(Phase.DENOISE, step=step),
            fast_blocks(self._context, model, self._plan),
        ):
            placer.expect("transformer", task.passes)
            denoise(
                model,
                task,
                self._device,
                previews=self._job.previews,
                on_step=lambda done: self._on_step(model, part, done),
            )

    def _on_step(self, model: LoadedModel, part: Sequence[ImageState], step: Step) -> None:
        store(part, step.latents, step.number)
        self._attempts.step = step.number
        self._attempts.note_progress()
        # First, so that a step that was told is not lost.
        self._kept.note_step(self._images, self._digest(model))
        self._send(
            StepDone(
                job_id=self._job.id,
                step=step.number,
                steps=step.total,
                seconds=step.seconds,
                memory=self.phases.memory(),
                preview=step.preview,
                streaming=self._streams.note(Phase.DENOISE, self._force),
            )
        )
        self._context.cancel.check()
        if step.number < step.total and self._live.look():
            raise PlanChangedError

    def _finish_part(self, model: LoadedModel) -> None:
        """Decode and save the part that is at its last step, if there still is one."""
        part = self._next_part()
        if not part or part[0].step < self._job.request.steps:
            return
        sound = [image for image in part if self._is_sound(image)]
        decoded: dict[int, DecodedImage] = {}
        with self._part_phase(Phase.DECODE):
            self._attempts.begin_phase()
            to_come = (Phase.DECODE, Phase.DENOISE) if self._parts_later() else (Phase.DECODE,)
            self._live.begin_phase(to_come)
            while self._attempts.run(
                Phase.DECODE, lambda: self._decode_next(model, sound, decoded), waits=False
            ):
                self._attempts.note_progress()
        if len(decoded) < len(sound):
            return  # The size is another now, or the images are for later: see the plan.
        with self._part_phase(Phase.SAVE):
            self._attempts.begin_phase()
            self._save(model, sound, decoded)
        self._images.finish(part)
        self._kept.note_finished(self._images, self._digest(model))

    def _is_sound(self, image: ImageState) -> bool:
        if image.latents is not None and bool(torch.isfinite(image.latents).all()):
            return True
        self._bad.add_latents(image.index)
        return False

    def _decode_next(
        self,
        model: LoadedModel,
        part: Sequence[ImageState],
        decoded: dict[int, DecodedImage],
    ) -> bool:
        """Decode as many images as the plan has at once; False when none is left."""
        self._live.look_at_budget()
        plan = self._plan
        left = [
            image
            for image in part
            if image.index not in decoded
            and image.index < plan.images
            and image.latents is not None
        ]
        group = left[: plan.decode_batch]
        if not group:
            return False
        grid = torch.stack([image.latents for image in group if image.latents is not None])
        self._attempts.place()
        with contextlib.ExitStack() as stack:
            if not plan.decode_on_cpu:
                stack.enter_context(self._context.shelf.placer.phase("autoencoder"))
            stack.enter_context(self._device.watch(Phase.DECODE))
            found = decode_as_planned(model, grid, self._device, plan)
        decoded.update(zip((image.index for image in group), found, strict=True))
        return True

    def _save(
        self, model: LoadedModel, part: Sequence[ImageState], decoded: dict[int, DecodedImage]
    ) -> None:
        saver = ImageSaver(
            job=self._job,
            info=model.info,
            app_version=__version__,
            seconds=dict(self.phases.seconds),
            memory=self.phases.memory(),
            guard=self._context.guard,
            plan=self._plan,
            rungs=tuple(self._force.rungs),
            phases=phase_reports(
                self._force, self.phases, self._streams, idle_bytes=self._context.meter.idle_bytes
            ),
            references=self._references.records(),
            products=model.products,
        )
        for image in part:
            # A large picture takes seconds to be packed.
            self._context.cancel.check()
            rgb = decoded[image.index].rgb
            if rgb is None:
                self._bad.add_decoded(image.index, decoded[image.index])
            elif image.index not in self._job.saved:
                index = image.index
                self._send(
                    self._attempts.run(
                        Phase.SAVE, lambda rgb=rgb, index=index: saver.save(rgb, index), rungs=False
                    )
                )

    def _next_part(self) -> list[ImageState]:
        return self._images.next_part(self._plan.batch)

    def _part_phase(self, phase: Phase) -> contextlib.AbstractContextManager[None]:
        return self.phases.during(phase, note=self._part_note(), parts_later=self._parts_later())

    def _parts_later(self) -> int:
        return max(0, self._images.parts_to_come(self._plan.batch) - 1)

    def _part_note(self) -> str:
        parts = -(-self._plan.images // self._plan.batch)
        part = self._next_part()
        if parts == 1 or not part:
            return ""
        return f"part {part[0].index // self._plan.batch + 1} of {parts}"

    def _request(self) -> GenerationRequest:
        """What is made, at the size it is made at."""
        plan = self._plan
        return replace(self._job.request, width_px=plan.width_px, height_px=plan.height_px)

    def _digest(self, model: LoadedModel) -> str:
        plan = self._plan
        return RunIdentity(
            request=self._job.request,
            width_px=plan.width_px,
            height_px=plan.height_px,
            model=model.key,
            precisions=model.precisions,
            device=self._device.kind,
            libraries=library_versions(),
            references=self._references.digests,
        ).digest()
