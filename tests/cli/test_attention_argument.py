"""`generate --attention KIND`."""

from dataclasses import replace
from pathlib import Path

import pytest

from app.cli.arguments import GenerateArguments, parse
from app.cli.run_preset import run_choices
from app.core.errors import RequestError
from app.core.policy import Attention


def typed(*more: str) -> GenerateArguments:
    arguments = parse(["generate", "--prompt", "x", *more]).generate
    assert arguments is not None
    return arguments


@pytest.mark.parametrize("kind", Attention)
def test_each_kind_has_its_name(kind: Attention) -> None:
    assert typed("--attention", kind.value.upper()).attention is kind


def test_what_is_typed_goes_before_the_preset(tmp_path: Path) -> None:
    def kind(arguments: GenerateArguments) -> Attention:
        return run_choices(arguments, model_folder=tmp_path, device="cpu").policy.attention

    assert kind(typed()) is Attention.AUTO
    assert kind(typed("--attention", "chunked")) is Attention.CHUNKED
    assert kind(replace(typed(), attention=Attention.MATH)) is Attention.MATH


def test_no_kind_is_told_with_those_that_are() -> None:
    with pytest.raises(RequestError, match="“slow” is no kind of attention: choose one of auto, s"):
        typed("--attention", "slow")
