import errno
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from app.core.errors import OutputError, RequestError
from app.core.jobs import OutputTarget
from app.core.metadata import ImageRecord, parameters_text, record_from_json
from app.core.naming import NameFields
from app.core.png import read_record, read_text_chunks
from app.core.request import GenerationRequest
from app.engine.output import encode_png, write_png

WIDTH_PX, HEIGHT_PX = 48, 32
RGB = bytes(range(256)) * (WIDTH_PX * HEIGHT_PX * 3 // 256)
NAMING = NameFields(
    created=datetime(2026, 11, 21, 14, 30, 5),  # noqa: DTZ001 - local time, as people name files
    seed=7,
    index=0,
    model="demo",
    prompt="a red circle",
    width_px=WIDTH_PX,
    height_px=HEIGHT_PX,
    steps=8,
    job_id="0123456789",
)


def record(prompt: str = "a red circle") -> ImageRecord:
    return ImageRecord(
        request=GenerationRequest(prompt=prompt, seed=2**64 - 1),
        app_version="0.1.0",
        model_label="Demo: draws simple shapes",
        seed=2**64 - 1,
        seconds={"load": 0.5},
        peak_host_bytes=24 * 1024**3,
    )


def png_with(made: ImageRecord | None = None) -> bytes:
    return encode_png(RGB, width_px=WIDTH_PX, height_px=HEIGHT_PX, record=made)


def refused(code: str, target: OutputTarget, naming: NameFields = NAMING) -> str:
    with pytest.raises(OutputError) as caught:
        write_png(png_with(), target, naming)
    assert caught.value.code == code
    assert caught.value.message.startswith("The image cannot be saved")
    return caught.value.message


class TestEncode:
    def test_pixels_survive(self, tmp_path: Path):
        (tmp_path / "a.png").write_bytes(png_with(record()))
        with Image.open(tmp_path / "a.png") as image:
            assert (image.mode, image.size) == ("RGB", (WIDTH_PX, HEIGHT_PX))
            assert image.tobytes() == RGB

    @pytest.mark.parametrize(
        "prompt", ["a red circle", "café", "赤い円, красный круг", "🔴\nline two", "\0zero"]
    )
    def test_record_survives_for_us_and_for_pillow(self, tmp_path: Path, prompt: str):
        made = record(prompt)
        path = tmp_path / "a.png"
        path.write_bytes(png_with(made))
        assert read_record(path) == made
        with Image.open(path) as image:
            text: Any = image.text  # pyright: ignore[reportAttributeAccessIssue]
            assert record_from_json(text["headroom"]) == made
            assert text["parameters"] == parameters_text(made)
        found = read_text_chunks(path, wanted={"parameters"})
        assert found == {"parameters": parameters_text(made)}

    def test_parameters_are_plain_text_where_latin_1_suffices(self):
        assert b"tEXtparameters\0caf\xe9" in png_with(record("café"))
        assert b"iTXtparameters\0" in png_with(record("赤い円"))
        assert b"iTXtheadroom\0" in png_with(record("café"))

    def test_without_record_nothing_is_told(self):
        data = png_with()
        for word in (b"tEXt", b"iTXt", b"zTXt", b"headroom", b"parameters"):
            assert word not in data

    def test_wrong_number_of_bytes_is_an_error(self):
        with pytest.raises(ValueError, match="data"):
            encode_png(RGB[:-1], width_px=WIDTH_PX, height_px=HEIGHT_PX, record=None)


class TestWriteIntoAFolder:
    def test_folder_is_made_and_the_template_used(self, tmp_path: Path):
        folder = tmp_path / "deep" / "pictures"
        target = OutputTarget(folder=str(folder), name_template="{prompt}-{seed}")
        path = write_png(png_with(), target, NAMING)
        assert path == folder / "a red circle-7.png"
        assert path.read_bytes() == png_with()

    def test_nothing_is_ever_replaced(self, tmp_path: Path):
        target = OutputTarget(folder=str(tmp_path), name_template="same")
        paths = [write_png(bytes([number]), target, NAMING) for number in range(3)]
        assert [path.name for path in paths] == ["same.png", "same-2.png", "same-3.png"]
        assert [path.read_bytes() for path in paths] == [b"\0", b"\1", b"\2"]

    def test_dots_in_a_name_are_no_suffix(self, tmp_path: Path):
        target = OutputTarget(folder=str(tmp_path), name_template="{model}")
        naming = replace(NAMING, model="FLUX.2")
        assert write_png(b"", target, naming).name == "FLUX.2.png"
        assert write_png(b"", target, naming).name == "FLUX.2-2.png"

    def test_template_that_cannot_be_used(self, tmp_path: Path):
        target = OutputTarget(folder=str(tmp_path / "new"), name_template="{sede}")
        with pytest.raises(RequestError, match=r"did you mean \{seed\}"):
            write_png(b"", target, NAMING)
        assert not (tmp_path / "new").exists()

    def test_partial_files_of_killed_writers_are_removed(self, tmp_path: Path):
        left = tmp_path / ".headroom-x.part"
        left.touch()
        write_png(b"", OutputTarget(folder=str(tmp_path)), NAMING)
        assert not left.exists()

    def test_folder_that_is_a_file(self, tmp_path: Path):
        (tmp_path / "file").touch()
        for folder in (tmp_path / "file", tmp_path / "file" / "deeper"):
            message = refused("output.folder", OutputTarget(folder=str(folder)))
            assert str(folder) in message
            assert "choose another folder" in message


class TestWriteAFile:
    def test_first_image_has_exactly_the_path_and_replaces(self, tmp_path: Path):
        target = OutputTarget(folder="", file=str(tmp_path / "new" / "out.png"))
        write_png(b"old", target, NAMING)
        assert write_png(b"new", target, NAMING) == tmp_path / "new" / "out.png"
        assert (tmp_path / "new" / "out.png").read_bytes() == b"new"

    def test_further_images_are_numbered(self, tmp_path: Path):
        target = OutputTarget(folder="", file=str(tmp_path / "out.v1.png"))
        paths = [write_png(b"", target, replace(NAMING, index=index)) for index in range(3)]
        assert [path.name for path in paths] == ["out.v1.png", "out.v1-2.png", "out.v1-3.png"]

    def test_only_the_file_that_was_named_is_replaced(self, tmp_path: Path):
        for name in ("out.png", "out-2.png", "out-4.png"):
            (tmp_path / name).write_bytes(b"there before")
        target = OutputTarget(folder="", file=str(tmp_path / "out.png"))
        paths = [write_png(b"new", target, replace(NAMING, index=index)) for index in range(3)]
        assert [path.name for path in paths] == ["out.png", "out-3.png", "out-5.png"]
        assert {path.read_bytes() for path in paths} == {b"new"}
        for name in ("out-2.png", "out-4.png"):
            assert (tmp_path / name).read_bytes() == b"there before"

    def test_suffix_is_kept_as_typed(self, tmp_path: Path):
        target = OutputTarget(folder="", file=str(tmp_path / "OUT.PNG"))
        assert write_png(b"", target, replace(NAMING, index=1)).name == "OUT-2.PNG"

    def test_relative_path_becomes_absolute(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.chdir(tmp_path)
        target = OutputTarget(folder="", file="out.png")
        assert write_png(b"", target, NAMING) == tmp_path / "out.png"

    def test_path_that_is_a_folder(self, tmp_path: Path):
        message = refused("output.folder", OutputTarget(folder="", file=str(tmp_path)))
        assert str(tmp_path) in message
        assert "give a file name" in message

    def test_path_under_a_file(self, tmp_path: Path):
        (tmp_path / "file").touch()
        target = OutputTarget(folder="", file=str(tmp_path / "file" / "out.png"))
        assert "that is not a folder" in refused("output.folder", target)


def failing(number: int) -> Callable[..., None]:
    def fail(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


class TestTrouble:
    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
    @pytest.mark.parametrize("file", [None, "out.png"])
    def test_full_disk(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, file: str | None
    ):
        monkeypatch.setattr(os, "fsync", failing(number))
        path = str(tmp_path / file) if file else None
        message = refused("output.disk_full", OutputTarget(folder=str(tmp_path), file=path))
        assert str(tmp_path) in message
        assert "free some space" in message
        assert list(tmp_path.iterdir()) == []

    def test_full_disk_as_windows_tells_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        def fail(*arguments: object) -> None:
            error = OSError(errno.EINVAL, "disk full")
            error.winerror = 39  # pyright: ignore[reportAttributeAccessIssue]
            raise error

        monkeypatch.setattr(os, "fsync", fail)
        refused("output.disk_full", OutputTarget(folder=str(tmp_path)))

    @pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
    def test_writing_not_permitted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
    ):
        monkeypatch.setattr(os, "open", failing(number))
        message = refused("output.permission", OutputTarget(folder=str(tmp_path)))
        assert str(tmp_path) in message
        assert "permissions" in message

    @pytest.mark.skipif(
        os.name != "posix" or os.geteuid() == 0, reason="needs a user whom permissions bind"
    )
    def test_folder_that_is_really_not_writable(self, tmp_path: Path):
        folder = tmp_path / "locked"
        folder.mkdir(mode=0o500)
        try:
            refused("output.permission", OutputTarget(folder=str(folder)))
            refused("output.permission", OutputTarget(folder=str(folder / "new")))
        finally:
            folder.chmod(0o700)

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
    def test_device_is_no_folder(self):
        refused("output.folder", OutputTarget(folder="/dev/full/pictures"))

    def test_any_other_error_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(os, "fsync", failing(errno.EIO))
        message = refused("output.failed", OutputTarget(folder=str(tmp_path)))
        assert os.strerror(errno.EIO) in message
        assert list(tmp_path.iterdir()) == []

    def test_name_too_long_is_told(self, tmp_path: Path):
        target = OutputTarget(folder="", file=str(tmp_path / ("x" * 300)))
        assert "another folder or name" in refused("output.failed", target)

    def test_old_file_survives_a_failed_write(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        target = OutputTarget(folder="", file=str(tmp_path / "out.png"))
        write_png(b"old", target, NAMING)
        monkeypatch.setattr(os, "fsync", failing(errno.ENOSPC))
        refused("output.disk_full", target)
        assert (tmp_path / "out.png").read_bytes() == b"old"
