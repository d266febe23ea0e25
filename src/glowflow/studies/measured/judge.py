"""A classifier of attributes that has never seen a generated image, to judge edits by."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from ...data.inputs import require_attributes
from ...data.types import ImageData
from ...errors import InputError
from ...models.config import picture_shape
from ...progress import with_bar

BATCH = 64
LEARNING_RATE = 3e-3
"""The highest, after 30 % of the steps; it rises from a 25th and falls to nothing by cosines."""
NOISE = 0.05
"""Largest standard deviation of the noise on a batch, as a share of the values' range."""
SHIFT = 16
"""A batch is moved by up to a so-manieth of height and width; its edge is repeated."""
SMALLEST = 4
"""Height and width are halved until one of them is at most this."""
WIDTHS = (32, 64, 128)
"""Channels after each halving; the last also after all further ones."""
JUDGED_AT_ONCE = 256


class Judge(nn.Module):
    """One trunk with a head for each attribute; a positive logit says that it is there.

    (convolution 3x3 → batch normalisation → ReLU → maximum of 2x2), until the image is small;
    then one linear logit an attribute.

    Args:
        image_shape: channels, height, width.
        attributes: how many.
    """

    def __init__(self, image_shape: tuple[int, int, int], attributes: int) -> None:
        super().__init__()
        channels, height, width = image_shape
        layers: list[nn.Module] = []
        while min(height, width) > SMALLEST:
            wide = WIDTHS[min(len(layers) // 4, len(WIDTHS) - 1)]
            layers += [
                nn.Conv2d(channels, wide, 3, padding=1, bias=False),
                nn.BatchNorm2d(wide),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
            channels, height, width = wide, height // 2, width // 2
        self.trunk = nn.Sequential(*layers, nn.Flatten())
        self.heads = nn.Linear(channels * height * width, attributes)

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch attributes"]:
        """Logits of images scaled to [−½, ½]."""
        return self.heads(self.trunk(x.contiguous(memory_format=torch.channels_last)))

    @torch.no_grad()
    def verdicts(self, images: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Whether each image (N, C, H, W) has each attribute: (N, A)."""
        starts = range(0, len(images), JUDGED_AT_ONCE)
        parts = [self(self._scaled(images[i : i + JUDGED_AT_ONCE])) > 0 for i in starts]
        return torch.cat(parts).cpu().numpy()

    def _scaled(self, images: NDArray[np.uint8]) -> Float[Tensor, "batch channels height width"]:
        return torch.tensor(images).to(self.heads.weight) / 255 - 0.5


def train_judge(
    data: ImageData,
    *,
    images: int = 100_000,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> Judge:
    """Train a judge of all attributes by cross entropy, on shifted and noisy images.

    The shift and the strength of the noise are drawn anew for each batch. Adam, with the rate going
    up and down once. The same seed gives the same judge on the same machine.

    Args:
        data: training images with attributes, uint8.
        images: to see in all.
        seed: of weights, order, shifts and noise.
        device: where to train.
        progress: show a bar on stderr.

    Raises:
        InputError: the images have no attributes or are not bytes, or `images` is below 1.
    """
    attributes = require_attributes(data)
    if data.images.dtype != np.uint8:
        raise InputError(f"The data are {data.images.dtype}: a judge sees images of bytes.")
    if images < 1:
        raise InputError(f"The judge's number of images is {images}: give at least 1.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        judge = Judge(picture_shape(data.image_shape), len(data.attribute_names)).to(device)
    random = np.random.default_rng(seed)
    noise = torch.Generator().manual_seed(seed)
    batch = min(BATCH, len(data))
    steps = max(1, images // batch)
    optimizer = torch.optim.Adam(judge.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    order = np.zeros(0, dtype=np.int64)
    for _ in with_bar(range(steps), "training the judge", visible=progress):
        if len(order) < batch:
            order = random.permutation(len(data))
        some, order = order[:batch], order[batch:]
        x = _disturbed(judge._scaled(data.images[some]), random, noise)
        truth = torch.from_numpy(attributes[some]).to(x)
        loss = F.binary_cross_entropy_with_logits(judge(x), truth)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return judge.eval()


def _disturbed(
    x: Float[Tensor, "batch channels height width"],
    random: np.random.Generator,
    generator: torch.Generator,
) -> Float[Tensor, "batch channels height width"]:
    height, width = x.shape[2:]
    up, left = height // SHIFT, width // SHIFT
    top, start = random.integers(0, 2 * up + 1), random.integers(0, 2 * left + 1)
    padded = F.pad(x, (left, left, up, up), mode="replicate")
    moved = padded[:, :, top : top + height, start : start + width]
    return moved + random.uniform(0, NOISE) * torch.randn(x.shape, generator=generator).to(x)


@dataclass(frozen=True)
class Trust:
    """How far the judge can be trusted with an attribute, on held-out images."""

    accuracy: float
    majority: float
    """Share of the larger side: what a judge that always says the same reaches."""
    balanced: float
    """Mean of the accuracies with the attribute and without it."""


def examine(judge: Judge, data: ImageData) -> dict[str, Trust]:
    """The judge's accuracy on images that it was not trained on, for each attribute."""
    truth = np.asarray(data.attributes)
    right = judge.verdicts(np.asarray(data.images)) == truth
    trust = {}
    for column, name in enumerate(data.attribute_names):
        sides = [right[truth[:, column] == side, column] for side in (True, False)]
        accuracies = [float(side.mean()) for side in sides if len(side)]
        trust[name] = Trust(
            accuracy=float(right[:, column].mean()),
            majority=max(map(len, sides)) / len(truth),
            balanced=sum(accuracies) / len(accuracies),
        )
    return trust


def describe_judge(judge: Judge, images: int) -> dict[str, Any]:
    """How it was made, for a reader who wants to make it again."""
    return {
        "parameters": sum(weight.numel() for weight in judge.parameters()),
        "images": images,
        "batch_size": BATCH,
        "optimizer": "adam",
        "learning_rate": LEARNING_RATE,
        "largest_noise": NOISE,
        "largest_shift": 1 / SHIFT,
    }
