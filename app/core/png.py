"""Reading text from PNG files of any origin: truncated, huge or hostile ones do no harm.

Only chunk headers and small text chunks are read, pixels never; whatever is wrong is left out.
"""

import stat
import struct
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO

from app.core.metadata import RECORD_KEY, ImageRecord, record_from_json

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS = 200_000
"""An 8192 px picture of an encoder with 8 KiB chunks has about 40,000."""
MAX_TEXT_BYTES = 4 << 20
"""Of one text, packed or unpacked; a record with the longest prompt has some kilobytes."""
MAX_TEXTS_BYTES = 16 << 20
"""Of all texts read from a file."""
_TEXT_CHUNKS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_HEADER = struct.Struct(">I4s")
_CRC = struct.Struct(">I")


def read_record(path: Path) -> ImageRecord | None:
    """How the picture in a file was made; None when the file does not say, or is no picture."""
    text = read_text_chunks(path, wanted={RECORD_KEY}).get(RECORD_KEY)
    return None if text is None else record_from_json(text)


def read_text_chunks(path: Path, *, wanted: Collection[str]) -> dict[str, str]:
    """Texts of a PNG file by keyword, the first of each.

    Args:
        path: A file of any kind, or nothing at all.
        wanted: Keywords to read; all others are passed over.
    """
    try:
        # A pipe would block forever and a device never end.
        if not stat.S_ISREG(path.stat().st_mode):
            return {}
        with path.open("rb") as file:
            return _read_texts(file, wanted)
    except (OSError, ValueError):  # ValueError: a zero byte in the path.
        return {}


def _read_texts(file: BinaryIO, wanted: Collection[str]) -> dict[str, str]:
    texts: dict[str, str] = {}
    left_bytes = MAX_TEXTS_BYTES
    for kind, data in _text_chunks(file):
        left_bytes -= len(data)
        entry = _parse(kind, data, wanted)
        if entry is not None:
            keyword, text = entry
            left_bytes -= len(text)
            texts.setdefault(keyword, text)
        if left_bytes < 0 or len(texts) == len(wanted):
            break
    return texts


def _text_chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Kind and data of the text chunks whose checksum is right."""
    if file.read(len(SIGNATURE)) != SIGNATURE:
        return
    for _ in range(MAX_CHUNKS):
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            return
        length, kind = _HEADER.unpack(header)
        if kind == b"IEND":
            return
        if kind not in _TEXT_CHUNKS or length > MAX_TEXT_BYTES:
            file.seek(length + _CRC.size, 1)
            continue
        data = file.read(length)
        checksum = file.read(_CRC.size)
        if len(checksum) < _CRC.size:
            return
        if _CRC.unpack(checksum)[0] == zlib.crc32(data, zlib.crc32(kind)):
            yield kind, data


def _parse(kind: bytes, data: bytes, wanted: Collection[str]) -> tuple[str, str] | None:
    """Keyword and text of a chunk; None when it is not wanted or makes no sense."""
    raw_keyword, found, rest = data.partition(b"\0")
    keyword = raw_keyword.decode("latin-1")
    if not found or keyword not in wanted:
        return None
    if kind == b"tEXt":
        return keyword, rest.decode("latin-1")
    if kind == b"zTXt":
        # One byte: method; 0 is the only one there is.
        unpacked = _unpack(rest[1:]) if rest[:1] == b"\0" else None
        return None if unpacked is None else (keyword, unpacked.decode("latin-1"))
    return _parse_international(keyword, rest)


def _parse_international(keyword: str, rest: bytes) -> tuple[str, str] | None:
    # Flag, method, language tag, 0, translated keyword, 0, text.
    flags, fields = rest[:2], rest[2:].split(b"\0", 2)
    if len(fields) < 3 or flags not in {b"\0\0", b"\1\0"}:
        return None
    text = _unpack(fields[2]) if flags[0] else fields[2]
    return None if text is None else (keyword, text.decode("utf-8", "replace"))


def _unpack(data: bytes) -> bytes | None:
    """Unpacked data; None when it is broken or too large: kilobytes can unpack to gigabytes."""
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(data, MAX_TEXT_BYTES)
    except zlib.error:
        return None
    return text if unpacker.eof else None
