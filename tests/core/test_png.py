import io
import os
import struct
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from app.core import png
from app.core.metadata import ImageRecord, record_to_json
from app.core.png import MAX_TEXT_BYTES, SIGNATURE, read_record, read_text_chunks
from app.core.request import GenerationRequest

RECORD = ImageRecord(request=GenerationRequest(prompt="赤い円"), model_label="Demo", seed=3)
IEND = b"\0\0\0\0IEND\xaeB`\x82"


def chunk(kind: bytes, data: bytes, *, crc: int | None = None) -> bytes:
    checksum = zlib.crc32(data, zlib.crc32(kind)) if crc is None else crc
    return struct.pack(">I4s", len(data), kind) + data + struct.pack(">I", checksum)


def itxt(keyword: str, text: bytes, *, flags: bytes = b"\0\0") -> bytes:
    return chunk(b"iTXt", keyword.encode("latin-1") + b"\0" + flags + b"en\0\0" + text)


def image_bytes(*chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0\0\0\0"))
    return b"".join([SIGNATURE, header, *chunks, pixels, IEND])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "dropped.png"


def texts(file: Path, data: bytes, *wanted: str) -> dict[str, str]:
    file.write_bytes(data)
    return read_text_chunks(file, wanted=wanted or ("k",))


def saved_by_pillow(*, packed: bool = False) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("headroom", record_to_json(RECORD), zip=packed)
    info.add_text("parameters", "a circle\nSteps: 8", zip=packed)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


@pytest.mark.parametrize("packed", [False, True])
def test_reads_what_pillow_writes(file: Path, packed: bool):
    found = texts(file, saved_by_pillow(packed=packed), "headroom", "parameters")
    assert found == {"headroom": record_to_json(RECORD), "parameters": "a circle\nSteps: 8"}
    assert read_record(file) == RECORD


def test_reads_all_three_kinds_of_text(file: Path):
    data = image_bytes(
        chunk(b"tEXt", b"a\0caf\xe9"),
        chunk(b"zTXt", b"b\0\0" + zlib.compress(b"packed \xe9")),
        itxt("c", "円".encode()),
        itxt("d", zlib.compress("円円".encode()), flags=b"\1\0"),
    )
    found = texts(file, data, "a", "b", "c", "d")
    assert found == {"a": "café", "b": "packed é", "c": "円", "d": "円円"}


def test_text_after_the_pixels_is_found(file: Path):
    data = image_bytes()[: -len(IEND)] + itxt("k", b"late") + IEND
    assert texts(file, data) == {"k": "late"}


def test_nothing_is_read_after_the_end_of_the_picture(file: Path):
    assert texts(file, image_bytes() + itxt("k", b"hidden")) == {}


def test_only_wanted_keywords_are_read_and_the_first_counts(file: Path):
    data = image_bytes(itxt("other", b"x"), itxt("k", b"one"), itxt("k", b"two"))
    assert texts(file, data) == {"k": "one"}
    assert texts(file, data, "k", "missing") == {"k": "one"}


def test_chunk_with_a_wrong_checksum_is_left_out(file: Path):
    data = image_bytes(chunk(b"tEXt", b"k\0bad", crc=1), chunk(b"tEXt", b"k\0good"))
    assert texts(file, data) == {"k": "good"}


@pytest.mark.parametrize(
    "broken",
    [
        chunk(b"tEXt", b"k"),
        chunk(b"zTXt", b"k\0\0not packed"),
        chunk(b"zTXt", b"k\0\1" + zlib.compress(b"x")),
        chunk(b"zTXt", b"k\0\0" + zlib.compress(b"x" * 100)[:-6]),
        chunk(b"zTXt", b"k\0"),
        chunk(b"iTXt", b"k\0\0\0en\0"),
        chunk(b"iTXt", b"k\0"),
        itxt("k", b"x", flags=b"\2\0"),
        itxt("k", b"x", flags=b"\1\0"),
    ],
)
def test_broken_text_is_left_out_and_the_next_one_read(file: Path, broken: bytes):
    assert texts(file, image_bytes(broken)) == {}
    assert texts(file, image_bytes(broken, itxt("k", b"good"))) == {"k": "good"}


def test_wrong_utf8_is_replaced(file: Path):
    assert texts(file, image_bytes(itxt("k", b"a\xffb"))) == {"k": "a\ufffdb"}


def test_a_bomb_is_not_unpacked(file: Path):
    bomb = zlib.compress(bytes(64 << 20), 9)
    data = image_bytes(chunk(b"zTXt", b"k\0\0" + bomb), itxt("k", bomb, flags=b"\1\0"))
    file.write_bytes(data)
    tracemalloc.start()
    try:
        assert read_text_chunks(file, wanted={"k"}) == {}
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 8 * MAX_TEXT_BYTES


def test_many_large_texts_are_not_all_read(file: Path):
    part = zlib.compress(bytes(MAX_TEXT_BYTES - 100), 9)
    parts = [chunk(b"zTXt", b"k%d\0\0" % number + part) for number in range(30)]
    found = texts(file, image_bytes(*parts), *(f"k{number}" for number in range(30)))
    assert 0 < len(found) < 10


def test_huge_chunk_is_passed_over(file: Path):
    huge = chunk(b"iTXt", b"k\0\0\0\0\0" + b"x" * MAX_TEXT_BYTES)
    assert texts(file, image_bytes(huge, itxt("k", b"small"))) == {"k": "small"}


def test_length_that_lies_is_harmless(file: Path):
    lie = struct.pack(">I4s", 2**32 - 1, b"iTXt") + b"k\0"
    assert texts(file, image_bytes(lie)) == {}
    short_lie = struct.pack(">I4s", 1000, b"tEXt") + b"k\0x"
    assert texts(file, SIGNATURE + short_lie) == {}


def test_endless_small_chunks_end(file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(png, "MAX_CHUNKS", 50)
    many = [chunk(b"abCd", b"")] * 60
    assert texts(file, image_bytes(*many, itxt("k", b"never reached"))) == {}


def test_every_truncation_is_harmless(file: Path):
    data = saved_by_pillow()
    for length in range(0, len(data), 5):
        file.write_bytes(data[:length])
        assert read_record(file) in (None, RECORD)


@pytest.mark.parametrize("data", [b"", b"\x89PNG", b"GIF89a" * 10, b"\xff\xd8\xff\xe0" * 10])
def test_other_files_have_no_texts(file: Path, data: bytes):
    assert texts(file, data) == {}
    assert read_record(file) is None


def test_what_is_no_file_has_no_texts(tmp_path: Path):
    for path in (tmp_path, tmp_path / "missing", tmp_path / "\0"):
        assert read_text_chunks(path, wanted={"k"}) == {}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_does_not_block(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    assert read_record(tmp_path / "pipe") is None


def test_record_of_an_impossible_request_is_none(file: Path):
    impossible = replace(RECORD, request=replace(RECORD.request, width_px=10**9))
    file.write_bytes(image_bytes(itxt("headroom", record_to_json(impossible).encode())))
    assert read_record(file) is None


FUZZ = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FUZZ
@given(data=st.binary(max_size=2000), signed=st.booleans())
def test_any_bytes_are_read_without_an_error(file: Path, data: bytes, signed: bool):
    file.write_bytes((SIGNATURE if signed else b"") + data)
    assert read_record(file) is None


@FUZZ
@given(
    edits=st.lists(
        st.tuples(st.integers(0, 1 << 16), st.binary(max_size=9)), min_size=1, max_size=6
    ),
    packed=st.booleans(),
)
def test_mutated_pictures_are_read_without_an_error(
    file: Path, edits: list[tuple[int, bytes]], packed: bool
):
    data = bytearray(saved_by_pillow(packed=packed))
    for place, replacement in edits:
        start = place % len(data)
        data[start : start + len(replacement)] = replacement
    file.write_bytes(data)
    # The checksum finds what was changed inside the record; elsewhere it does not matter.
    assert read_record(file) in (None, RECORD)


@FUZZ
@given(
    kind=st.sampled_from([b"tEXt", b"zTXt", b"iTXt"]),
    body=st.one_of(
        st.binary(max_size=300),
        st.binary(max_size=300).map(lambda data: b"\0" + zlib.compress(data)),
    ),
)
def test_any_content_of_a_text_chunk_is_harmless(file: Path, kind: bytes, body: bytes):
    file.write_bytes(image_bytes(chunk(kind, b"headroom\0" + body)))
    assert read_record(file) is None
