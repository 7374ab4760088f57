"""How far each image of a run is, with its latents in RAM: what no failure costs."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch


@dataclass(slots=True, kw_only=True, eq=False)
class ImageState:
    """One image.

    Attributes:
        index: In the request, from 0.
        step: Denoising steps that are done.
        latents: After that step, (channels * 4, height / 16, width / 16) on the CPU; None before
            the first.
        finished: Whether this run needs to do no more for it.
        saved_before: Whether an earlier engine has saved it.
    """

    index: int
    step: int = 0
    latents: torch.Tensor | None = None
    finished: bool = False
    saved_before: bool = False


class RunImages:
    """All images of a run, and which of them are worked on together.

    Images are worked on in the same parts whether some of them were saved before or not: a picture
    may differ in its last bit when it is made in another company.
    """

    def __init__(self, count: int, *, saved: Iterable[int] = ()) -> None:
        """Begin with nothing done.

        Args:
            count: Images to be made.
            saved: Indices of those that an earlier engine has saved.
        """
        before = frozenset(saved)
        self._images = [
            ImageState(index=index, saved_before=index in before) for index in range(count)
        ]

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[ImageState]:
        return iter(self._images)

    def next_part(self, batch: int) -> list[ImageState]:
        """The images to work on next, at most `batch`, all as far as each other; none at the end.

        Images are in parts by their index; those that are finished are left out.
        """
        for first in range(0, len(self._images), batch):
            part = [one for one in self._images[first : first + batch] if not one.finished]
            if any(not one.saved_before for one in part):
                # After a split the images behind may be less far.
                return [one for one in part if one.step == part[0].step]
        return []

    def parts_to_come(self, batch: int) -> int:
        """How many parts there still are, those under way included."""
        count = 0
        for first in range(0, len(self._images), batch):
            part = [one for one in self._images[first : first + batch] if not one.finished]
            if any(not one.saved_before for one in part):
                count += len({one.step for one in part})
        return count

    def finish(self, part: Iterable[ImageState]) -> None:
        """Nothing more is to be done for these; their latents go."""
        for image in part:
            image.finished = True
            image.latents = None

    def finished_first(self) -> int:
        """How many images from the first on are finished or were saved before."""
        count = 0
        for image in self._images:
            if not (image.finished or image.saved_before):
                break
            count += 1
        return count

    def has_finished(self) -> bool:
        """Whether this run has finished an image."""
        return any(image.finished for image in self._images)

    def drop_from(self, count: int) -> None:
        """Make only so many images."""
        del self._images[count:]

    def restart(self) -> None:
        """Begin images that are not finished anew, as for another size."""
        for image in self._images:
            if not image.finished:
                image.step, image.latents = 0, None

    def kept(self) -> dict[int, tuple[int, torch.Tensor]]:
        """Step and latents of the images under way, by index."""
        return {
            one.index: (one.step, one.latents)
            for one in self._images
            if one.latents is not None and not one.finished
        }

    def restore(self, kept: dict[int, tuple[int, torch.Tensor]]) -> None:
        """Go on with what `kept` gave."""
        for image in self._images:
            if image.index in kept:
                image.step, image.latents = kept[image.index]


def store(part: Sequence[ImageState], latents: torch.Tensor, step: int) -> None:
    """Note that a part has done a step.

    Args:
        part: The images, in the order of the batch.
        latents: (images, channels * 4, height / 16, width / 16) on the CPU.
        step: Denoising steps that are done now.
    """
    for image, own in zip(part, latents, strict=True):
        image.latents, image.step = own, step
