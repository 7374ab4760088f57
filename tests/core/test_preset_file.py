"""Presets as text: everything comes back, and a bad value costs only itself."""

import tomllib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.policy import (
    AUTOENCODER_PRECISIONS,
    Attention,
    MemoryMode,
    MemoryPolicy,
    Precision,
    Precisions,
)
from app.core.preset import Preset, PresetLimits
from app.core.preset_file import (
    MAX_FILE_BYTES,
    is_preset,
    preset_text,
    read_preset,
    renamed_text,
)
from app.core.units import GIB

_texts = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=40)
_sizes = st.integers(min_value=0, max_value=96 * GIB)
_sides = st.none() | st.integers(4, 512).map(lambda count: count * 16)
_presets = st.builds(
    Preset,
    name=_texts,
    gpu_name=st.none() | _texts,
    vram_bytes=st.none() | st.integers(1, 96 * GIB),
    model=st.none() | _texts,
    policy=st.builds(
        MemoryPolicy,
        headroom_bytes=_sizes,
        limit_bytes=st.none() | st.integers(1, 96 * GIB),
        ram_headroom_bytes=_sizes,
        mode=st.sampled_from(MemoryMode),
        strict=st.booleans(),
        upscale_back=st.booleans(),
        tile_px=st.just(0) | _sides,
        precisions=st.builds(
            Precisions,
            text_encoder=st.sampled_from(Precision),
            transformer=st.sampled_from(Precision),
            autoencoder=st.sampled_from(AUTOENCODER_PRECISIONS),
        ),
        attention=st.sampled_from(Attention),
        compile=st.booleans(),
    ),
    limits=st.builds(
        PresetLimits,
        max_side_px=_sides,
        max_pixels=st.none() | st.integers(64 * 64, 8192 * 8192),
        max_images=st.none() | st.integers(1, 64),
    ),
    steps=st.none() | st.integers(1, 1000),
    guidance=st.none() | st.floats(0, 100),
)


@settings(max_examples=60, deadline=None)
@given(_presets)
def test_every_preset_comes_back_to_the_byte(preset: Preset):
    read = read_preset(preset_text(preset).encode(), name="other")
    assert read.preset == preset
    assert read.problems == ()


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8")))
def test_any_bytes_give_a_preset(data: bytes):
    read = read_preset(data, name="x")
    assert read.preset.policy.headroom_bytes >= 0
    try:
        understood = tomllib.loads(data.decode("utf-8-sig")) == {}
    except (ValueError, RecursionError):
        understood = False
    assert bool(read.problems) != understood


def test_sizes_are_written_as_people_say_them():
    text = preset_text(Preset(name="12 GB", vram_bytes=12 * GIB, policy=_policy(round(1.1 * GIB))))
    values = tomllib.loads(text)
    assert values["gpu"] == {"vram_gb": 12.0}
    assert values["memory"]["headroom_gb"] == 1.1
    assert text.startswith("# How Headroom uses a GPU")


def test_what_is_left_out_has_its_default():
    read = read_preset(b'name = "mine"\n[memory]\nheadroom_gb = 2', name="x")
    assert read.preset == Preset(name="mine", policy=_policy(2 * GIB))
    assert read.problems == ()


def test_an_autoencoder_is_never_quantized():
    read = read_preset(b'[precision]\nautoencoder = "fp8"\ntransformer = "fp8"', name="x")
    assert read.preset.policy.precisions == Precisions(transformer=Precision.FP8)
    assert len(read.problems) == 1
    assert "precision.autoencoder: it is one of auto, fp32, bf16" in read.problems[0]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("headroom_gb = -1", "memory.headroom_gb: it is a number, 0 to 100000"),
        ("headroom_gb = nan", "memory.headroom_gb"),
        ("headroom_gb = inf", "memory.headroom_gb"),
        ("headroom_gb = true", "memory.headroom_gb"),
        ('headroom_gb = "1"', "memory.headroom_gb"),
        ("limit_gb = 0", "memory.limit_gb: it is a number, above 0 to"),
        ('mode = "turbo"', "memory.mode: it is one of auto, resident, balanced, minimal; it is t"),
        ("mode = []", "memory.mode"),
        ("strict = 1", "memory.strict: it is true or false; it is taken as false"),
        ("tile_px = 100", "memory.tile_px: it is auto, whole or a side"),
        ("tile_px = true", "memory.tile_px"),
        ("tile_px = 99999999999999999999", "memory.tile_px"),
        ("turbo = 1", "“memory.turbo”, which this version does not know"),
    ],
)
def test_a_bad_value_costs_only_itself(line: str, told: str):
    read = read_preset(f"[memory]\nram_headroom_gb = 3.5\n{line}".encode(), name="x")
    assert read.preset == Preset(name="x", policy=MemoryPolicy(ram_headroom_bytes=round(3.5 * GIB)))
    assert len(read.problems) == 1
    assert told in read.problems[0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('name = ""', "an unusable name"),
        ('name = "two\\nlines"', "an unusable name"),
        (f'name = "{"x" * 81}"', "up to 80 characters"),
        ("schema_version = 0", "schema_version: it is a whole number, 1 or more"),
        ('gpu = "RTX"', "an unusable gpu: it is a table"),
        ('[precision]\ntransformer = "fp4"', "one of auto, fp32, bf16, fp8, int8, nf4"),
        ("[limits]\nmax_images = 65", "limits.max_images: it is a whole number, 1 to 64"),
        ('[defaults]\nattention = "flash9"', "defaults.attention: it is one of auto"),
        ("[defaults]\nguidance = 101", "defaults.guidance: it is a number, 0 to 100"),
    ],
)
def test_other_bad_values_are_told(text: str, told: str):
    read = read_preset(text.encode(), name="x")
    assert read.preset == Preset(name="x")
    assert len(read.problems) == 1
    assert told in read.problems[0]


def test_a_newer_file_is_used_as_far_as_it_is_understood():
    data = b'schema_version = 7\nquantum = "yes"\n[memory]\nstrict = true\n[attic]\nx = 1\n'
    read = read_preset(data, name="x")
    assert read.preset == Preset(name="x", schema_version=7, policy=MemoryPolicy(strict=True))
    assert [problem for problem in read.problems if "newer Headroom (version 7" in problem]
    assert len(read.problems) == 3


def test_a_broken_line_costs_only_itself():
    data = b'name = "mine"\nmodel = demo"\n[memory]\nstrict = true\nheadroom_gb = \xff\n'
    read = read_preset(data, name="x")
    assert read.preset == Preset(name="mine", policy=MemoryPolicy(strict=True))
    assert read.problems == ("The preset “x” is broken at line 2, 5; the rest of it is used.",)


@pytest.mark.parametrize(
    "data",
    [b"\x00\x01", b"[" * 5000, b"<html>\n<body>", b"a = " + b"[" * 3000],
)
def test_no_toml_at_all_is_told(data: bytes):
    read = read_preset(data, name="x")
    assert read.preset == Preset(name="x")
    assert read.problems == ("The preset “x” cannot be read: its file is no TOML text.",)
    assert not is_preset(data)


def test_a_huge_file_is_not_parsed():
    read = read_preset(b"#" * (MAX_FILE_BYTES + 1), name="x")
    assert read.problems == (f"The preset “x” is no preset: its file has {1 + (1 << 20)} bytes.",)


def test_a_byte_order_mark_of_an_editor_does_not_matter():
    assert read_preset(b'\xef\xbb\xbfname = "mine"', name="x").preset.name == "mine"


def test_renaming_keeps_comments_and_unknown_keys():
    text = '# by hand\nname = "old" # good\nfuture = 1\n\n[memory]\nstrict = true # never smaller\n'
    assert renamed_text(text, "neu “1”") == text.replace("old", "neu “1”")


def test_other_toml_is_no_preset():
    assert not is_preset(b'[project]\nname = "x"\n')
    assert is_preset(preset_text(replace(Preset(name="x"), schema_version=9)).encode())


def _policy(headroom_bytes: int) -> MemoryPolicy:
    return MemoryPolicy(headroom_bytes=headroom_bytes)
