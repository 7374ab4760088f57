"""Checksums of tensors that are written piece by piece."""

from typing import Any

import torch

from app.engine.stored_weights import CHECK_BYTES, checksum


class RunningChecks:
    """Takes the pieces of tensors, each tensor's in order; see `StoredTensor.checks`."""

    def __init__(self) -> None:
        self._done: dict[str, list[int]] = {}
        self._in_stretch: dict[str, int] = {}

    def add(self, name: str, piece: torch.Tensor) -> None:
        """The next piece of a tensor."""
        numbers: Any = piece.contiguous().view(-1).view(torch.uint8).numpy()
        content = memoryview(numbers)
        done = self._done.setdefault(name, [])
        while content:
            held_bytes = self._in_stretch.get(name, 0)
            part = content[: CHECK_BYTES - held_bytes]
            if held_bytes:
                done[-1] = checksum(part, done[-1])
            else:
                done.append(checksum(part))
            self._in_stretch[name] = (held_bytes + len(part)) % CHECK_BYTES
            content = content[len(part) :]

    def checks(self) -> dict[str, tuple[int, ...]]:
        """Of all that was taken, by name."""
        return {name: tuple(found) for name, found in self._done.items()}
