"""Ways to decode a run's images, the gentlest first."""

import math
from dataclasses import dataclass, replace

from app.core.jobs import Phase
from app.core.plan import DECODE_TILES_PX
from app.engine.planning.components import AUTOENCODER
from app.engine.planning.kept import in_turns
from app.engine.planning.problem import PlanProblem
from app.engine.planning.ram import cpu_decode_ram_bytes
from app.engine.planning.seconds import DECODE_RUNG_S, compute_seconds, cpu_decode_seconds

TILE_OVERLAP_SHARE = 0.25
"""Of a tile's side that it has in common with the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeWay:
    """One way.

    Attributes:
        batch: Images at once.
        tile_px: Side of tiles, or None for whole images.
        on_cpu: Whether the autoencoder runs on the processor.
        forecast_bytes: Working memory on the device.
        ram_bytes: RAM it needs besides.
        seconds: Of computing.
    """

    batch: int
    tile_px: int | None
    on_cpu: bool
    forecast_bytes: int
    ram_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeTask:
    """Images to decode.

    Attributes:
        width_px: Of each.
        height_px: Of each.
        images: How many in all.
    """

    width_px: int
    height_px: int
    images: int


def at_once(problem: PlanProblem, task: DecodeTask, batch: int) -> DecodeWay:
    """Several images at a time, as large as the policy's tiles allow: the gentlest way."""
    tile = _tiles(problem, task)[0]
    return _device_way(problem, task, batch=batch, tile_px=tile)


def one_by_one(problem: PlanProblem, task: DecodeTask, *, ram_bytes: int) -> tuple[DecodeWay, ...]:
    """One image at a time: whole, in tiles, at last on the processor; each slower than before.

    Args:
        problem: What is planned.
        task: The images.
        ram_bytes: That the run needs without the decoding.
    """
    found: list[DecodeWay] = []
    rung_s = DECODE_RUNG_S if task.images > 1 else 0.0
    for tile in _tiles(problem, task):
        way = _device_way(problem, task, batch=1, tile_px=tile)
        # Where smaller tiles happen to fit a size better, they still are the later choice.
        before_s = found[-1].seconds if found else 0.0
        found.append(replace(way, seconds=max(way.seconds, before_s) + rung_s))
        rung_s = DECODE_RUNG_S
    if not problem.on_cpu:
        found += _cpu_way(problem, task, slowest_s=found[-1].seconds, ram_bytes=ram_bytes)
    return tuple(found)


def _device_way(
    problem: PlanProblem, task: DecodeTask, *, batch: int, tile_px: int | None
) -> DecodeWay:
    coefficients = problem.coefficients
    flops = coefficients.decode_flops(
        images=task.images, width_px=task.width_px, height_px=task.height_px
    )
    share = _side_share(task.width_px, tile_px) * _side_share(task.height_px, tile_px)
    working = coefficients.decode_working_bytes(
        images=batch,
        width_px=task.width_px,
        height_px=task.height_px,
        tile_px=tile_px,
        precision=problem.precisions[AUTOENCODER],
    )
    seconds = compute_seconds(problem, Phase.DECODE, flops * share)
    return DecodeWay(
        batch=batch,
        tile_px=tile_px,
        on_cpu=False,
        forecast_bytes=working,
        ram_bytes=0,
        seconds=seconds,
    )


def _tiles(problem: PlanProblem, task: DecodeTask) -> list[int | None]:
    longest_px = max(task.width_px, task.height_px)
    wanted = problem.policy.tile_px
    if wanted is not None:
        return [wanted if 0 < wanted < longest_px else None]
    return [None, *(tile for tile in DECODE_TILES_PX if tile < longest_px)]


def _cpu_way(
    problem: PlanProblem, task: DecodeTask, *, slowest_s: float, ram_bytes: int
) -> list[DecodeWay]:
    """The largest tiles for which there is RAM; without swapping, which would take for ever."""
    seconds = cpu_decode_seconds(
        problem,
        flops=problem.coefficients.decode_flops(
            images=task.images, width_px=task.width_px, height_px=task.height_px
        ),
        slowest_s=slowest_s,
        brought=in_turns(problem, AUTOENCODER),
    )
    for tile in _tiles(problem, task):
        more = cpu_decode_ram_bytes(
            problem, width_px=task.width_px, height_px=task.height_px, tile_px=tile
        )
        if ram_bytes + more <= problem.ram_calm_bytes:
            way = DecodeWay(
                batch=1,
                tile_px=tile,
                on_cpu=True,
                forecast_bytes=0,
                ram_bytes=more,
                seconds=seconds,
            )
            return [way]
    return []


def _side_share(side_px: int, tile_px: int | None) -> float:
    """What is decoded along a side over what is seen: tiles overlap."""
    if tile_px is None or side_px <= tile_px:
        return 1.0
    overlap_px = int(tile_px * TILE_OVERLAP_SHARE)
    overlaps = math.ceil((side_px - tile_px) / (tile_px - overlap_px))
    return (side_px + overlaps * overlap_px) / side_px
