"""As much of Python's version rules as the installer needs."""

import re

_RELEASE = re.compile(r"(\d+(?:\.\d+)*)")
_CLAUSE = re.compile(r"(>=|<=|==|!=|>|<)\s*([\w.]+)")


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version, "2.13.0+cu130" -> (2, 13, 0); empty when there are none."""
    match = _RELEASE.match(version)
    return tuple(int(number) for number in match[1].split(".")) if match else ()


def local_label(version: str) -> str:
    """What stands behind the plus, "2.13.0+cu130" -> "cu130"; empty when nothing does."""
    return version.partition("+")[2]


def is_final(version: str) -> bool:
    """Whether it is neither a pre-release nor a development version."""
    return re.fullmatch(r"\d+(\.\d+)*(\.post\d+)?", version.partition("+")[0]) is not None


def satisfies(version: str, specifier: str) -> bool:
    """Whether a version lies in a range such as ">=2.9,<2.14"."""
    have = release(version)
    for operator, bound in _CLAUSE.findall(specifier):
        order = _compare(have, release(bound))
        if not {
            ">=": order >= 0,
            "<=": order <= 0,
            "==": order == 0,
            "!=": order != 0,
            ">": order > 0,
            "<": order < 0,
        }[operator]:
            return False
    return True


def _compare(left: tuple[int, ...], right: tuple[int, ...]) -> int:
    length = max(len(left), len(right))
    padded_left = left + (0,) * (length - len(left))
    padded_right = right + (0,) * (length - len(right))
    return (padded_left > padded_right) - (padded_left < padded_right)
