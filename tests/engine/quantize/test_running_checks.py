"""Checksums of tensors that come in pieces, and how they stand in a file's header."""

import zlib

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.engine.quantize import running_checks
from app.engine.quantize.file_layout import Group, lay_out_file, read_checks
from app.engine.quantize.running_checks import RunningChecks
from app.engine.residency.layout import lay_out

STRETCH = 7


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(sizes=st.lists(st.integers(0, 20), max_size=8))
def test_pieces_of_any_size_have_the_checksums_of_the_whole(
    sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_checks, "CHECK_BYTES", STRETCH)
    whole = torch.arange(sum(sizes)).to(torch.uint8)
    found = RunningChecks()
    for one, other in zip(whole.split(sizes), whole.split(sizes), strict=True):
        found.add("a", one)
        found.add("b", other + 1)
    content = bytes(whole.tolist())
    wanted = tuple(
        zlib.crc32(content[begin : begin + STRETCH]) for begin in range(0, len(content), STRETCH)
    )
    assert found.checks().get("a", ()) == wanted
    assert len(found.checks().get("b", ())) == len(wanted)


@pytest.mark.parametrize("check", [0, 1, 0xFFFFFFFF])
def test_a_header_has_the_same_length_with_any_checksums(tmp_path, check):
    tensors = {"one": torch.zeros(30, 20), "two": torch.zeros(5)}
    layout = lay_out_file([Group(prefix="", layout=lay_out(tensors.items()))], {"about": "x"})
    header = layout.header(dict.fromkeys(tensors, (check,)))
    assert len(header) == layout.header_bytes
    path = tmp_path / "a.safetensors"
    path.write_bytes(header)
    assert read_checks(path) == dict.fromkeys(tensors, (check,))


@pytest.mark.parametrize("content", [b"", b"\x02\0\0\0\0\0\0\0{}", bytes(100)])
def test_a_file_without_checksums_is_told(tmp_path, content):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r".+"):
        read_checks(path)
