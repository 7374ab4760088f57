import errno
from pathlib import Path

import pytest

from installer.failures import NetworkFailedError, os_failure, pip_failure

LOG = Path("place") / "headroom-setup.log"


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (
            "ERROR: Could not install packages: [Errno 28] No space left on device",
            "disk became full",
        ),
        ("OSError: [WinError 112] There is not enough space on the disk", "disk became full"),
        ("ERROR: [Errno 13] Permission denied: '/opt/x'", "could not be written"),
        ("ERROR: [WinError 5] Access is denied: 'x.dll'", "could not be written"),
        ("[WinError 32] The process cannot access the file because it is being used", "in use"),
        ("SSLError(SSLCertVerificationError(1, 'CERTIFICATE_VERIFY_FAILED", "PIP_CERT"),
        (
            "WARNING: Retrying after NewConnectionError: Temporary failure in name resolution\n"
            "ERROR: No matching distribution found for torch",
            "could not be reached",
        ),
        ("urllib3.exceptions.ReadTimeoutError: Read timed out.", "could not be reached"),
        ("ERROR: No matching distribution found for torch>=99", "torch>=99"),
        ("", "pip failed"),
    ],
)
def test_pip_output_becomes_one_sentence(output, expected):
    text = str(pip_failure(output, doing="installing PyTorch", log=LOG))
    assert expected in text
    assert "while installing PyTorch" in text
    assert "\n" not in text


def test_only_a_network_failure_is_one():
    network = pip_failure("Network is unreachable", doing="x", log=LOG)
    disk = pip_failure("No space left on device, Network is unreachable", doing="x", log=LOG)
    assert isinstance(network, NetworkFailedError)
    assert not isinstance(disk, NetworkFailedError)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, "disk became full"),
        (errno.EACCES, "no permission to write there"),
        (errno.EROFS, "no permission to write there"),
        (errno.EIO, "A problem came up"),
    ],
)
def test_os_error_becomes_one_sentence(number, expected):
    import os

    error = OSError(number, os.strerror(number), "there")
    assert expected in str(os_failure(error, doing="setting up"))
