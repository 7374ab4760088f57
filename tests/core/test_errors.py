import pytest

from app.core import errors
from app.core.errors import (
    AppError,
    EngineCrashedError,
    EngineError,
    ErrorInfo,
    ModelError,
    OutOfVramError,
    OutputError,
    ProtocolError,
    RequestError,
    SetupError,
    describe,
)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (AppError, "app"),
        (RequestError, "request"),
        (ModelError, "model"),
        (OutputError, "output"),
        (EngineError, "engine"),
        (OutOfVramError, "engine.out_of_memory"),
        (EngineCrashedError, "engine.crashed"),
        (ProtocolError, "engine.protocol"),
        (SetupError, "setup"),
    ],
)
def test_each_error_has_a_stable_code(kind: type[AppError], code: str):
    error = kind("What happened.")
    assert error.code == code
    assert str(error) == "What happened."
    assert error.info() == ErrorInfo(code=code, message="What happened.")


def test_own_code_and_details_are_kept():
    error = ModelError("No.", code="model.pickle", details="x.bin")
    assert error.info() == ErrorInfo(code="model.pickle", message="No.", details="x.bin")


def test_describe_keeps_a_known_error_without_traceback():
    with pytest.raises(OutputError) as caught:
        raise OutputError("Full.", code="output.disk_full")
    assert describe(caught.value) == ErrorInfo(code="output.disk_full", message="Full.")


def test_describe_turns_a_surprise_into_a_sentence_with_traceback():
    with pytest.raises(ZeroDivisionError) as caught:
        raise ZeroDivisionError("by zero")
    info = describe(caught.value)
    assert info.code == "unexpected"
    assert "ZeroDivisionError" in info.message
    assert info.details == "by zero"
    assert "test_errors.py" in info.traceback_text


def test_the_tree_in_the_docstring_names_every_error():
    kinds = [
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, AppError)
    ]
    assert kinds
    for name in kinds:
        assert name in (errors.__doc__ or "")
