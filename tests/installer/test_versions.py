import pytest

from installer.versions import is_final, local_label, release, satisfies


@pytest.mark.parametrize(
    ("version", "specifier", "expected"),
    [
        ("2.9", ">=2.9,<2.14", True),
        ("2.9.0", ">=2.9,<2.14", True),
        ("2.13.5+cu130", ">=2.9,<2.14", True),
        ("2.14.0", ">=2.9,<2.14", False),
        ("2.8.9", ">=2.9,<2.14", False),
        ("2.10.0", ">=2.9", True),
        ("6.11.1", ">=6.10,!=6.11.0,!=6.11.1", False),
        ("6.11.2", ">=6.10,!=6.11.0,!=6.11.1", True),
        ("3.14", "==3.14.0", True),
        ("3.14", ">3.14", False),
        ("3.13", "<=3.14", True),
        ("1", "", True),
    ],
)
def test_satisfies(version, specifier, expected):
    assert satisfies(version, specifier) is expected


def test_parts_of_a_version():
    assert release("2.13.0+cu130") == (2, 13, 0)
    assert release("none") == ()
    assert local_label("2.13.0+cu130") == "cu130"
    assert local_label("2.13.0") == ""


@pytest.mark.parametrize(
    ("version", "expected"),
    [("2.13.0+cu130", True), ("2.9.1.post1", True), ("2.14.0rc1", False), ("2.14.dev20", False)],
)
def test_is_final(version, expected):
    assert is_final(version) is expected
