"""What was found out by trying, by key, in a JSON file: bounded, and never worth an error."""

import logging
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from app.core.atomic import write_atomic

log = logging.getLogger(__name__)

Entry = TypeVar("Entry")


class KeptEntries(Generic[Entry]):
    """Entries of one kind; where the file cannot be written, they are kept in memory."""

    def __init__(
        self,
        path: Path | None,
        kind: type[Entry],
        *,
        schema_version: int,
        max_entries: int,
        name: str,
    ) -> None:
        """Read what is there; a file that is broken, or of another version, has no entries.

        Args:
            path: Of the file; None keeps entries in memory.
            kind: Of the entries, as msgspec converts it.
            schema_version: Of the file.
            max_entries: That are kept; the oldest go.
            name: For the log, in the plural.
        """
        self._path = path
        self._schema_version = schema_version
        self._max_entries = max_entries
        self._name = name
        self._entries = {} if path is None else self._read(path, kind)

    def get(self, key: str) -> Entry | None:
        """What is known for a key."""
        return self._entries.get(key)

    def put(self, key: str, entry: Entry) -> None:
        """Keep what is known for a key."""
        self._entries.pop(key, None)
        self._entries[key] = entry
        for oldest in tuple(self._entries)[: -self._max_entries]:
            del self._entries[oldest]
        if self._path is None:
            return
        content = {"schema_version": self._schema_version, "entries": self._entries}
        try:
            write_atomic(self._path, msgspec.json.encode(content))
        except OSError as error:
            log.info("%s cannot be kept: %s", self._name, error)

    def _read(self, path: Path, kind: type[Entry]) -> dict[str, Entry]:
        try:
            raw = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
            if raw.get("schema_version") != self._schema_version:
                return {}
            found: dict[str, Any] = msgspec.convert(raw.get("entries"), type=dict[str, Any])
            return {key: msgspec.convert(entry, type=kind) for key, entry in found.items()}
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            # They can all be found out again.
            log.info("%s cannot be read: %s", self._name, error)
            return {}
