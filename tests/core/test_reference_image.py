import contextlib
import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from app.core import reference_image
from app.core.errors import RequestError
from app.core.reference_image import (
    MAX_FILE_BYTES,
    digest_of_file,
    read_reference,
    reference_problems,
    reference_size_of,
    reference_thumbnail,
)
from tests.fakes.pictures import picture, picture_file

ORIENTATION = 0x0112


def refusal(path: Path | str) -> RequestError:
    """Why a file cannot be a reference: the same whoever looks at it."""
    with pytest.raises(RequestError) as by_header:
        reference_size_of(str(path))
    with pytest.raises(RequestError) as by_reading:
        read_reference(str(path))
    with pytest.raises(RequestError) as by_drawing:
        reference_thumbnail(str(path), 96)
    codes = {one.value.code for one in (by_header, by_reading, by_drawing)}
    assert codes == {by_header.value.code}
    assert str(path) in by_header.value.message
    return by_header.value


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_formats_are_read_whatever_the_file_is_called(suffix: str, tmp_path: Path):
    file = Path(picture_file(tmp_path / f"a{suffix}", 100, 80))
    other = tmp_path / "other.name"
    other.write_bytes(file.read_bytes())
    for path in (file, other):
        assert reference_size_of(str(path)) == (100, 80)
        found = read_reference(str(path))
        assert found.size == (100, 80)
        assert found.pixels().mode == "RGB"
        difference = np.asarray(found.pixels(), int) - np.asarray(picture(100, 80), int)
        assert np.abs(difference).mean() < 4  # JPEG and WebP lose a little.


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_upright(suffix: str, orientation: int, tmp_path: Path):
    upright = picture(120, 80)
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }.get(orientation)
    stored = upright if turn is None else upright.transpose(turn)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / f"photo{suffix}"
    stored.save(path, exif=exif)
    assert reference_size_of(str(path)) == (120, 80)
    found = read_reference(str(path))
    assert found.size == found.pixels().size == (120, 80)
    difference = np.asarray(found.pixels(), int) - np.asarray(upright, int)
    assert np.abs(difference).mean() < 4
    small = reference_thumbnail(str(path), 60)
    assert (small.width_px, small.height_px) == (60, 40)


def test_what_is_transparent_is_white(tmp_path: Path):
    clear = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    half = Image.new("RGBA", (64, 64), (0, 0, 0, 128))
    flat = Image.new("P", (64, 64), 0)
    flat.putpalette([10, 20, 30])
    flat.info["transparency"] = 0
    colours = ((clear, (255, 255, 255)), (half, (127, 127, 127)), (flat, (255, 255, 255)))
    for number, (made, colour) in enumerate(colours):
        path = tmp_path / f"{number}.png"
        made.save(path)
        assert read_reference(str(path)).pixels().getpixel((5, 5)) == colour
        assert reference_thumbnail(str(path), 32).rgb[:3] == bytes(colour)


def test_other_kinds_of_pixels_become_rgb(tmp_path: Path):
    grey = np.linspace(0, 65535, 64 * 64, dtype=np.uint16).reshape(64, 64)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    deep = np.asarray(read_reference(str(tmp_path / "deep.png")).pixels())
    assert np.array_equal(deep[..., 0], (grey // 257).astype(np.uint8))
    for mode, name in (("L", "a.png"), ("1", "b.png"), ("CMYK", "c.jpg"), ("LA", "d.png")):
        picture(64, 64).convert("L").convert(mode).save(tmp_path / name)
        assert read_reference(str(tmp_path / name)).pixels().mode == "RGB"


def test_the_same_content_has_the_same_digest(tmp_path: Path):
    one = picture_file(tmp_path / "one.png", 64, 64)
    other = picture_file(tmp_path / "other.png", 64, 64, seed=1)
    copy = tmp_path / "copy.png"
    copy.write_bytes(Path(one).read_bytes())
    assert read_reference(one).digest() == read_reference(str(copy)).digest()
    assert read_reference(one).digest() == digest_of_file(one) != digest_of_file(other)
    assert digest_of_file(str(tmp_path / "none.png")) is None


def test_a_file_is_read_once(tmp_path: Path):
    path = picture_file(tmp_path / "one.png", 64, 96)
    found = read_reference(path)
    digest = found.digest()
    Path(path).unlink()
    assert found.pixels().size == (64, 96)
    assert found.digest() == digest


def test_what_is_no_image_is_refused(tmp_path: Path):
    text = tmp_path / "text.png"
    text.write_text("no picture")
    assert refusal(text).code == "request.reference_format"
    gif = tmp_path / "moving.png"
    picture(64, 64).save(gif, format="GIF")
    assert refusal(gif).code == "request.reference_format"
    empty = tmp_path / "empty.jpg"
    empty.touch()
    assert refusal(empty).code == "request.reference_format"
    assert refusal(tmp_path).code == "request.reference_format"
    assert refusal(tmp_path / "gone.png").code == "request.reference_missing"
    assert refusal(f"{tmp_path}/a\0b.png").code == "request.reference_unreadable"


def test_shapes_that_flux_cannot_take_are_refused(tmp_path: Path):
    assert refusal(picture_file(tmp_path / "a.png", 63, 200)).code == "request.reference_small"
    assert refusal(picture_file(tmp_path / "b.png", 64, 513)).code == "request.reference_shape"
    assert reference_size_of(picture_file(tmp_path / "c.png", 512, 64)) == (512, 64)


@pytest.mark.parametrize("edge", [9_500, 60_000])
def test_a_small_file_of_enormous_size_is_refused_unread(edge: int, tmp_path: Path):
    header = struct.pack(">IIBBBBB", edge, edge, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 64)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks:
        data += struct.pack(">I", len(body)) + kind + body
        data += struct.pack(">I", zlib.crc32(kind + body))
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(data)
    assert refusal(bomb).code == "request.reference_large"


def test_an_enormous_file_is_refused_unread(tmp_path: Path):
    path = Path(picture_file(tmp_path / "a.png", 64, 64))
    with path.open("ab") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    assert refusal(path).code == "request.reference_large"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes in folders")
def test_a_pipe_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.png")
    assert refusal(tmp_path / "pipe.png").code == "request.reference_format"


def test_a_file_that_is_cut_off_is_damaged(tmp_path: Path):
    path = Path(picture_file(tmp_path / "a.png", 200, 200))
    path.write_bytes(path.read_bytes()[:-200])
    found = read_reference(str(path))
    for look in (found.pixels, lambda: reference_thumbnail(str(path), 96)):
        with pytest.raises(RequestError) as caught:
            look()
        assert caught.value.code == "request.reference_broken"


def test_each_file_that_cannot_be_one_is_a_problem(tmp_path: Path):
    good = picture_file(tmp_path / "a.png", 64, 64)
    problems = reference_problems((good, str(tmp_path / "no.png"), good, str(tmp_path)))
    assert [(one.field, one.code) for one in problems] == [
        ("references", "request.reference_missing"),
        ("references", "request.reference_format"),
    ]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes_do_no_harm(
    suffix: str, tmp_path: Path, data: st.DataObject, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / f"a{suffix}"
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    picture_file(path, 80, 64, exif=exif)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    # What a damaged header claims is not decoded here.
    monkeypatch.setattr(reference_image, "MAX_PIXELS", 1_000_000)
    with contextlib.suppress(RequestError):
        found = read_reference(str(path))
        assert found.pixels().size == found.size


def test_lack_of_memory_is_not_called_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    found = read_reference(picture_file(tmp_path / "a.png", 64, 64))

    def fail(*_arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr(reference_image, "_on_white", fail)
    with pytest.raises(MemoryError):
        found.pixels()
