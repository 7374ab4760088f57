"""Where a device's weights are on the computer's side."""

from app.engine.compute_device import ComputeDevice
from app.engine.residency.host_store import HostStore
from app.engine.residency.pinning import CopyingRegistrar, CudaRegistrar, Pinning, Registrar


def host_store(device: ComputeDevice) -> HostStore:
    """The CPU uses the mapped files; for a GPU weights are in RAM, locked as far as that goes."""
    if device.transfers.in_place:
        return HostStore(in_place=True)
    if device.simulated:
        # It copies from any RAM alike.
        return HostStore()
    kind = device.torch_device.type
    registrar: Registrar = (
        CudaRegistrar(device.torch_device) if kind == "cuda" else CopyingRegistrar()
    )
    return HostStore(Pinning(registrar))
