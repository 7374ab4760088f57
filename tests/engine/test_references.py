"""Reference images: the pictures are those of diffusers, and nothing is done twice."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from app.core.events import (
    Downshifted,
    ImageDone,
    JobFailed,
    JobFinished,
    Notice,
    PhaseStarted,
    PlanMade,
    RunResumed,
    StepDone,
)
from app.core.jobs import Job, Phase
from app.core.policy import MemoryPolicy
from app.core.reference_image import digest_of_file, read_reference
from app.core.request import GenerationRequest
from app.engine.compute_device import CpuDevice
from app.engine.reference_latents import ReferenceCache, pixels_of
from app.engine.request_counts import reference_size
from app.engine.run import kept_latents
from app.engine.run import references as run_references
from app.engine.run.kept_latents import RunIdentity
from tests.engine_process import make_job
from tests.engine_runs import POLICY, Runs, of_kind, pixels, record_of, same, simulated
from tests.fakes.pictures import picture, picture_file
from tests.reference_pipeline import diffusers_pictures, reference_pipeline
from tests.tiny_models import Kind, make_tiny_model

pytestmark = pytest.mark.usefixtures("quick_forecasts")

KINDS: tuple[Kind, ...] = ("klein", "klein-base", "dev")
STEPS = 3
SIZE = {"width_px": 96, "height_px": 64}
SEED = 7


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Path]:
    return {kind: make_tiny_model(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Neither is a square, of whole tokens, or of the picture's size."""
    folder = tmp_path_factory.mktemp("references")
    exif = Image.Exif()
    exif[0x0112] = 6  # Taken with the camera on its side.
    return (
        picture_file(folder / "tall.png", 83, 140, seed=1),
        picture_file(folder / "wide.jpg", 100, 150, seed=2, exif=exif),
    )


def job(model: Path, out: Path, references: tuple[str, ...], **request: Any) -> Job:
    values = {"steps": STEPS, "guidance": 4.0, "seed": SEED, **SIZE, **request}
    made = replace(make_job(model, out, **values), policy=POLICY)
    return replace(made, request=replace(made.request, references=references))


def of_diffusers(asked: Job) -> dict[int, np.ndarray]:
    """What diffusers makes of a job's request."""
    request = asked.request
    pictures = diffusers_pictures(
        Path(asked.model_folder),
        request,
        out_layers=(1, 2, 3),
        references=[read_reference(path).pixels() for path in request.references],
    )
    return {index: picture.astype(int) for index, picture in enumerate(pictures)}


def encodings(monkeypatch: pytest.MonkeyPatch, *, failures: int = 0) -> list[tuple[int, int]]:
    """Sizes of the pictures that are encoded from now on; at first there is no room for any."""
    sizes: list[tuple[int, int]] = []
    known = run_references.encode_reference

    def encode(model: Any, picture: Image.Image, device: Any) -> torch.Tensor:
        sizes.append(picture.size)
        if len(sizes) <= failures:
            raise torch.OutOfMemoryError("no room for the reference image")
        return known(model, picture, device)

    monkeypatch.setattr(run_references, "encode_reference", encode)
    return sizes


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_pictures_are_those_of_diffusers(
    kind: Kind, count: int, folders: dict[Kind, Path], files: tuple[str, str], tmp_path: Path
):
    asked = job(folders[kind], tmp_path, files[:count], images=2)
    made = pixels(Runs(CpuDevice()).run(asked))
    assert same(made, of_diffusers(asked))


def test_half_precision_is_that_of_diffusers_too(files: tuple[str, str], tmp_path: Path):
    folder = make_tiny_model("klein", tmp_path / "klein", dtype=torch.bfloat16)
    asked = replace(job(folder, tmp_path, files), policy=MemoryPolicy())
    assert same(pixels(Runs(CpuDevice()).run(asked)), of_diffusers(asked))


def test_references_their_order_and_their_number_matter(
    folders: dict[Kind, Path], files: tuple[str, str], tmp_path: Path
):
    runs = Runs(CpuDevice())
    lists = ((), files[:1], files[1:], files, files[::-1], files[:1] * 2)
    made = [
        pixels(runs.run(job(folders["klein"], tmp_path / str(number), paths, steps=1)))
        for number, paths in enumerate(lists)
    ]
    assert len({picture[0].tobytes() for picture in made}) == len(lists)


def test_large_pictures_are_made_smaller_as_diffusers_does(folders: dict[Kind, Path]):
    """Only what goes into the autoencoder, which would take half a minute for it."""
    pipeline = reference_pipeline(folders["klein"])
    large = picture(1031, 1307, seed=3)
    taken: list[torch.Tensor] = []

    def take(images: list[torch.Tensor], **_: Any) -> None:
        taken.extend(images)
        raise InterruptedError

    pipeline.prepare_image_latents = take
    try:
        with pytest.raises(InterruptedError):
            pipeline(
                image=large,
                prompt="a",
                height=64,
                width=64,
                guidance_scale=1.0,
                text_encoder_out_layers=(1, 2, 3),
            )
    finally:
        del pipeline.prepare_image_latents
    assert torch.equal(pixels_of(pipeline, large), taken[0])
    assert reference_size(1031, 1307) == (taken[0].shape[3], taken[0].shape[2])


def test_the_same_picture_is_encoded_once(
    folders: dict[Kind, Path],
    files: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    encoded = encodings(monkeypatch)
    runs = Runs(CpuDevice())
    copy = tmp_path / "copy.png"
    copy.write_bytes(Path(files[0]).read_bytes())
    first = runs.run(job(folders["klein"], tmp_path / "1", (files[0], str(copy))))
    assert len(encoded) == 1
    again = runs.run(job(folders["klein"], tmp_path / "2", (str(copy), files[0]), seed=8))
    assert len(encoded) == 1
    notes = [
        [event.note for event in of_kind(events, PhaseStarted) if event.phase is Phase.ENCODE]
        for events in (first, again)
    ]
    assert notes == [[""], ["cached"]]
    # Another model's latents are others.
    runs.run(job(folders["dev"], tmp_path / "3", (str(copy),)))
    assert len(encoded) == 2


def test_a_run_goes_on_with_the_same_references_only(
    folders: dict[Kind, Path],
    files: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(kept_latents, "AT_RISK_S", 0.0)
    monkeypatch.setattr(kept_latents, "SLOW_DISK_FACTOR", 0.0)
    keep = tmp_path / "runs"
    moved = tmp_path / "moved.png"
    moved.write_bytes(Path(files[0]).read_bytes())
    asked = job(folders["klein-base"], tmp_path / "out", (files[0], files[1]))
    elsewhere = replace(asked.request, references=(str(moved), files[1]))
    other = replace(asked.request, references=(files[1], files[0]))
    expected = of_diffusers(asked)
    for request, goes_on in ((asked.request, True), (elsewhere, True), (other, False)):
        stopped = Runs(CpuDevice())

        def stop(event: object, stopped: Runs = stopped) -> None:
            if isinstance(event, StepDone) and event.step == 2:
                stopped.flag.set(goes_on=True)

        stopped.on_event = stop
        stopped.run(asked, keep_folder=keep)
        # Another engine: it knows nothing but what lies on the disk.
        events = Runs(CpuDevice()).run(replace(asked, request=request), keep_folder=keep)
        assert bool(of_kind(events, RunResumed)) is goes_on
        steps = [event.step for event in of_kind(events, StepDone)]
        assert steps == list(range(3 if goes_on else 1, STEPS + 1))
        assert same(pixels(events), expected) is goes_on


def test_a_reference_whose_content_changed_begins_anew():
    def identity(*digests: str) -> str:
        return RunIdentity(
            request=GenerationRequest(prompt="a", references=("/a.png",)),
            width_px=64,
            height_px=64,
            model="m",
            precisions=(),
            device="cpu",
            libraries=(),
            references=digests,
        ).digest()

    assert identity("1") == identity("1") != identity("2")
    assert identity() != identity("1")


@pytest.mark.parametrize("failures", [1, 3])
def test_a_reference_that_finds_no_room_is_encoded_after_the_next_rung(
    failures: int,
    folders: dict[Kind, Path],
    files: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    encoded = encodings(monkeypatch, failures=failures)
    asked = job(folders["klein-base"], tmp_path / "out", files, steps=1)
    events = Runs(simulated()).run(asked)
    assert isinstance(events[-1], JobFinished)
    assert len(encoded) == failures + 2
    assert len(of_kind(events, Downshifted)) >= 1
    assert same(pixels(events), of_diffusers(asked))


def test_without_any_room_the_cpu_encodes_and_says_so(
    folders: dict[Kind, Path],
    files: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    encodings(monkeypatch, failures=10_000)
    asked = job(folders["klein"], tmp_path / "out", files, steps=1)
    events = Runs(simulated()).run(asked)
    assert isinstance(events[-1], JobFinished)
    told = [event.code for event in of_kind(events, Notice)]
    assert "memory.references_on_cpu" in told
    # Weights that were copied lie elsewhere, which rounds otherwise now and then.
    assert same(pixels(events), of_diffusers(asked), levels=1)


def test_without_ram_the_job_fails(
    folders: dict[Kind, Path],
    files: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    encodings(monkeypatch, failures=10_000)
    events = Runs(CpuDevice()).run(job(folders["klein"], tmp_path / "out", files))
    (failed,) = of_kind(events, JobFailed)
    assert failed.error.code.startswith("engine.out_of_memory")


def test_the_plan_counts_the_sizes_of_the_files(
    folders: dict[Kind, Path], files: tuple[str, str], tmp_path: Path
):
    runs = Runs(simulated())
    peaks: list[int] = []
    for number, paths in enumerate(((), files[:1], files)):
        events = runs.run(job(folders["klein"], tmp_path / str(number), paths, steps=1))
        (made,) = of_kind(events, PlanMade)
        peaks.append(made.plan.phase(Phase.DENOISE).working_bytes)
    assert peaks[0] < peaks[1] < peaks[2]


def test_pictures_say_what_they_follow(
    folders: dict[Kind, Path],
    files: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(Path, "home", lambda: Path(files[0]).parent)
    events = Runs(CpuDevice()).run(job(folders["klein"], tmp_path, files))
    (image,) = of_kind(events, ImageDone)
    record = record_of(image)
    assert [one.path for one in record.references] == ["~/tall.png", "~/wide.jpg"]
    assert [one.here() for one in record.references] == list(files)
    assert [one.sha256 for one in record.references] == [digest_of_file(one) for one in files]
    # Nothing else in the file tells whose computer it was made on.
    assert image.path is not None
    assert str(Path(files[0]).parent).encode() not in Path(image.path).read_bytes()


def test_a_file_that_is_gone_or_damaged_fails_the_job_in_words(
    folders: dict[Kind, Path], files: tuple[str, str], tmp_path: Path
):
    runs = Runs(CpuDevice())
    cut = tmp_path / "cut.png"
    cut.write_bytes(Path(files[0]).read_bytes()[:-60])
    for path, code in (
        (str(tmp_path / "gone.png"), "request.reference_missing"),
        (str(cut), "request.reference_broken"),
    ):
        (failed,) = of_kind(runs.run(job(folders["klein"], tmp_path, (path,))), JobFailed)
        assert failed.error.code == code
        assert path in failed.error.message
    assert isinstance(runs.run(job(folders["klein"], tmp_path, files))[-1], JobFinished)


def test_the_cache_stays_within_its_size():
    cache = ReferenceCache(capacity_bytes=3 * 4)
    grids = {name: torch.full((1,), float(number)) for number, name in enumerate("abcd")}
    for name in "abc":
        cache.put(name, grids[name])
    assert cache.get("a") is grids["a"]
    cache.put("d", grids["d"])
    assert [name in cache for name in "abcd"] == [True, False, True, True]
    cache.put("a", torch.zeros(100))
    assert "a" in cache
    cache.clear()
    assert "a" not in cache
    assert cache.get("a") is None
