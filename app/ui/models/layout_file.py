"""Where the window was and how its parts were arranged, kept over restarts."""

import base64
import logging
from dataclasses import dataclass
from pathlib import Path

import msgspec

from app.core.atomic import write_atomic

log = logging.getLogger(__name__)

LAYOUT_VERSION = 1
"""Raised when the window's parts change; an older arrangement is then forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What Qt gave for the window: opaque bytes, in base64."""

    geometry: str
    state: str
    version: int = LAYOUT_VERSION

    @classmethod
    def of_bytes(cls, *, geometry: bytes, state: bytes) -> "Layout":
        """A layout from what Qt gives."""
        return cls(
            geometry=base64.b64encode(geometry).decode(), state=base64.b64encode(state).decode()
        )

    def geometry_bytes(self) -> bytes:
        """What `restoreGeometry` takes."""
        return base64.b64decode(self.geometry)

    def state_bytes(self) -> bytes:
        """What `restoreState` takes."""
        return base64.b64decode(self.state)


class LayoutFile:
    """The layout in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> Layout | None:
        """The last layout; None where there is none, or it is another version's."""
        try:
            layout = msgspec.json.decode(self._path.read_bytes(), type=Layout)
            # Both are tried here, so that nobody meets broken text later.
            layout.geometry_bytes()
            layout.state_bytes()
        except FileNotFoundError:
            return None
        except (OSError, ValueError, msgspec.DecodeError) as error:
            log.warning("the window's layout cannot be read: %s", error)
            return None
        return layout if layout.version == LAYOUT_VERSION else None

    def save(self, layout: Layout) -> None:
        """Write the layout; a failure costs no more than the arrangement."""
        try:
            write_atomic(self._path, msgspec.json.encode(layout))
        except OSError as error:
            log.warning("the window's layout cannot be saved: %s", error)
