import unicodedata
from dataclasses import replace
from datetime import datetime
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.errors import RequestError
from app.core.naming import (
    MAX_STEM_BYTES,
    NAME_FIELDS,
    NameFields,
    check_template,
    file_stem,
    numbered,
    safe_stem,
)

FIELDS = NameFields(
    created=datetime(2026, 11, 21, 14, 30, 5),  # noqa: DTZ001 - local time, as people name files
    seed=2**64 - 1,
    index=0,
    model="klein-4b",
    prompt="a big red circle",
    width_px=1024,
    height_px=768,
    steps=4,
    job_id="0123456789abcdef",
)


def test_every_field_is_filled():
    template = " ".join(f"{{{name}}}" for name in NAME_FIELDS)
    assert file_stem(template, FIELDS) == (
        "2026-11-21 143005 18446744073709551615 1 klein-4b a big red circle 1024 768 4 01234567"
    )


def test_default_template():
    assert file_stem("{date}-{time}-{seed}", replace(FIELDS, seed=5)) == "2026-11-21-143005-5"


@pytest.mark.parametrize("prompt", ["赤い円", "красный круг", "دائرة", "ein Köter", "🔴 emoji"])
def test_other_scripts_are_kept(prompt: str):
    assert file_stem("{prompt}", replace(FIELDS, prompt=prompt)) == prompt


def test_long_prompt_is_shortened_and_its_lines_joined():
    stem = file_stem("{prompt}", replace(FIELDS, prompt="many\n\twords " * 100))
    assert stem.startswith("many words many")
    assert len(stem) <= 60


def test_braces_in_a_prompt_are_no_fields():
    assert file_stem("{prompt}", replace(FIELDS, prompt="{seed} {x}")) == "{seed} {x}"


def test_folders_cannot_be_left():
    assert file_stem("../../{model}", replace(FIELDS, model="a/b\\c")) == "_.._a_b_c"


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("{sede}", "no field {sede}: did you mean {seed}?"),
        ("{Seed}", "no field {Seed}: did you mean {seed}?"),
        ("{}", "no field {}: known are {date}, {time}"),
        ("{qqqq}", "known are {date}"),
        ("{seed", "a brace without its partner"),
        ("seed}", "a brace without its partner"),
        ("", "is empty"),
        ("  ", "is empty"),
    ],
)
def test_template_that_cannot_be_used_is_told(template: str, sentence: str):
    with pytest.raises(RequestError) as caught:
        check_template(template)
    assert caught.value.code == "request.name_template"
    assert sentence in caught.value.message
    with pytest.raises(RequestError):
        file_stem(template, FIELDS)


@pytest.mark.parametrize(
    ("text", "stem"),
    [
        ("con", "_con"),
        ("NUL", "_NUL"),
        ("nul.tar", "_nul.tar"),
        ("COM1", "_COM1"),
        ("lpt¹", "_lpt¹"),
        ("conin$", "_conin$"),
        ("aux .x", "_aux .x"),
        ("console", "console"),
        ("com10", "com10"),
        ('a<b>c:d"e/f\\g|h?i*j', "a_b_c_d_e_f_g_h_i_j"),
        ("name. . ", "name"),
        (" .hidden", "hidden"),
        ("tab\tnew\nline\0zero", "tabnewlinezero"),
        ("\u202egnp.exe", "gnp.exe"),
        ("half \ud800", "half"),
        ("e\u0301", "é"),
        ("", "image"),
        ("...", "image"),
        ("\0", "image"),
    ],
)
def test_safe_stem(text: str, stem: str):
    assert safe_stem(text) == stem


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=400))
def test_any_text_becomes_a_name_that_both_systems_take(text: str):
    stem = safe_stem(text)
    assert stem
    assert len(stem.encode()) <= MAX_STEM_BYTES + 1
    assert not set(stem) & set('<>:"/\\|?*')
    assert not any(unicodedata.category(character) in {"Cc", "Cs"} for character in stem)
    assert stem == stem.strip(" .")
    assert safe_stem(stem) == stem or len(stem.encode()) > MAX_STEM_BYTES


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="CONPRAUXLTcom0123456789¹². $in", max_size=12))
def test_no_name_is_reserved_by_windows(text: str):
    first = safe_stem(text).partition(".")[0].rstrip().upper()
    assert first not in {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"}
    assert not (first[:3] in {"COM", "LPT"} and len(first) == 4 and first[3] in "0123456789¹²³")


def test_long_names_are_cut_between_characters():
    stem = safe_stem("円" * 200)
    assert stem == "円" * (MAX_STEM_BYTES // 3)


def test_numbered_goes_on_without_end():
    assert list(islice(numbered("a"), 4)) == ["a", "a-2", "a-3", "a-4"]
