"""What is in the files: pixels at the size asked for, and nothing about whose computer it is."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.core.events import ImageDone
from app.core.jobs import Job, OutputTarget
from app.core.metadata import ReferenceRecord, record_from_json
from app.core.policy import MemoryPolicy
from app.core.request import GenerationRequest
from app.engine.save_guard import SaveGuard
from app.engine.saving import ImageSaver
from tests.fakes.engine_memory import engine_memory
from tests.fakes.memory_story import make_plan

ASKED_PX, MADE_PX = (96, 64), (48, 32)
HOME = "/home/somebody/secret"
MEMORY = engine_memory()


def saver(out: Path, *, upscale_back: bool, name: str | None = None) -> ImageSaver:
    """Of a picture that was made at half the size."""
    info: Any = SimpleNamespace(name=name, folder=Path(f"{HOME}/models/mine"), label="Mine")
    request = GenerationRequest(
        prompt="a red circle",
        model=str(info.folder),
        width_px=ASKED_PX[0],
        height_px=ASKED_PX[1],
        references=(f"{HOME}/me.png",),
    )
    return ImageSaver(
        job=Job(
            id="job",
            request=request,
            model_folder=str(info.folder),
            output=OutputTarget(folder=str(out)),
            policy=MemoryPolicy(upscale_back=upscale_back),
        ),
        info=info,
        app_version="0",
        seconds={},
        memory=MEMORY,
        guard=SaveGuard(),
        plan=replace(make_plan(), width_px=MADE_PX[0], height_px=MADE_PX[1]),
        references=(ReferenceRecord(path="~/me.png", sha256="0" * 64),),
    )


@pytest.fixture
def rgb() -> bytes:
    return np.random.default_rng(5).integers(0, 256, (*MADE_PX[::-1], 3), np.uint8).tobytes()


def opened(done: ImageDone) -> Image.Image:
    assert done.path is not None
    with Image.open(done.path) as picture:
        picture.load()
        return picture


def test_a_picture_is_brought_back_to_its_size_by_the_best_resampler(rgb: bytes, tmp_path: Path):
    picture = opened(saver(tmp_path, upscale_back=True).save(rgb, 0))
    made = Image.frombytes("RGB", MADE_PX, rgb)
    assert picture.tobytes() == made.resize(ASKED_PX, Image.Resampling.LANCZOS).tobytes()
    assert picture.tobytes() != made.resize(ASKED_PX).tobytes()


def test_without_being_asked_to_it_stays_as_it_was_made(rgb: bytes, tmp_path: Path):
    picture = opened(saver(tmp_path, upscale_back=False).save(rgb, 0))
    assert (picture.size, picture.tobytes()) == (MADE_PX, rgb)


@pytest.mark.parametrize("name", [None, "klein-4b"])
def test_a_picture_does_not_tell_where_anything_lies(name: str | None, rgb: bytes, tmp_path: Path):
    done = saver(tmp_path, upscale_back=False, name=name).save(rgb, 0)
    texts = opened(done).info
    assert texts
    assert not [key for key, text in texts.items() if "somebody" in str(text)]
    assert done.path is not None
    assert b"somebody" not in Path(done.path).read_bytes()
    record = record_from_json(texts["headroom"])
    assert record is not None
    assert record.request.model == (name or "mine")
    assert record.request.references == ()
    assert [one.path for one in record.references] == ["~/me.png"]
