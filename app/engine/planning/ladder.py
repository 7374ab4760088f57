"""The gentlest way to make some images of one size, of all that give the picture asked for.

A way is a choice for each thing that may give way: which components stay on the device, how the
others come, how large the parts of the batch are, how the images are decoded. The choice is the
fastest of those that fit, by an order of all ways that does not depend on the memory there is. That
is what makes more memory never slower: it only adds ways to choose from. In this order each rung
costs more than the gentler ones (see `app.engine.planning.seconds`), so it is taken only where they
do not suffice; between streaming and splitting the batch, the one that costs less time is gentler.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import TypeVar

from app.core.jobs import Phase
from app.core.plan import Placement
from app.core.policy import MemoryMode
from app.engine.planning.decode_ways import DecodeWay
from app.engine.planning.kept import Kept, least, resident, ways_to_come
from app.engine.planning.order import first_in_order
from app.engine.planning.phase_needs import Names, PhaseNeed, PhaseNeeds
from app.engine.planning.problem import (
    AUTOENCODER,
    COMPONENTS,
    TEXT_ENCODER,
    TRANSFORMER,
    PlanProblem,
)
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

    def best(self, *, may_split: bool = True) -> Way | None:
        """The gentlest way that fits, or None.

        Args:
            may_split: Whether the images may be denoised in parts.
        """
        if not self.fits():
            return None
        best: Way | None = None
        best_s = float("inf")
        for staying in self._sets_that_stay():
            for way in self._fitting(staying, may_split=may_split):
                seconds = self._seconds(way)
                if seconds < best_s:
                    best, best_s = way, seconds
            if best is not None and self._gave_nothing(best):
                break
        return best

    def least(self) -> Way:
        """The way that needs least of the device, whether it fits or not."""
        staying, encode, denoise = self._least_weights()
        decodes = [(way, self.needs.decode(staying, way)) for way in self.needs.decodes(1)]
        decode = min(decodes, key=lambda chosen: self.needs.total_bytes(Phase.DECODE, chosen[1]))
        return self._way(staying, encode=encode, denoise=denoise, decode=decode, batch=1)

    def fits(self) -> bool:
        """Whether any way fits; quicker than to look for the best."""
        if self.needs.ram_bytes > self._problem.ram_budget_bytes:
            return False
        staying, encode, denoise = self._least_weights()
        return (
            self.needs.fits(Phase.ENCODE, encode[1])
            and self.needs.fits(Phase.DENOISE, denoise[1])
            and self._first_decode(staying, 1) is not None
        )

    def all_resident_bytes(self) -> int:
        """What the device would have to have for nothing to give way."""
        needs, weights = self.needs, self._problem.weights
        return max(
            needs.total_bytes(
                Phase.ENCODE, needs.encode(EVERYTHING, resident(weights[TEXT_ENCODER]))
            ),
            needs.total_bytes(
                Phase.DENOISE,
                needs.denoise(EVERYTHING, resident(weights[TRANSFORMER]), self._images),
            ),
            needs.total_bytes(
                Phase.DECODE, needs.decode(EVERYTHING, needs.decodes(self._images)[0])
            ),
        )

    def _least_weights(self) -> tuple[Names, Chosen[Kept], Chosen[Kept]]:
        """What stays, and how text encoder and transformer are kept, where memory is shortest."""
        kept = {name: least(self._problem, name) for name in COMPONENTS}
        staying = frozenset(
            name for name in COMPONENTS if kept[name].placement is Placement.RESIDENT
        )
        text_encoder, transformer = kept[TEXT_ENCODER], kept[TRANSFORMER]
        return (
            staying,
            (text_encoder, self.needs.encode(staying, text_encoder)),
            (transformer, self.needs.denoise(staying, transformer, 1)),
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

    def _fitting(self, staying: Names, *, may_split: bool) -> Iterator[Way]:
        """The fastest fitting way for each size of the parts."""
        needs = self.needs
        text_encoder = self._first_kept(
            TEXT_ENCODER, staying, lambda kept: needs.fits_encode(staying, kept)
        )
        if text_encoder is None:
            return
        encode = (text_encoder, needs.encode(staying, text_encoder))
        for batch in self._batches(may_split=may_split):
            transformer = self._first_kept(
                TRANSFORMER,
                staying,
                lambda kept, batch=batch: needs.fits_denoise(staying, kept, batch),
            )
            if transformer is None:
                continue
            decode = self._first_decode(staying, batch)
            if decode is None:
                continue
            denoise = (transformer, needs.denoise(staying, transformer, batch))
            yield self._way(staying, encode=encode, denoise=denoise, decode=decode, batch=batch)
            if transformer.placement is not Placement.STREAMED:
                return  # Smaller parts can gain nothing any more.

    def _first_kept(self, name: str, staying: Names, fits: Callable[[Kept], bool]) -> Kept | None:
        """The first way to keep a component that fits: they come fastest first."""
        ways = (
            (resident(self._problem.weights[name]),)
            if name in staying
            else ways_to_come(self._problem, name)
        )
        return first_in_order(ways, fits)

    def _first_decode(self, staying: Names, batch: int) -> Chosen[DecodeWay] | None:
        for way in self.needs.decodes(batch):
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
                AUTOENCODER: self.needs.autoencoder(staying),
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
