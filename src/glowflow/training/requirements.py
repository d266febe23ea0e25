"""What a run is refused for, before anything of it is written."""

from pathlib import Path

from ..data.inputs import empty_part, with_classes
from ..data.record import SplitRecord
from ..data.types import Splits
from ..errors import InputError
from ..files import require_new, require_writable
from ..models.pretrained import read_training_data
from ..processes import on_every_process, on_main_process, process_count, process_index
from .config import read_run_config
from .initialisation import model_config_for
from .resume import check_resumed
from .run import Run
from .tracking import require_trackers


def require_trainable(run: Run, resume: bool) -> None:
    """Refuse a run that could not take its next step, or not keep it.

    Raises:
        InputError: the folder is in use or cannot be written, the batch cannot be shared out, the
            data do not fit the model, or a tracker is not there.
    """
    if resume:
        check_resumed(run.folder, run.config)
    else:
        require_new(run.folder)
    require_equal_parts(run.batch_size, run.config.accumulate, process_count())
    model_config_for(run.config, run.splits)
    require_trackers(run.config.track)
    require_writable(run.folder)


def recorded_splits(folder: Path, splits: Splits, data_changed: bool) -> Splits:
    """The splits that a run goes on with: whatever it was trained on stays in its part.

    Raises:
        InputError: images were added, removed or changed, and that is not said to be right, or a
            part has no image left.
        CheckpointError: the record of the run's images is damaged.
    """
    splits = _with_own_classes(folder, splits)
    record = SplitRecord.load(folder)
    if record is None:
        return splits
    changes = record.changes(splits)
    if changes.any and not data_changed and not record.same_images(splits):
        raise InputError(
            f"{splits.source}: {changes}; go on with them by --data-changed ok, or give the run's "
            "own images with --data."
        )
    kept = record.keep(splits)
    if (part := empty_part(kept)) is not None:
        raise InputError(
            f"{splits.source}: no image is left to be called {part}: bring back those that the run "
            "had for it."
        )
    return kept


def _with_own_classes(folder: Path, splits: Splits) -> Splits:
    """The splits with the classes of the run's model, by name.

    Raises:
        InputError: there is a class that the model does not know.
    """
    known = read_training_data(folder)
    if known is None or not read_run_config(folder).conditional:
        return splits
    return with_classes(splits, known.class_names)


def require_equal_parts(batch_size: int, accumulate: int, processes: int) -> None:
    """Refuse a batch that does not divide.

    Raises:
        InputError: the parts would not be of one size.
    """
    parts = processes * accumulate
    if batch_size % parts:
        raise InputError(
            f"A batch of {batch_size} images does not divide into {parts} equal parts "
            f"({processes} processes, each computing its share in {accumulate}): "
            f"give a batch_size that is a multiple of {parts}."
        )


def require_same_data(checksum: str) -> None:
    """Refuse processes that have read different images.

    Args:
        checksum: SHA-256 of this process's images.

    Raises:
        InputError: process 0 has another one.
    """
    expected = on_main_process(lambda: checksum)

    def compare() -> None:
        if checksum != expected:
            raise InputError(
                f"Process {process_index()} has other images (SHA-256 {checksum}) than "
                f"process 0 ({expected}): give every machine the same data."
            )

    on_every_process(compare)
