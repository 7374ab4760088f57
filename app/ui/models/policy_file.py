"""How memory may be used, as the user left it for each GPU: plain data that survives a restart."""

import logging
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from app.core.atomic import write_atomic
from app.core.policy import MemoryPolicy
from app.core.preset import PresetLimits

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyState:
    """What is in force on one GPU.

    Attributes:
        policy: What a run may take and give up.
        limits: The most a request may ask for.
        preset: Name of the preset it was taken from; "" for none.
    """

    policy: MemoryPolicy = field(default_factory=MemoryPolicy)
    limits: PresetLimits = field(default_factory=PresetLimits)
    preset: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Remembered:
    devices: dict[str, PolicyState] = field(default_factory=dict[str, PolicyState])


class PolicyFile:
    """The states of all GPUs that were met, by the GPU's name."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> dict[str, PolicyState]:
        """What was left; nothing where there is no file or it cannot be read."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Remembered).devices
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            log.warning("the memory settings cannot be read: %s", error)
            return {}

    def save(self, devices: dict[str, PolicyState]) -> None:
        """Write all of them.

        Raises:
            OSError: The file cannot be written; it is as before.
        """
        values = {"schema_version": SCHEMA_VERSION, "devices": msgspec.to_builtins(devices)}
        write_atomic(self._path, msgspec.json.format(msgspec.json.encode(values), indent=2))
