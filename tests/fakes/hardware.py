"""Hardware that does what it is told: a GPU, a computer and what they say over time."""

from app.core.device import DeviceSnapshot, HostSnapshot, Sample
from app.core.units import GIB
from app.monitor.device_probe import DeviceProbe
from app.monitor.host import HostProbe


def device(
    *, used_gib: float = 1.0, engine_gib: float | None = None, total_gib: float = 12.0
) -> DeviceSnapshot:
    """A GPU at one moment, in GiB."""
    return DeviceSnapshot(
        index=0,
        name="Fake GPU",
        total_bytes=round(total_gib * GIB),
        used_bytes=round(used_gib * GIB),
        engine_bytes=None if engine_gib is None else round(engine_gib * GIB),
    )


def host(
    *, used_gib: float = 6.0, engine_gib: float | None = None, total_gib: float = 32.0
) -> HostSnapshot:
    """A computer at one moment, in GiB."""
    return HostSnapshot(
        total_bytes=round(total_gib * GIB),
        available_bytes=round((total_gib - used_gib) * GIB),
        engine_rss_bytes=None if engine_gib is None else round(engine_gib * GIB),
    )


def sample(
    time_s: float, *, gpu: DeviceSnapshot | None = None, computer: HostSnapshot | None = None
) -> Sample:
    """A sample; without a GPU unless one is given."""
    return Sample(time_s=time_s, host=computer or host(), device=gpu)


class FakeProbe(DeviceProbe):
    """A GPU.

    Attributes:
        now: What the next snapshots say; None while it does not answer.
        asked_for: Process numbers that snapshots were taken for.
        closed: Whether it was closed.
    """

    def __init__(self, now: DeviceSnapshot | None = None) -> None:
        self.now = now
        self.asked_for: list[int | None] = []
        self.closed = False

    @property
    def driver(self) -> str:
        return "fake 1.0"

    def snapshot(self, engine_pid: int | None) -> DeviceSnapshot | None:
        assert not self.closed, "a closed probe was asked"
        self.asked_for.append(engine_pid)
        return self.now

    def close(self) -> None:
        self.closed = True


class FakeHost(HostProbe):
    """A computer.

    Attributes:
        now: What the next snapshots say.
        asked_for: Process numbers that snapshots were taken for.
    """

    def __init__(self, now: HostSnapshot | None = None) -> None:
        super().__init__()
        self.now = now or host()
        self.asked_for: list[int | None] = []

    def snapshot(self, engine_pid: int | None) -> HostSnapshot:
        self.asked_for.append(engine_pid)
        return self.now
