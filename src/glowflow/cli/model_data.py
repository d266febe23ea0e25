"""The data of a model that is named on the command line."""

from dataclasses import replace
from typing import Any

from ..data.config import DataConfig
from ..errors import CheckpointError, InputError
from ..models.flow import ImageFlow
from ..models.pretrained import locate
from ..training.config import CONFIG_FILE, read_run_config


def data_for(model: ImageFlow, source: str, data: str | None, upscale: bool) -> DataConfig:
    """The data that the model `source` was trained on, or those that are named, in its size.

    Raises:
        InputError: no data are named, and there is no train.yaml with the model.
    """
    if data is None:
        try:
            return read_run_config(locate(source, CONFIG_FILE).parent).data
        except CheckpointError as error:
            raise InputError(f"{source} does not say what to read: give --data.") from error
    channels, height, width = model.config.image_shape
    own = DataConfig(data=data, upscale=upscale)
    if model.config.bits is None:
        return own
    known: Any = channels if channels in (1, 3, 4) else None
    return replace(own, size=(height, width), channels=known)
