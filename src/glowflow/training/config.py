"""One training run, every hyperparameter with its unit and its default, as a frozen dataclass.

The same class is the Python argument, the command line (`glow train --help`) and the YAML of
`--config` and of a run's `train.yaml`.
"""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from ..checks import require, require_at_least, require_choice
from ..data.config import DataConfig
from ..errors import CheckpointError
from ..files import write_text
from ..models.config import Architecture, Memory, RealNVPArchitecture
from .as_yaml import from_yaml, to_yaml

CONFIG_FILE = "train.yaml"
"""In a run's folder."""

Optimizer = Literal["adamax", "adam", "adamw", "muon"]
PrecisionChoice = Literal["float32", "bf16", "auto"]
Decay = Literal["constant", "cosine", "linear"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run. The defaults are sized for a laptop's processor; the published presets have
    neither their first map nor their learned noise.

    Their coupling scale is `bounded`: a short run leaves a `sigmoid` one with small scales, whose
    inverse overflows on some samples. The published presets have `sigmoid`.
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: Architecture | RealNVPArchitecture = field(
        default_factory=lambda: Architecture(
            levels=3,
            steps=8,
            hidden_channels=128,
            coupling_scale="bounded",
            dequantization="variational",
            first_map="auto",
        )
    )
    conditional: bool = False
    """Condition the model on the labels of the data."""
    flip: bool = False
    """Mirror every second training image, on average, left to right."""
    shift: int = 0
    """Move each training image by up to so many pixels in height and in width, edges repeated."""
    images: int = 1_000_000
    """Training images to see in all."""
    minutes: float | None = None
    """Stop training after so many minutes, if that comes before `images`."""
    batch_size: int = 16
    """Images per optimiser step, of all processes together."""
    accumulate: int = 1
    """Parts in which a process computes its share of the batch, one after another, with the memory
    of one part. The step is the same."""
    optimizer: Optimizer = "adamax"
    """`adamax` is the official choice; `muon` moves the networks' weights by orthogonalised momenta
    and all else by Adamax."""
    lr: float = 5e-3
    """Learning rate after the warm-up (the paper, for its large models: 1e-3)."""
    warmup_images: int = 2_000
    """Images over which the learning rate rises linearly from 0 (the paper: 500,000)."""
    decay: Decay = "cosine"
    """What the learning rate does after the warm-up, until the end of the run."""
    clip: float = 50.0
    """Largest Euclidean norm of the gradient; a longer one is scaled down to it."""
    ema: float = 0.999
    """Decay per step of the average of the weights that evaluation and samples use; 0 for none."""
    precision: PrecisionChoice = "float32"
    """What the coupling networks compute in while training; `auto` measures which is faster."""
    memory: Memory = "stored"
    """`stored` keeps every step's activations; `reversible` computes them again from its output:
    memory does not grow with `steps`, a training step takes about a third longer. Choose it when
    the run does not fit."""
    compile: bool = False
    """Run the couplings through torch.compile: for GPUs, slower on the processor measured."""
    deterministic: bool = False
    """Compute by operations alone that give the same bits each time, on a GPU too, where that is
    slower."""
    seed: int = 0
    """Of the weights, the order of the images and the dequantisation noise."""
    log_every: int = 20
    """Steps between two lines of metrics.jsonl."""
    validate_every: float = 60.0
    """Seconds between two validations, sample sheets and checkpoints; each comes at the end too."""
    validation_images: int = 500
    """Held-out images of each validation."""
    evaluation_images: int = 500
    """Test images of the evaluation at the end."""
    keep: int = 2
    """Newest checkpoints that stay, beside the best model."""
    started_from: Annotated[str | None, arg(name="from")] = None
    """Model whose weights, architecture and data section the run starts from: a run's folder, a hub
    id, or one that is shipped. Its normalisations are not initialised again."""
    track: tuple[str, ...] = ()
    """Trackers that get the figures of metrics.jsonl too: tensorboard, wandb, mlflow, … (all that
    Accelerate knows)."""

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        require(
            0 <= self.seed < 2**63, f"seed is {self.seed}: give a whole number from 0 to 2^63 - 1."
        )
        counts = (
            "images", "batch_size", "accumulate", "log_every", "validation_images",
            "evaluation_images", "keep",
        )  # fmt: skip
        require_at_least(self, 1, *counts)
        for name in ("lr", "clip", "validate_every"):
            require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}: give more than 0.")
        require(self.lr < math.inf, "lr is inf: give a number.")
        require(
            self.minutes is None or 0 < self.minutes < math.inf,
            f"minutes is {self.minutes}: give more than 0, or none for no limit.",
        )
        for name in ("warmup_images", "shift"):
            require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}: give 0 or more.")
        require(0.0 <= self.ema < 1.0, f"ema is {self.ema}: give 0 up to, but below, 1.")
        for name, choices in (
            ("optimizer", Optimizer),
            ("decay", Decay),
            ("precision", PrecisionChoice),
            ("memory", Memory),
        ):
            require_choice(name, getattr(self, name), choices)
        if self.model.family == "realnvp":
            require(
                not self.conditional, "RealNVP is not class-conditional: train without conditional."
            )
            require(
                self.memory == "stored",
                "RealNVP's batch statistics cannot be recovered from its output: "
                "train with memory stored.",
            )


def write_run_config(folder: Path, config: TrainConfig) -> None:
    """Write `train.yaml` into a run's folder.

    Raises:
        InputError: the folder cannot be written.
    """
    write_text(folder / CONFIG_FILE, to_yaml(config))


def read_run_config(folder: Path) -> TrainConfig:
    """The configuration that a run was started with.

    Raises:
        CheckpointError: `folder` is not a run's.
    """
    try:
        text = (folder / CONFIG_FILE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"There is no readable {CONFIG_FILE} in {folder}: give a run's folder."
        ) from error
    config = from_yaml(TrainConfig, text, str(folder / CONFIG_FILE))
    if "split_by:" not in text:  # of a version that split by number
        config = replace(config, data=replace(config.data, split_by="shuffle"))
    return config
