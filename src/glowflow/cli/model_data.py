"""A model that is named on the command line, and images for it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ..checks import require_choice
from ..data.config import DataConfig, Fit
from ..errors import CheckpointError, InputError
from ..models.flow import ImageFlow
from ..models.pretrained import locate
from ..models.training_data import TrainingData
from ..processes import local_main_process_first, process_index
from ..training.config import CONFIG_FILE, read_run_config

if TYPE_CHECKING:
    from ..data.record import SplitRecord
    from ..data.types import ImageData


def load_model_for(source: str, device: str) -> ImageFlow:
    """The model, which knows its training data as far as its files say.

    Where its `config.json` is of the first version, the run's `train.yaml` says how the images were
    fitted.

    Raises:
        CheckpointError: as `load_model`.
    """
    from ..models.registry import load_model

    model = load_model(source, device=device)
    config = run_config(source) if model.trained_on is None else None
    if config is not None:
        data = config.data
        _, height, width = model.config.image_shape
        model.trained_on = TrainingData(
            source=data.data,
            size=(height, width),
            channels=model.config.image_shape[0],
            fit=data.fit,
            upscale=data.upscale,
            dtype="uint8" if model.config.bits is not None else "float32",
            bits=model.config.bits,
        )
    return model


def run_config(source: str) -> Any:
    """The `TrainConfig` of the run that a model is of; None where there is none."""
    folder = run_folder(source)
    return None if folder is None else read_run_config(folder)


def run_folder(source: str) -> Path | None:
    """The folder of the run that a model is of: the model's, or that above its `best/`."""
    folder = Path(source)
    if not folder.is_dir():
        try:
            return locate(source, CONFIG_FILE).parent
        except CheckpointError:
            return None
    above = folder.resolve().parent
    return next((f for f in (folder, above) if (f / CONFIG_FILE).is_file()), None)


def split_record(source: str) -> "SplitRecord | None":
    """Which images the model's run was trained on; None where that is not known."""
    from ..data.record import SplitRecord

    folder = run_folder(source)
    return None if folder is None else SplitRecord.load(folder)
