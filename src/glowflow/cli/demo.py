"""`glow demo`: the whole way, from drawing faces to a report, in ten minutes of training."""

from dataclasses import dataclass, replace

from ..data.config import DataConfig
from ..models.config import Architecture
from ..training.config import TrainConfig
from . import train
from .options import CommonOptions, Outcome
from .results import dated_folder

DEMO = TrainConfig(
    data=DataConfig(data="faces", size=(32, 32)),
    model=Architecture(
        levels=3,
        steps=1,
        hidden_channels=32,
        coupling_scale="bounded",
        dequantization="variational",
        first_map="whitening",
        rank=320,
        dense_steps=12,
    ),
    batch_size=64,
    precision="auto",
    images=10_000_000,
    minutes=9.5,
)
"""Stops by the clock; the limit on images is out of reach of a laptop. Drawn faces have about 310
directions that stand out of the dequantisation noise: most of the time goes to those."""


@dataclass(frozen=True, kw_only=True)
class Options(CommonOptions):
    minutes: float = 9.5
    """Minutes of training."""
    faces: int = 10_000
    """How many faces to draw."""
    seed: int = 0
    """Of the weights, the order of the images and the noise."""


def run(options: Options) -> Outcome:
    """Train on the drawn faces at 32x32, evaluate, sample, and write the report."""
    data = replace(DEMO.data, faces=options.faces)
    config = replace(DEMO, data=data, minutes=options.minutes, seed=options.seed)
    return train.run(
        train.Options(
            train=config,
            out=options.out or dated_folder("demo"),
            device=options.device,
            json=options.json,
        )
    )
