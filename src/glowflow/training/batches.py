"""What each training step sees: it depends on the seed and the step alone."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..data.augmentation import flip_some, shift_some
from ..data.loader import batches
from ..data.types import ImageData
from ..models.flow import ImageFlow
from ..processes import shard
from .run import Run


@dataclass
class Place:
    """Where a run is in the order of its images."""

    epoch: int = 0
    image: int = 0
    """Images of the epoch that were seen. The last ones, too few for a batch, are left out."""


@dataclass(frozen=True)
class TrainingBatches:
    """The images of a run, shuffled anew in each epoch, a batch a step."""

    data: ImageData
    batch_size: int
    """Images of a step, of all processes together."""
    seed: int
    """Of the order, the shifts, the noise and the flips."""
    shift: int
    """Largest shift, in pixels."""
    flip: bool

    @classmethod
    def of(cls, run: Run) -> "TrainingBatches":
        """The batches that a run trains on."""
        config = run.config
        return cls(run.splits.train, run.batch_size, config.seed, config.shift, config.flip)

    def after(
        self, step: int, place: Place, model: ImageFlow
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """This process's share of the batches that follow `step` steps, without an end.

        Args:
            step: which the noise depends on.
            place: of the first image in the order of the epochs; it goes along.
            model: that takes the batches.

        Yields:
            What the model takes, on its device: x, and labels or conditions where it is given any.
        """
        while True:
            for images, labels in batches(
                self.data,
                self.batch_size,
                seed=self.seed,
                epoch=place.epoch,
                skip=place.image,
                crops=True,
            ):
                x = training_input(
                    model,
                    images.to(model.device),
                    noise_for(self.seed, step, model.device),
                    shift=self.shift,
                    flip=self.flip,
                )
                conditional = model.is_conditional and labels is not None
                place.image += self.batch_size
                yield shard(x), shard(labels).to(model.device) if conditional else None
                step += 1
            place.epoch, place.image = place.epoch + 1, 0


def training_input(
    model: ImageFlow,
    images: Tensor,
    generator: torch.Generator,
    *,
    shift: int = 0,
    flip: bool = False,
) -> Float[Tensor, "batch channels height width"]:
    """The whole batch of a step: shifted, dequantised, flipped.

    What happens to an image depends on the generator and its place in the batch alone.

    Args:
        model: that takes the batch.
        images: (batch, C, H, W), bytes or float data.
        generator: on the device of the images, as `noise_for` makes it.
        shift: largest shift, in pixels.
        flip: mirror each image with a chance of a half.
    """
    if shift:
        images = shift_some(images, shift, generator)
    x = model.to_float(images, generator=generator)
    return flip_some(x, generator) if flip else x


def noise_for(seed: int, step: int, device: torch.device) -> torch.Generator:
    """A generator that depends on the run's seed and the step alone."""
    return torch.Generator(device).manual_seed((seed * 1_000_003 + step + 1) % 2**63)
