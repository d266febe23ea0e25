"""A model that is named on the command line, and images for it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..data.config import DataConfig, Fit
from ..data.formats.named_arrays import SUFFIXES
from ..data.inputs import empty_part, with_classes_of
from ..data.open import open_images, open_splits
from ..data.partition import SPLIT_NAMES
from ..data.record import SplitRecord
from ..data.types import TEST, TRAIN, VALID, ImageData, Images, Splits
from ..errors import CheckpointError, InputError
from ..files import path_of
from ..models.companions import DIRECTIONS_FILE
from ..models.conditional import ConditionalGlow
from ..models.config import picture_shape, sides
from ..models.flow import ImageFlow
from ..models.likelihood import name_of_data
from ..models.pretrained import locate
from ..models.registry import load_model
from ..models.training_data import TrainingData, size_of
from ..processes import process_index
from ..progress import remark
from ..training.config import CONFIG_FILE, TrainConfig, read_run_config
from ..training.resume import open_own
from .options import DataOptions


@dataclass(frozen=True)
class Chosen:
    """Images that a command works on."""

    data: ImageData
    source: str
    """What was read, in words."""
    checksum: str
    skipped: tuple[str, ...]
    dataset: str
    """The published data set that these are the test of; empty for others."""
    part: str
    """`train`, `valid`, `test` or `all`."""
    what: str
    """What the images are to the model, in words."""
    train: Callable[[], ImageData | None]
    """Training images that go with them, to fit baselines on; None where there are none."""


def load_model_for(
    source: str, device: str, *, any_kind: bool = False, any_grid: bool = False
) -> ImageFlow:
    """The model, which knows its training data as far as its files say.

    Where its `config.json` is of the first version, the run's `train.yaml` says how the images were
    fitted.

    Args:
        source: how the model is named.
        device: where it goes.
        any_kind: whether the command is for conditional models too, and for data on grids of one or
            three axes.
        any_grid: whether it is for such data, of models that are given nothing.

    Raises:
        CheckpointError: as `load_model`.
        InputError: the model is of such a kind, and the command is not for it.
    """
    model = load_model(source, device=device)
    if isinstance(model, ConditionalGlow) and not any_kind:
        names = ", ".join(model.config.names)
        raise InputError(
            f"{source} models x given {names}, and this command is for models of x alone: use "
            "glow sample --given, glow evaluate, glow check, or Python."
        )
    grid = model.config.image_shape[1:]
    if len(grid) != 2 and not any_kind and not any_grid:
        raise InputError(
            f"{source} models data on a grid of {sides(grid)}, and this command is for models of "
            "images: use glow sample, glow evaluate, glow check, or Python."
        )
    config = run_config(source) if model.trained_on is None else None
    if config is not None:
        model.trained_on = TrainingData(
            source=config.data.data,
            size=size_of(model.config.image_shape),
            channels=model.config.image_shape[0],
            fit=config.data.fit,
            upscale=config.data.upscale,
            dtype="uint8" if model.config.bits is not None else "float32",
            bits=model.config.bits,
        )
    return model


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


def run_config(source: str) -> TrainConfig | None:
    """That of the run that a model is of; None where there is none."""
    folder = run_folder(source)
    return None if folder is None else read_run_config(folder)


def split_record(source: str) -> SplitRecord | None:
    """Which images the run of a model was trained on; None where that is not known."""
    folder = run_folder(source)
    return None if folder is None else SplitRecord.load(folder)


def conditional_data(model: ConditionalGlow, data: str, target: str | None = None) -> DataConfig:
    """Data of the arrays that a conditional model was trained on, by their names; or of another
    target."""
    known = model.trained_on
    return DataConfig(
        data=data,
        target=target or (None if known is None else known.target or None),
        condition=",".join(model.config.names),
        missing=model.config.missing,
        grid=_other_grid(model),
        dtype=dtype_of(model),
    )


def dtype_of(model: ImageFlow) -> Literal["float32", "float64"]:
    """What float data are kept in for this model."""
    return "float64" if str(model.dtype) == "torch.float64" else "float32"


def _other_grid(model: ImageFlow) -> Literal[1, 3] | None:
    """Axes of the grid, where they are not those of images."""
    axes = len(model.config.image_shape) - 1
    return 1 if axes == 1 else 3 if axes == 3 else None


def data_for(
    model: ImageFlow,
    source: str,
    data: str | None,
    *,
    fit: Fit | None = None,
    upscale: bool = False,
    target: str | None = None,
) -> DataConfig:
    """The data that the model `source` was trained on, or those that are named, read as they were.

    Raises:
        InputError: no data are named, and there is no train.yaml with the model, or a target is.
    """
    known = model.trained_on
    if data is None and target is not None:
        raise InputError(f"--target {target} is an array of --data: give both.")
    if data is None:
        config = run_config(source)
        if config is None:
            raise InputError(f"{source} does not say what to read: give --data.")
        _tell_fit(fit, known, source)
        if fit in (None, config.data.fit):
            return config.data
        return replace(config.data, fit=fit, patches=None)
    if isinstance(model, ConditionalGlow):
        return conditional_data(model, data, target)
    if target is None and known is not None and data.lower().endswith(SUFFIXES):
        target = known.target or None
    if model.config.bits is None or target is not None:
        return DataConfig(data=data, target=target, grid=_other_grid(model), dtype=dtype_of(model))
    if known is None:
        if fit is None:
            say(
                f"{source} does not say how its training images became {model.config.image_shape}: "
                "these are cropped; --fit says otherwise."
            )
        known = TrainingData()
    _tell_fit(fit, known, source)
    channels, height, width = picture_shape(model.config.image_shape)
    wanted: Any = channels if channels in (1, 3, 4) else None
    how: Any = fit or known.fit
    return DataConfig(
        data=data,
        size=(height, width),
        channels=wanted,
        fit=how,
        source_range=known.source_range,
        upscale=upscale or known.upscale,
    )


def own_splits(model: ImageFlow, source: str, config: DataConfig, progress: bool) -> Splits:
    """The run's data: what it was trained on, and what it was not.

    Where images have been added, removed or changed since, that is said; whatever the run was
    trained on is no part of what is held out.

    Raises:
        InputError: as `open_splits`, or nothing is left to hold out.
    """
    ways = "put the images back, or change that line, or give others with --data"
    splits = open_own(run_folder(source), config, ways, progress=progress)
    record = split_record(source)
    if record is None:
        known = model.trained_on
        if known is None or known.checksum != splits.checksum:
            other = f"has other {name_of_data(model.config.bits)} now"
            since = other if known and known.checksum else "keeps no list of them"
            say(
                f"{source} {since}: {name_of_data(model.config.bits)} that are called held out may "
                "be among those that it was trained on."
            )
        return with_classes_of(model, splits)
    changes = record.changes(splits)
    if known_fit(model) not in (None, config.fit):
        changes = replace(changes, changed=0)  # another fit gives every image other pixels
    if changes.any:
        say(f"{source}: {changes}.")
    valid, trained_valid = record.held_out(splits.valid)
    test, trained_test = record.held_out(splits.test)
    if trained := trained_valid + trained_test:
        say(
            f"{trained:,} {name_of_data(model.config.bits)} that would be held out now are left "
            "out: the model was trained on them."
        )
    return with_classes_of(model, replace(splits, valid=valid, test=test))


def splits_for(model: ImageFlow, options: DataOptions) -> Splits:
    """All parts of the run's own data, or of others: for what fits something on one part and looks
    at another. Errors as `choose`."""
    source, progress = options.model, not options.json
    config = data_for(
        model, source, options.data,
        fit=options.fit, upscale=options.upscale, target=options.target,
    )  # fmt: skip
    if options.data is None:
        splits = own_splits(model, source, config, progress)
        if (part := empty_part(splits)) is not None:
            raise _nothing_left(splits, part)
        return splits
    return with_classes_of(model, open_splits(config, progress=progress))


def chosen_by(
    model: ImageFlow, options: DataOptions, part: str | None, limit: int | None = None
) -> Chosen:
    """`choose`, as the options of a command say."""
    return choose(
        model,
        options.model,
        options.data,
        part=part,
        limit=limit,
        fit=options.fit,
        upscale=options.upscale,
        target=options.target,
        progress=not options.json and process_index() == 0,
    )


def choose(
    model: ImageFlow,
    source: str,
    data: str | None,
    *,
    part: str | None = None,
    limit: int | None = None,
    fit: Fit | None = None,
    upscale: bool = False,
    target: str | None = None,
    progress: bool = True,
) -> Chosen:
    """Images to work on: of the run's own data a part, of new data all.

    Args:
        model: whose shape, fit and classes the images get.
        source: how the model was named.
        data: what to read; None for the run's own.
        part: `train`, `valid`, `test` or `all`; by default the test where there is one.
        limit: read so many images at most, of data of which no part is chosen.
        fit: another than the model's.
        upscale: accept images that are smaller.
        target: which array of the file that is read; by default that of training.
        progress: show bars and remarks.

    Raises:
        InputError: there are no such images.
    """
    theirs = data is None or (target is None and is_own(source, data))
    own = theirs and part != "all"
    named = None if theirs else data
    config = data_for(model, source, named, fit=fit, upscale=upscale, target=target)
    if own:
        splits = own_splits(model, source, config, progress)
        part = part or "test"
        some: ImageData = getattr(splits, part)
        if not len(some):
            raise _nothing_left(splits, part)
        return Chosen(
            some,
            splits.source,
            splits.checksum,
            splits.skipped,
            splits.dataset if part == "test" else "",
            part,
            f"{'training' if part == 'train' else 'held-out'} {name_of_data(model.config.bits)}",
            lambda: splits.train,
        )
    few = config if limit is None else replace(config, limit=max(limit, 3))
    images = open_images(few, progress=progress)
    if limit is not None and part != "all" and images.partition is not None:
        images = open_images(config, progress=progress)  # of which a part may be a small one
    return _new(model, source, images, part, config.fit)


def _nothing_left(splits: Splits, part: str) -> InputError:
    return InputError(
        f"No image of {splits.source} is left to be called {part}: give other --data."
    )


def trained_among(record: SplitRecord | None, data: ImageData) -> int:
    """How many of these images a run was trained on, as far as that is known."""
    if record is None or data.contents is None:
        return 0
    return int(np.isin(data.contents, record.contents[record.parts == TRAIN]).sum())


def known_fit(model: ImageFlow) -> str | None:
    """How the training images were fitted, if that is known and they were pictures."""
    known = model.trained_on
    return None if known is None or model.config.bits is None else known.fit


def _new(model: ImageFlow, source: str, images: Images, part: str | None, fit: Fit) -> Chosen:
    data, own = images.data, images.partition
    chosen = "all"
    if part != "all" and own is not None:
        # Of two parts the one that is not trained on is the test, whatever it is called.
        test = own == TEST if (own == TEST).any() else own == VALID
        wanted = own == SPLIT_NAMES[part] if part in ("train", "valid") else test
        if not wanted.any():
            raise InputError(f"{images.source} has no part that is called {part}: leave it out.")
        chosen = part or "test"
        if not wanted.all():
            data = data.choose(np.flatnonzero(wanted))
    elif part not in (None, "all"):
        say(f"{images.source} has no split of its own: all of it is used, and not a part {part}.")
    data = with_classes_of(model, data)
    refitted = known_fit(model) not in (None, fit)
    record = split_record(source)
    count, name = trained_among(record, data), name_of_data(model.config.bits)
    if count:
        say(f"{count:,} of the {len(data):,} {name} are among those that the model was trained on.")
    elif refitted and record is not None:
        say(
            f"With --fit {fit} the images have other pixels than in training: whether they were "
            "trained on is not known."
        )
    return Chosen(
        data,
        images.source,
        images.checksum,
        images.skipped,
        images.dataset if chosen == "test" else "",
        chosen,
        name if count or refitted or chosen == "train" else f"new {name}",
        lambda: _train_beside(model, source, images),
    )


def _train_beside(model: ImageFlow, source: str, images: Images) -> ImageData | None:
    """The training part of the images' own split, else the run's training images, if they are at
    hand."""
    own = images.partition
    if own is not None and (own == TRAIN).any():
        return with_classes_of(model, images.data.choose(np.flatnonzero(own == TRAIN)))
    config = run_config(source)
    if config is None or not path_of(config.data.data).exists():
        return None
    try:
        train = with_classes_of(model, open_splits(config.data, progress=False)).train
    except InputError:  # a folder of that name is there, and is another one
        return None
    return train if train.image_shape == images.data.image_shape else None


def directions_beside(model: str) -> Path:
    """The file of directions that is kept with a model.

    Raises:
        InputError: there is none.
    """
    try:
        return locate(model, DIRECTIONS_FILE)
    except CheckpointError as error:
        raise InputError(
            f"There is no {DIRECTIONS_FILE} with {model}: make the directions with glow "
            "directions, and give --directions."
        ) from error


def is_own(source: str, data: str) -> bool:
    """Whether these data are those that the run names."""
    config = run_config(source)
    if config is None:
        return False
    theirs = path_of(config.data.data)
    return data == config.data.data or (
        theirs.exists() and theirs.resolve() == path_of(data).resolve()
    )


def _tell_fit(fit: Fit | None, known: TrainingData | None, source: str) -> None:
    if fit is not None and known is not None and fit != known.fit:
        say(f"The images are read with --fit {fit}; {source} was trained with {known.fit}.")


def say(line: str) -> None:
    """Tell the user, on stderr, once for all processes."""
    if process_index() == 0:
        remark(line)
