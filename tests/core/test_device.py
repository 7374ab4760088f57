from dataclasses import FrozenInstanceError

import pytest

from app.core.device import DeviceSnapshot, HostSnapshot, Sample

HOST = HostSnapshot(total_bytes=8, available_bytes=4)


def test_what_a_machine_does_not_tell_is_none():
    device = DeviceSnapshot(index=0, name="GPU", total_bytes=2, used_bytes=1)
    assert (device.engine_bytes, device.utilization_percent) == (None, None)
    assert (device.temperature_c, device.power_w) == (None, None)
    assert HOST.engine_rss_bytes is None


def test_a_sample_without_a_gpu_has_no_device():
    assert Sample(time_s=1.0, host=HOST).device is None


def test_snapshots_are_frozen():
    with pytest.raises(FrozenInstanceError):
        HOST.total_bytes = 1  # pyright: ignore[reportAttributeAccessIssue]
