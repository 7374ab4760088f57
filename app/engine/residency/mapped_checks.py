"""Checksums of mapped files, compared before they are used for the first time.

The device computes with mapped weights where they are, so nobody reads them who could look at them;
but the first pass uses all of them, and finds in RAM what was read here.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psutil
import torch

from app.core.units import format_bytes
from app.engine.stored_weights import (
    CHECK_BYTES,
    DamagedFileError,
    MappedFiles,
    StoredTensor,
    checksum,
)

log = logging.getLogger(__name__)

THREADS = 4
"""A disk gives more when it is asked for several stretches at once."""
_AHEAD = 2 * THREADS
_Stretch = tuple[StoredTensor, torch.Tensor, int]
"""Of a tensor, its bytes in the file, and the checksum they have to have."""


class MappedChecks:
    """What is to be compared of one network, once."""

    def __init__(self, stored: Iterable[StoredTensor], files: MappedFiles) -> None:
        """Read nothing yet.

        Args:
            stored: The tensors.
            files: As the network has them: others may have put another file in the place of one.
        """
        self._files: MappedFiles | None = files
        self._stored: tuple[StoredTensor, ...] = tuple(one for one in stored if one.checks)

    def compare(self, check: Callable[[], None]) -> None:
        """See `check_mapped`; nothing happens when all was compared before."""
        if self._files is not None:
            check_mapped(self._stored, self._files, check)
            self._files = None


def check_mapped(
    stored: Iterable[StoredTensor],
    files: MappedFiles,
    check: Callable[[], None],
    *,
    room_bytes: Callable[[], int] = lambda: int(psutil.virtual_memory().available),
) -> None:
    """Compare tensors with their checksums, where they have any.

    What is larger than the RAM that is there would have to be read once more later: it is not
    checked.

    Args:
        stored: The tensors.
        files: That are mapped.
        check: Called between stretches; may raise to stop.
        room_bytes: RAM that mapped files can take.

    Raises:
        DamagedFileError: One is something else.
    """
    with_checks = [tensor for tensor in stored if tensor.checks]
    size_bytes = sum(tensor.nbytes for tensor in with_checks)
    if size_bytes > room_bytes():
        log.info("%s of mapped weights are not checked: RAM is short", format_bytes(size_bytes))
        return
    comparing: deque[Future[None]] = deque()
    with ThreadPoolExecutor(THREADS, "weights-checker") as pool:
        try:
            for stretch in _stretches(with_checks, files):
                check()
                comparing.append(pool.submit(_compare, stretch))
                if len(comparing) > _AHEAD:
                    comparing.popleft().result()
            while comparing:
                check()
                comparing.popleft().result()
        finally:
            for one in comparing:
                one.cancel()


def _stretches(stored: Iterable[StoredTensor], files: MappedFiles) -> Iterator[_Stretch]:
    for tensor in stored:
        content = files.raw(tensor)
        for number, wanted in enumerate(tensor.checks):
            begin = number * CHECK_BYTES
            yield tensor, content[begin : begin + CHECK_BYTES], wanted


def _compare(stretch: _Stretch) -> None:
    tensor, content, wanted = stretch
    array: Any = content.numpy()
    if checksum(memoryview(array)) != wanted:
        raise DamagedFileError(tensor.path)
