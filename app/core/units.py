"""Sizes and times as numbers in base units, and the one place that turns them into text.

In every text for people a GB is 2**30 bytes, a MB 2**20 and a KB 2**10: as on a graphics card's
box, in Windows and in what drivers say. JSON has bytes.
"""

KIB = 1024
MIB = 1024**2
GIB = 1024**3


def format_bytes(size_bytes: int) -> str:
    """A size for people, in binary units: "512 B", "3.4 MB", "11.8 GB"."""
    if abs(size_bytes) < KIB:
        return f"{size_bytes} B"
    unit, name = KIB, "KB"
    for larger, larger_name in ((MIB, "MB"), (GIB, "GB")):
        # After rounding: a byte short of 1 MB is "1.0 MB", not "1024 KB".
        if round(abs(size_bytes) / unit) >= 1024:
            unit, name = larger, larger_name
    value = size_bytes / unit
    return f"{value:.0f} {name}" if round(abs(value), 1) >= 100 else f"{value:.1f} {name}"


def format_part(done_bytes: int, total_bytes: int) -> str:
    """How much of something is done, both in the unit of the whole: "3.1 of 7.5 GB"."""
    whole, _, unit = format_bytes(total_bytes).rpartition(" ")
    per_unit = {"B": 1, "KB": KIB, "MB": MIB, "GB": GIB}[unit]
    done = done_bytes / per_unit
    return f"{done:.1f} of {whole} {unit}" if "." in whole else f"{done:.0f} of {whole} {unit}"


def format_need(needed_bytes: int, budget_bytes: int) -> tuple[str, str]:
    """What is needed and what there is, in GB without the unit: ("9.1", "11.2").

    Both to the nearest tenth, so that they compare as they are. What is too much by less is told
    with a second decimal, or a refusal would read as if it fitted.
    """
    needed, budget = needed_bytes / GIB, budget_bytes / GIB
    texts = (f"{needed:.1f}", f"{budget:.1f}")
    if needed_bytes <= budget_bytes or texts[0] != texts[1]:
        return texts
    hundredths = round(budget * 100)
    return (f"{max(hundredths + 1, round(needed * 100)) / 100:.2f}", f"{hundredths / 100:.2f}")


def format_seconds(seconds: float) -> str:
    """A duration for people: "0.42 s", "12 s", "3 min 05 s", "2 h 10 min"."""
    # Limits are of the rounded number: 59.6 s is "1 min 00 s", not "60 s".
    if round(seconds, 2) < 10:
        return f"{seconds:.2f} s"
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def format_rate(seconds_per_step: float) -> str:
    """Speed of denoising: "1.8 s/it", or "2.4 it/s" when a step takes under a second."""
    if seconds_per_step <= 0:
        return "–"
    if seconds_per_step < 1:
        return f"{1 / seconds_per_step:.1f} it/s"
    return f"{seconds_per_step:.1f} s/it"


def format_bandwidth(bytes_per_s: float) -> str:
    """How fast something is copied: "11.8 GB/s"."""
    return f"{format_bytes(round(bytes_per_s))}/s"


def format_flops(flops: float) -> str:
    """Floating-point operations per second: "41.3 TFLOPS", "98.0 GFLOPS"."""
    return f"{flops / 1e12:.1f} TFLOPS" if flops >= 1e12 else f"{flops / 1e9:.1f} GFLOPS"
