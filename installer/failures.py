"""What can go wrong during set-up, as one sentence each."""

import re
from pathlib import Path


class SetupFailedError(Exception):
    """Set-up cannot go on; the message is one sentence: what happened and what to do."""


class NetworkFailedError(SetupFailedError):
    """A package server did not answer."""


_NETWORK = re.compile(
    r"NewConnectionError|NameResolutionError|Name or service not known|Temporary failure in name"
    r"|getaddrinfo failed|ConnectTimeout|ReadTimeout|Network is unreachable|ProxyError"
    r"|Connection (refused|reset|aborted|broken)|IncompleteRead|No route to host",
    re.IGNORECASE,
)
_CERTIFICATE = re.compile(r"CERTIFICATE_VERIFY_FAILED|SSLCertVerificationError", re.IGNORECASE)
_DISK = re.compile(
    r"No space left on device|Errno 28\b|WinError 112\b|not enough space|Disk quota exceeded",
    re.IGNORECASE,
)
_PERMISSION = re.compile(
    r"Permission denied|Errno 13\b|WinError 5\b|Access is denied|Read-only file system",
    re.IGNORECASE,
)
_IN_USE = re.compile(r"WinError 32\b|being used by another process", re.IGNORECASE)


def pip_failure(output: str, *, doing: str, log: Path) -> SetupFailedError:
    """The sentence for a failed `pip`, from what it printed.

    Args:
        output: All it printed.
        doing: What it was used for, like "installing PyTorch".
        log: File that has the output.
    """
    # The order counts: a full disk and a refused write also break connections.
    if _DISK.search(output):
        return SetupFailedError(
            f"The disk became full while {doing}; free some space and run the same command again."
        )
    if _IN_USE.search(output):
        return SetupFailedError(
            f"A file was in use while {doing}; close Headroom and run the same command again."
        )
    if _PERMISSION.search(output):
        return SetupFailedError(
            f"A file could not be written while {doing}; make {log.parent} writable for you "
            "and run the same command again."
        )
    if _CERTIFICATE.search(output):
        return SetupFailedError(
            f"The package server's certificate was not trusted while {doing}; a proxy may be in "
            "between: set PIP_CERT to its certificate file and run the same command again."
        )
    if _NETWORK.search(output):
        return NetworkFailedError(
            f"The package server could not be reached while {doing}; check the network or proxy "
            "and run the same command again, it continues where it stopped."
        )
    errors = [line for line in output.splitlines() if line.startswith("ERROR: ")]
    reason = errors[-1].removeprefix("ERROR: ").rstrip(".") if errors else "pip failed"
    return SetupFailedError(f"A problem came up while {doing}: {reason}; all of it is in {log}.")


def os_failure(error: OSError, *, doing: str) -> SetupFailedError:
    """The sentence for a file that could not be made or written."""
    text = f"{error} {error.strerror or ''}"
    where = error.filename or "a file"
    if _DISK.search(text):
        return SetupFailedError(
            f"The disk became full while {doing}; free some space and run the same command again."
        )
    if _PERMISSION.search(text):
        return SetupFailedError(
            f"There is no permission to write {where} while {doing}; make its folder writable for "
            "you, or move the project to a folder that is."
        )
    return SetupFailedError(f"A problem came up while {doing}: {error}.")
