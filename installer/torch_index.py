"""Asks PyTorch's wheel index which builds it has for this Python and system."""

import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass

from installer.versions import is_final, release, satisfies

INDEX_URL = "https://download.pytorch.org/whl"
TIMEOUT_S = 8.0

_WHEEL = re.compile(r"torch-([0-9][^-\s/]*)-(cp\d+)-(cp\d+t?)-([\w.]+?)\.whl")


class IndexUnreachableError(Exception):
    """PyTorch's wheel index does not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a wheel must fit.

    Attributes:
        python_tag: Like "cp311".
        system: As in `platform.system()`.
        machine: As in `platform.machine()`.
    """

    python_tag: str
    system: str
    machine: str

    def fits(self, *, python_tag: str, abi_tag: str, platform_tag: str) -> bool:
        """Whether a wheel with these tags can be installed."""
        if not python_tag == abi_tag == self.python_tag:
            return False
        machine = self.machine.lower()
        if self.system == "Windows":
            return platform_tag == f"win_{machine}"
        if self.system == "Linux":
            return "linux" in platform_tag and platform_tag.endswith(f"_{machine}")
        return False


def index_url(name: str) -> str:
    """Address of one of its indexes, such as "cu130"."""
    return f"{INDEX_URL}/{name}"


def read_index(name: str, *, base_url: str = INDEX_URL, timeout_s: float = TIMEOUT_S) -> str:
    """The page that lists the torch wheels of one index; empty when there is no such index.

    Raises:
        IndexUnreachableError: It does not answer in time.
    """
    request = urllib.request.Request(f"{base_url}/{name}/torch/", headers={"Accept": "text/html"})
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            return response.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        error.close()
        # The storage behind the index answers 403 as well as 404 for what does not exist.
        if error.code in {403, 404}:
            return ""
        raise IndexUnreachableError(str(error)) from error
    except (OSError, ValueError) as error:
        raise IndexUnreachableError(str(error)) from error


def newest_version(page: str, *, target: Target, specifier: str) -> str:
    """The newest final version in range that has a wheel for the target; empty when none has."""
    versions = {
        version
        for version, python_tag, abi_tag, platform_tag in _WHEEL.findall(urllib.parse.unquote(page))
        if is_final(version)
        and satisfies(version, specifier)
        and target.fits(python_tag=python_tag, abi_tag=abi_tag, platform_tag=platform_tag)
    }
    return max(versions, key=release, default="")
