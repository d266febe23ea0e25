"""What of a model and its run goes to the hub, as a folder."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors import SafetensorError, safe_open

from ..errors import InputError
from ..files import path_of, replacing, write_text
from ..photos.images import from_array
from .card import (
    CARD_FILE,
    EDITS_FILE,
    EVALUATION_FILE,
    RECIPE_FILE,
    SAMPLES_FILE,
    model_card,
    read_figures,
)
from .companions import CALIBRATION_FILE, DIRECTIONS_FILE, identity
from .hub_upload import upload
from .pretrained import read_fields, save_pretrained
from .training_data import TrainingData

COMPANIONS = (DIRECTIONS_FILE, CALIBRATION_FILE)
REPLACED = (*COMPANIONS, EVALUATION_FILE, RECIPE_FILE, SAMPLES_FILE, EDITS_FILE)
"""What a push without them removes: they would be of the model before."""
MODEL_TYPES = ("glow", "conditional-glow", "realnvp")
SAMPLES = 16
SIDE = 64
"""Samples smaller than this are shown enlarged by a whole factor."""


def lay_out(
    model: Any,
    folder: Path,
    run: Path | None = None,
    evaluation: Path | None = None,
    seed: int = 0,
) -> list[str]:
    """Write into a folder what is sent of a model: weights and configuration, a sheet of samples,
    and of its run the companions, the recipe and the evaluation.

    A path of this machine goes by its last part: the recipe and the configuration say `photos`,
    and not where they lay.

    Args:
        model: an `ImageFlow`.
        folder: an empty one.
        run: the folder of the model; None for nothing but the model.
        evaluation: another file of figures than the run's.
        seed: of the samples.

    Returns:
        What of the run is left out, and why.

    Raises:
        InputError: a file of the run is damaged, or the folder cannot be written.
    """
    data = _data_of(model)
    save_pretrained(folder, model.model_type, model.config, model.state_dict(), data)
    _draw(model, folder / SAMPLES_FILE, seed)
    left_out = []
    if run is not None:
        for path in (run / name for name in COMPANIONS if (run / name).is_file()):
            if _model_of(path) == identity(model):
                _copy(path, folder / path.name)
            else:
                left_out.append(f"{path.name} is of another model")
        of_run = next((f for f in (run, run.resolve().parent) if (f / RECIPE_FILE).is_file()), None)
        if of_run is not None:
            write_text(folder / RECIPE_FILE, _recipe(of_run / RECIPE_FILE))
        evaluation = evaluation or run / EVALUATION_FILE
    if evaluation is not None and read_figures(evaluation) is not None:
        found = json.loads(evaluation.read_text(encoding="utf-8"))
        figures = found.get("evaluation", found)  # and not which files were read
        write_text(folder / EVALUATION_FILE, json.dumps(figures, indent=2) + "\n")
    return left_out


def write_card(model: Any, folder: Path, repo: str, **licences: str | None) -> None:
    """Write README.md into the folder, which has everything else.

    Args and errors as `model_card`.
    """
    write_text(folder / CARD_FILE, model_card(model, _data_of(model), folder, repo, **licences))


def send(folder: Path, repo: str, **how: Any) -> str:
    """Commit the folder to the hub, and return where it is; args and errors as `upload`."""

    def is_ours(config: Path) -> bool:
        return read_fields(config).get("model_type") in MODEL_TYPES

    return upload(folder, repo, is_ours=is_ours, replaced=REPLACED, **how)


def _draw(model: Any, path: Path, seed: int) -> None:
    """A square of samples at temperature 0.7, where they are pictures."""
    if model.config.bits is None or model.config.image_shape[0] not in (1, 3, 4):
        return
    if model.is_conditional and not model.config.classes:
        return
    labels = None
    if model.config.classes:
        labels = torch.arange(SAMPLES, device=model.device) % model.config.classes
    drawn = model.draw(SAMPLES, temperature=0.7, seed=seed, labels=labels)
    images = drawn.images[drawn.usable].numpy()
    if not len(images):
        return
    side = max(1, int(len(images) ** 0.5))
    scale = max(1, -(-SIDE // max(images.shape[2:])))
    rows = [np.concatenate(list(images[i : i + side]), axis=2) for i in range(0, side**2, side)]
    sheet = np.concatenate(rows, axis=1).repeat(scale, axis=1).repeat(scale, axis=2)
    with replacing(path) as temporary:
        from_array(sheet).save(temporary, format="PNG")


def _model_of(path: Path) -> str | None:
    """The `identity` of the model that a companion is of."""
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("model")
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"Cannot read {path}: it is damaged or not safetensors ({error}); remove it."
        ) from error


def _recipe(path: Path) -> str:
    """The run's configuration, with its data by the last part of their path."""
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
        fields["data"]["data"] = _without_path(fields["data"]["data"])
        if fields.get("started_from"):
            fields["started_from"] = _without_path(fields["started_from"])
    except (
        OSError,
        yaml.YAMLError,
        ValueError,
        TypeError,
        AttributeError,
        KeyError,
        RecursionError,
    ) as error:
        raise InputError(
            f"{path} is not the configuration of a run ({type(error).__name__}): put it back."
        ) from error
    return yaml.safe_dump(fields, sort_keys=False, default_flow_style=None)


def _data_of(model: Any) -> TrainingData | None:
    known: TrainingData | None = model.trained_on
    if known is None:
        return None
    return dataclasses.replace(known, source=_without_path(known.source))


def _without_path(source: str) -> str:
    """The last part of a path of this machine; names of data sets stay."""
    prefix = "hub:" if source.startswith("hub:") else ""
    named = source.removeprefix(prefix)
    path = path_of(named)
    if prefix and not (path.is_absolute() or named.startswith((".", "~"))):
        return source
    if path.is_absolute() or path.exists() or len(path.parts) > 1:
        return prefix + (path.resolve().name or "data")
    return source


def _copy(path: Path, target: Path) -> None:
    with replacing(target) as temporary:
        shutil.copyfile(path, temporary)
