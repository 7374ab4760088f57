"""NVIDIA GPUs through NVML; the only file that knows its Python binding."""

import importlib
import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

from app.core.device import DeviceSnapshot
from app.core.errors import SetupError
from app.monitor.ancestry import Ancestry
from app.monitor.details import Details, SlowDetails

log = logging.getLogger(__name__)

REOPEN_INTERVAL_S = 5.0
"""A GPU that was reset or got a new driver answers again only after NVML is opened anew."""

_MILLIWATTS = 1000.0


class NvmlLibrary(Protocol):
    """The part of the `pynvml` module that is used here; handles and structs are its own."""

    NVMLError: type[Exception]
    NVML_TEMPERATURE_GPU: int
    NVML_ERROR_LIBRARY_NOT_FOUND: int
    NVML_ERROR_DRIVER_NOT_LOADED: int
    NVML_ERROR_LIB_RM_VERSION_MISMATCH: int
    NVML_ERROR_NO_PERMISSION: int
    nvmlMemory_v2: int  # noqa: N815 - NVML's own name

    def nvmlInit(self) -> None: ...  # noqa: N802 - NVML's own names
    def nvmlShutdown(self) -> None: ...  # noqa: N802
    def nvmlSystemGetDriverVersion(self) -> str: ...  # noqa: N802
    def nvmlDeviceGetCount(self) -> int: ...  # noqa: N802
    def nvmlDeviceGetHandleByIndex(self, index: int, /) -> Any: ...  # noqa: N802, ANN401
    def nvmlDeviceGetName(self, handle: Any, /) -> str: ...  # noqa: N802, ANN401
    def nvmlDeviceGetPciInfo(self, handle: Any, /) -> Any: ...  # noqa: N802, ANN401
    def nvmlDeviceGetMemoryInfo(self, handle: Any, version: int | None = None, /) -> Any: ...  # noqa: N802, ANN401
    def nvmlDeviceGetComputeRunningProcesses_v3(self, handle: Any, /) -> list[Any]: ...  # noqa: N802, ANN401
    def nvmlDeviceGetUtilizationRates(self, handle: Any, /) -> Any: ...  # noqa: N802, ANN401
    def nvmlDeviceGetTemperature(self, handle: Any, sensor: int, /) -> int: ...  # noqa: N802, ANN401
    def nvmlDeviceGetPowerUsage(self, handle: Any, /) -> int: ...  # noqa: N802, ANN401


def open_nvml_probes(library: NvmlLibrary | None = None) -> tuple["NvmlProbe", ...]:
    """A probe for each NVIDIA GPU that tells its memory; none where there is no NVIDIA driver.

    Args:
        library: Stands in for `pynvml`.

    Raises:
        SetupError: There is a driver, but it does not answer.
    """
    nvml = _load() if library is None else library
    if nvml is None:
        return ()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return _without_driver(nvml, error)
    try:
        driver = f"NVIDIA {nvml.nvmlSystemGetDriverVersion()}"
        found = [
            NvmlProbe(nvml, index=index, driver=driver)
            for index in range(nvml.nvmlDeviceGetCount())
        ]
    except nvml.NVMLError as error:
        raise _setup_error(nvml, error) from error
    finally:
        # NVML counts its users: each probe has opened it for itself.
        nvml.nvmlShutdown()
    usable: list[NvmlProbe] = []
    for probe in found:
        # GPUs that share the computer's memory have no figures of their own.
        if probe.snapshot(None) is None:
            probe.close()
        else:
            usable.append(probe)
    return tuple(usable)


class NvmlProbe:
    """One NVIDIA GPU.

    Memory in use is what cannot be had any more (total less free), as torch counts it: the
    driver's own reserve is in it. Under Windows the driver does not tell memory per process.

    Attributes:
        driver: "NVIDIA" and the driver's version.
    """

    def __init__(
        self,
        nvml: NvmlLibrary,
        *,
        index: int,
        driver: str,
        clock: Callable[[], float] = time.monotonic,
        ancestry: Ancestry | None = None,
    ) -> None:
        """Open NVML for this GPU; the GPU itself is asked with the first snapshot."""
        self.driver = driver
        self._nvml = nvml
        self._index = index
        self._clock = clock
        self._ancestry = Ancestry() if ancestry is None else ancestry
        self._handle: Any = None
        self._name = ""
        self._pci_address = ""
        self._opened = False
        self._closed = False
        self._retry_at_s = -float("inf")
        self._details = SlowDetails(self._read_details, clock)
        self._memory_version: int | None = nvml.nvmlMemory_v2

    def snapshot(self, engine_pid: int | None) -> DeviceSnapshot | None:
        """The GPU now; None while it does not answer, which it is asked again every 5 s."""
        now_s = self._clock()
        if self._closed or (self._handle is None and not self._open(now_s)):
            return None
        try:
            memory = self._memory()
        except self._nvml.NVMLError as error:
            log.info("GPU %d does not answer: %s", self._index, error)
            self._lose(now_s)
            return None
        details = self._details.now()
        return DeviceSnapshot(
            index=self._index,
            name=self._name,
            total_bytes=int(memory.total),
            used_bytes=max(0, int(memory.total) - int(memory.free)),
            engine_bytes=self._engine_bytes(engine_pid),
            utilization_percent=details.load_percent,
            temperature_c=details.temperature_c,
            power_w=details.power_w,
            pci_address=self._pci_address,
        )

    def close(self) -> None:
        """Let go of NVML."""
        self._closed = True
        self._release()

    def _open(self, now_s: float) -> bool:
        if now_s < self._retry_at_s:
            return False
        try:
            self._nvml.nvmlInit()
            self._opened = True
            handle = self._nvml.nvmlDeviceGetHandleByIndex(self._index)
            self._name = self._nvml.nvmlDeviceGetName(handle)
            self._pci_address = self._address(handle)
        except self._nvml.NVMLError as error:
            log.info("GPU %d cannot be opened: %s", self._index, error)
            self._lose(now_s)
            return False
        self._handle = handle
        return True

    def _address(self, handle: Any) -> str:  # noqa: ANN401 - one of NVML's
        try:
            found = self._nvml.nvmlDeviceGetPciInfo(handle)
        except self._nvml.NVMLError:
            return ""
        return f"{found.domain:04x}:{found.bus:02x}:{found.device:02x}.0"

    def _lose(self, now_s: float) -> None:
        self._release()
        self._retry_at_s = now_s + REOPEN_INTERVAL_S

    def _release(self) -> None:
        self._handle = None
        if self._opened:
            self._opened = False
            try:
                self._nvml.nvmlShutdown()
            except self._nvml.NVMLError as error:
                log.debug("NVML does not shut down: %s", error)

    def _memory(self) -> Any:  # noqa: ANN401 - one of NVML's structs
        if self._memory_version is not None:
            try:
                return self._nvml.nvmlDeviceGetMemoryInfo(self._handle, self._memory_version)
            except self._nvml.NVMLError as error:
                # Drivers before 510 have only the first version, and some GPUs likewise.
                log.debug("no second version of memory info: %s", error)
                memory = self._nvml.nvmlDeviceGetMemoryInfo(self._handle)
                self._memory_version = None
                return memory
        return self._nvml.nvmlDeviceGetMemoryInfo(self._handle)

    def _engine_bytes(self, engine_pid: int | None) -> int | None:
        if engine_pid is None:
            return None
        try:
            processes = self._nvml.nvmlDeviceGetComputeRunningProcesses_v3(self._handle)
        except self._nvml.NVMLError:
            return None
        ours = [
            process.usedGpuMemory
            for process in processes
            if self._ancestry.descends(process.pid, engine_pid)
        ]
        # In containers processes have other numbers than the driver knows, and in WSL it knows
        # none: who is not among them need not be without memory.
        if not ours or None in ours:
            return None
        return sum(int(used_bytes) for used_bytes in ours)

    def _read_details(self) -> Details:
        nvml, handle = self._nvml, self._handle

        def told(ask: Callable[[], float]) -> float | None:
            try:
                return ask()
            except nvml.NVMLError:
                return None

        return Details(
            load_percent=told(lambda: float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)),
            temperature_c=told(
                lambda: float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
            ),
            power_w=told(lambda: nvml.nvmlDeviceGetPowerUsage(handle) / _MILLIWATTS),
        )


def _load() -> NvmlLibrary | None:
    try:
        # Loaded when asked for: where there is no GPU, the start is not kept waiting by it.
        library: Any = importlib.import_module("pynvml")
    except ImportError as error:
        log.info("NVML cannot be imported: %s", error)
        return None
    return library


def _without_driver(nvml: NvmlLibrary, error: Exception) -> tuple["NvmlProbe", ...]:
    code = getattr(error, "value", None)
    if code in (nvml.NVML_ERROR_LIBRARY_NOT_FOUND, nvml.NVML_ERROR_DRIVER_NOT_LOADED):
        return ()
    raise _setup_error(nvml, error) from error


def _setup_error(nvml: NvmlLibrary, error: Exception) -> SetupError:
    code = getattr(error, "value", None)
    if code == nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH:
        return SetupError(
            "The NVIDIA driver was updated while it was in use: restart the computer, "
            "then GPU memory can be shown.",
            code="monitor.nvidia_restart",
            details=str(error),
        )
    if code == nvml.NVML_ERROR_NO_PERMISSION:
        return SetupError(
            "The NVIDIA driver does not let this user ask about the GPU: add the user to the "
            "group that owns /dev/nvidiactl.",
            code="monitor.nvidia_permission",
            details=str(error),
        )
    return SetupError(
        f"The NVIDIA driver does not answer ({error}): GPU memory is not shown; "
        "reinstalling the driver usually mends this.",
        code="monitor.nvidia",
        details=str(error),
    )
