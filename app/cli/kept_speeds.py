"""Keeping what was measured of this machine, so that plans reckon with it."""

from dataclasses import replace

from app.cli.gpu_here import gpu_here
from app.core.calibration_store import CalibrationStore
from app.core.errors import OutputError
from app.core.machine_speeds import MachineSpeeds
from app.core.measured_run import CalibrationKey
from app.core.paths import app_paths
from app.core.units import format_seconds
from app.engine.machine import CPU, calibration_key


def keep_speeds(device: str, speeds: MachineSpeeds, *, over_others: bool = False) -> str:
    """Keep what was measured; a sentence about the file, or "".

    Args:
        device: "auto", "cpu", "cuda:1", ...: as it was chosen.
        speeds: That were measured.
        over_others: Whether what was measured earlier stays where nothing was measured now.

    Raises:
        OutputError: It cannot be kept.
    """
    key = _key(device, speeds)
    store = CalibrationStore(app_paths().calibration_file)
    before = store.speeds(key) if over_others else None
    if before is not None:
        speeds = replace(
            speeds,
            pinned_bytes_per_s=speeds.pinned_bytes_per_s or before.pinned_bytes_per_s,
            pageable_bytes_per_s=speeds.pageable_bytes_per_s or before.pageable_bytes_per_s,
            read_bytes_per_s=speeds.read_bytes_per_s or before.read_bytes_per_s,
            context_bytes=speeds.context_bytes or before.context_bytes,
        )
    try:
        store.record_speeds(key, speeds)
    except OSError as error:
        raise OutputError(
            f"What was measured cannot be kept ({error.strerror or error}), so plans do not reckon "
            f"with it: allow writing in {app_paths().calibration_file.parent}.",
            code="output.failed",
        ) from error
    return store.problem


def last_words(seconds: float, *, kept: bool) -> str:
    """The line under what was measured."""
    effect = "; plans reckon with it from now on" if kept else ""
    return f"Measured in {format_seconds(seconds)}{effect}.\n"


def _key(device: str, speeds: MachineSpeeds) -> CalibrationKey:
    gpu = None if speeds.device == CPU else gpu_here(device)
    return calibration_key(
        speeds.device_name if gpu is None else gpu.snapshot.name,
        driver="" if gpu is None else gpu.driver,
        torch_version=speeds.torch_version,
    )
