"""The gentlest way to make some images of one size, of all that give the picture asked for.

A way is a choice for each thing that may give way: which components stay on the device, how the
others come, how large the parts of the batch are, how the images are decoded. The choice is the
fastest of those that fit, by an order of all ways that does not depend on the memory there is. That
is what makes more memory never slower: it only adds ways to choose from. In this order each rung
costs more than the gentler ones (see `app.engine.planning.seconds`), so it is taken only where they
do not suffice; between streaming and splitting the batch, the one that costs less time is gentler.
"""

import itertools
from collections.abc import Iterator
from typing import TypeVar

from app.core.jobs import Phase
from app.core.plan import Placement
from app.core.policy import MemoryMode
from app.engine.planning.components import AUTOENCODER, COMPONENTS, TEXT_ENCODER, TRANSFORMER
from app.engine.planning.decode_ways import DecodeWay
from app.engine.planning.fastest import fastest_kept
from app.engine.planning.kept import Kept, in_turns, least, resident
from app.engine.planning.phase_need import Names, PhaseNeed
from app.engine.planning.phase_needs import PhaseNeeds
from app.engine.planning.problem import PlanProblem, once
from app.engine.planning.seconds import load_seconds, read_again_seconds
from app.engine.planning.way import Way

Choice = TypeVar("Choice", Kept, DecodeWay)
Chosen = tuple[Choice, PhaseNeed]
EVERYTHING: Names = frozenset(COMPONENTS)


class Ladder:
    """The ways for some images of one size."""

    def __init__(self, problem: PlanProblem, *, width_px: int, height_px: int, images: int) -> None:
        self._problem = problem
        self._width_px = width_px
        self._height_px = height_px
        self._images = images
        self.needs = PhaseNeeds(problem, width_px=width_px, height_px=height_px, images=images)
        self._singles: dict[Names, Chosen[DecodeWay] | None] = {}

    def best(self, *, may_split: bool = True) -> Way | None:
        """The gentlest way that fits, or None.

        Args:
            may_split: Whether the images may be denoised in parts.
        """
        if not self.fits():
            return None
        best: Way | None = None
        best_s = float("inf")
        batches = self._batches(may_split=may_split)
        for staying in self._sets_that_stay():
            text_encoder = self.needs.any_size.fastest_encode(staying)
            if text_encoder is None:
                continue
            encode = (text_encoder, self.needs.any_size.encode(staying, text_encoder))
            for batch in batches:
                way = self._fastest(staying, encode, batch, below_s=best_s)
                if way is None:
                    continue
                seconds = self._seconds(way)
                if seconds < best_s:
                    best, best_s = way, seconds
                if way.kept[TRANSFORMER].placement is not Placement.STREAMED:
                    break  # Smaller parts can gain nothing any more.
            if best is not None and self._gave_nothing(best):
                break
        return best

    def least(self) -> Way:
        """The way that needs least of the device, whether it fits or not."""
        needs = self.needs
        staying, text_encoder, transformer = once(self._problem, _least_weights)
        decodes = [(way, needs.decode(staying, way)) for way in needs.decodes(1)]
        return self._way(
            staying,
            encode=(text_encoder, needs.any_size.encode(staying, text_encoder)),
            denoise=(transformer, needs.denoise(staying, transformer, 1)),
            decode=min(decodes, key=lambda chosen: needs.total_bytes(Phase.DECODE, chosen[1])),
            batch=1,
        )

    def fits(self) -> bool:
        """Whether any way fits; quicker than to look for the best."""
        if self.needs.ram_bytes > self._problem.ram_budget_bytes:
            return False
        staying, text_encoder, transformer = once(self._problem, _least_weights)
        return (
            self.needs.any_size.has_room_to_encode(staying, text_encoder)
            and self.needs.has_room_to_denoise(staying, transformer, 1)
            and self._first_decode(staying, 1) is not None
        )

    def all_resident_bytes(self) -> int:
        """What the device would have to have for nothing to give way."""
        needs, weights = self.needs, self._problem.weights
        return max(
            needs.total_bytes(
                Phase.ENCODE, needs.any_size.encode(EVERYTHING, resident(weights[TEXT_ENCODER]))
            ),
            needs.total_bytes(
                Phase.DENOISE,
                needs.denoise(EVERYTHING, resident(weights[TRANSFORMER]), self._images),
            ),
            needs.total_bytes(
                Phase.DECODE, needs.decode(EVERYTHING, needs.decodes(self._images)[0])
            ),
        )

    def _sets_that_stay(self) -> Iterator[Names]:
        """Components that stay on the device for the whole run; the most first."""
        mode = self._problem.policy.mode
        if self._problem.on_cpu or mode is MemoryMode.RESIDENT:
            yield EVERYTHING
        elif mode is MemoryMode.MINIMAL:
            yield frozenset()
        else:
            for count in range(len(COMPONENTS), -1, -1):
                yield from map(frozenset, itertools.combinations(COMPONENTS, count))

    def _batches(self, *, may_split: bool) -> list[int]:
        """Sizes of the parts that the images can be denoised in, the largest first."""
        images = self._images
        limit = self._problem.limits.max_images
        most = images if limit is None else max(1, limit)
        parts = range(1, images + 1) if may_split else (1,)
        sizes = {-(-images // count) for count in parts}
        return sorted((size for size in sizes if size <= most), reverse=True)

    def _gave_nothing(self, way: Way) -> bool:
        return (
            all(kept.placement is Placement.RESIDENT for kept in way.kept.values())
            and way.batch == self._images
            and way.decode == self.needs.decodes(self._images)[0]
        )

    def _fastest(
        self, staying: Names, encode: Chosen[Kept], batch: int, *, below_s: float
    ) -> Way | None:
        """The fastest fitting way with parts of this size, or None; slower ones are of no use."""
        needs = self.needs
        decode = self._first_decode(staying, batch)
        if decode is None:
            return None

        def way_with(kept: Kept) -> Way:
            denoise = (kept, needs.denoise(staying, kept, batch))
            return self._way(staying, encode=encode, denoise=denoise, decode=decode, batch=batch)

        transformer = fastest_kept(
            self._problem,
            TRANSFORMER,
            staying,
            has_room=lambda kept: needs.has_room_to_denoise(staying, kept, batch),
            is_allowed=lambda kept: needs.any_size.is_allowed(staying, TRANSFORMER, kept),
            streaming=lambda: needs.streaming_denoise(batch),
            spare_s=lambda: below_s - self._seconds(way_with(in_turns(self._problem, TRANSFORMER))),
        )
        return None if transformer is None else way_with(transformer)

    def _first_decode(self, staying: Names, batch: int) -> Chosen[DecodeWay] | None:
        """The gentlest decode that fits."""
        if batch > 1:
            way = self.needs.decode_at_once(batch)
            need = self.needs.decode(staying, way)
            if self.needs.fits(Phase.DECODE, need):
                return way, need
        if staying not in self._singles:
            self._singles[staying] = self._first_single(staying)
        return self._singles[staying]

    def _first_single(self, staying: Names) -> Chosen[DecodeWay] | None:
        for way in self.needs.decodes_one_by_one():
            need = self.needs.decode(staying, way)
            if self.needs.fits(Phase.DECODE, need):
                return way, need
        return None

    def _way(
        self,
        staying: Names,
        *,
        encode: Chosen[Kept],
        denoise: Chosen[Kept],
        decode: Chosen[DecodeWay],
        batch: int,
    ) -> Way:
        return Way(
            width_px=self._width_px,
            height_px=self._height_px,
            images=self._images,
            batch=batch,
            kept={
                TEXT_ENCODER: encode[0],
                TRANSFORMER: denoise[0],
                AUTOENCODER: self.needs.any_size.autoencoder(staying),
            },
            decode=decode[0],
            encoding=encode[1],
            denoising=denoise[1],
            decoding=decode[1],
            ram_bytes=self.needs.ram_bytes + decode[0].ram_bytes,
        )

    def _seconds(self, way: Way) -> float:
        """Of all that differs between ways for the same images."""
        # As if nothing were loaded: a second run is placed as the first was, and nothing that is
        # there already makes it wander from one way to another.
        loading_s = load_seconds(
            self._problem, resident_bytes=way.resident_bytes, swapped_bytes=0, cold=True
        )
        again_s = sum(read_again_seconds(self._problem, kept) for kept in way.kept.values())
        phases_s = way.encoding.seconds + way.denoising.seconds + way.decoding.seconds
        return loading_s + phases_s - again_s


def _least_weights(problem: PlanProblem) -> tuple[Names, Kept, Kept]:
    """What stays, and how text encoder and transformer are kept, where memory is shortest."""
    kept = {name: least(problem, name) for name in COMPONENTS}
    staying = frozenset(name for name in COMPONENTS if kept[name].placement is Placement.RESIDENT)
    return staying, kept[TEXT_ENCODER], kept[TRANSFORMER]
