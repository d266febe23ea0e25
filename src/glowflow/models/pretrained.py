"""Weights and configuration as files: safetensors beside a `config.json`, never a pickle."""

import dataclasses
import json
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import CheckpointError, InputError, in_one_line
from ..files import path_of, replacing, write_text
from .hub import Hub, download, is_hub_id
from .training_data import TrainingData

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
FORMAT = 1
DATA_SECTION = "data"
SHIPPED = Path(str(files("glowflow"))) / "pretrained_models"
"""Folders of models that come with the package, found by their names."""

NEWEST = Hub()
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""What weights may be saved as; others are compared with the model's own."""

Config = TypeVar("Config")


def save_pretrained(
    folder: Path,
    model_type: str,
    config: Any,
    state: dict[str, Tensor],
    data: TrainingData | None = None,
) -> None:
    """Write the configuration, with what is known of the training images, and the weights, each
    whole or not at all.

    Raises:
        InputError: the folder cannot be written.
    """
    with replacing(folder / WEIGHTS_FILE) as path:
        save_file(_apart(state), path)
    fields = {"model_type": model_type, "format": FORMAT, **dataclasses.asdict(config)}
    if data is not None:
        fields[DATA_SECTION] = data.to_dict()
    write_text(folder / CONFIG_FILE, json.dumps(fields, indent=2) + "\n")


def _apart(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights on the CPU; those that several modules share, once for each."""
    own: dict[str, Tensor] = {}
    places = set()
    for name, weight in state.items():
        place = weight.untyped_storage().data_ptr()
        shared = weight.detach().cpu().contiguous()
        own[name] = shared.clone() if place in places else shared
        places.add(place)
    return own


def load_pretrained(
    source: str | Path, model_type: str, config_class: type[Config], hub: Hub = NEWEST
) -> tuple[Config, dict[str, Tensor], TrainingData | None]:
    """Read the configuration, the weights and the section `data`, if there is one.

    Raises:
        CheckpointError: nothing is there, it is damaged, or it is another kind of model.
    """
    config_path = locate(source, CONFIG_FILE, hub)
    if hub_id := named_on_hub(source, hub):
        source, hub = hub_id[0], hub_id[1].of_commit(config_path)
    weights_path = locate(source, WEIGHTS_FILE, hub)
    fields = read_fields(config_path)
    found = fields.pop("model_type", None)
    if found != model_type:
        raise CheckpointError(
            f"{config_path} describes a model of type {found!r}, not {model_type!r}: "
            "give the folder of such a model."
        )
    if (version := fields.pop("format", None)) != FORMAT:
        raise CheckpointError(
            f"{config_path} has format {version!r} and this version reads {FORMAT}: "
            "update glowflow."
        )
    section = fields.pop(DATA_SECTION, None)
    _check_names(fields, config_class, config_path)
    try:
        config = config_class(**fields)
        data = None if section is None else TrainingData.from_dict(section)
    except (TypeError, ValueError, AttributeError, OverflowError, InputError) as error:
        said = in_one_line(error)[:300].rstrip(".")
        raise CheckpointError(f"{config_path} does not describe a model: {said}.") from error
    return config, load_weights(weights_path), data


def _check_names(fields: dict[str, Any], config_class: Any, path: Path) -> None:
    """Refuse settings that there are not, and the lack of one that has no default."""
    known = {field.name: field for field in dataclasses.fields(config_class)}
    if unknown := sorted(fields.keys() - known.keys()):
        raise CheckpointError(
            f"{path} does not describe a model of this version, it has a setting {unknown[0]!r}: "
            "update glowflow, or use another checkpoint."
        )
    for name, field in known.items():
        if field.default is dataclasses.MISSING and name not in fields:
            raise CheckpointError(f"{path} has no {name}: it does not describe a model.")


def read_model_type(source: str | Path, hub: Hub = NEWEST) -> str | None:
    """Which kind of model is found where `locate` looks.

    Raises:
        CheckpointError: there is no configuration, or it is not JSON.
    """
    found = read_fields(locate(source, CONFIG_FILE, hub)).get("model_type")
    return found if isinstance(found, str) else None


def read_training_data(source: str | Path) -> TrainingData | None:
    """What a model's configuration says of its training images; None where it says nothing.

    Raises:
        CheckpointError: there is no configuration, or it is not JSON.
        InputError: what it says is not that.
    """
    section = read_fields(locate(source, CONFIG_FILE)).get(DATA_SECTION)
    return None if section is None else TrainingData.from_dict(section)


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors from a safetensors file.

    Raises:
        CheckpointError: the file is missing, truncated, or not safetensors.
    """
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"There is no file {path}: give a file of saved weights.") from error
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"Cannot read {path}: the file is truncated or not safetensors ({error}); "
            "use another checkpoint."
        ) from error


def check_state(own: dict[str, Tensor], given: dict[str, Tensor], source: str) -> None:
    """Compare the names, shapes and kinds of weights with a model's own.

    Raises:
        CheckpointError: they differ; the message names the first difference.
    """
    different = "the checkpoint is of another architecture"
    for name, tensor in own.items():
        if name not in given:
            raise CheckpointError(f"{source} has no weight {name}: {different}.")
        if given[name].shape != tensor.shape:
            raise CheckpointError(
                f"In {source} the weight {name} is {tuple(given[name].shape)} and the model's is "
                f"{tuple(tensor.shape)}: {different}."
            )
        kinds = FLOATS if tensor.dtype in FLOATS else (tensor.dtype,)
        if given[name].dtype not in kinds:
            raise CheckpointError(
                f"In {source} the weight {name} is {given[name].dtype} and the model's is "
                f"{tensor.dtype}: {different}."
            )
    if extra := given.keys() - own.keys():
        raise CheckpointError(f"{source} has a weight {min(extra)} too many: {different}.")


def locate(source: str | Path, name: str, hub: Hub = NEWEST) -> Path:
    """The file `name` of a model: of a folder, of a model that is shipped, or of the hub.

    A folder goes before a shipped model of the same name. `organisation/name@revision` is a branch,
    a tag or a commit on the hub.

    Raises:
        CheckpointError: there is no such model, or it has no such file.
    """
    folder = path_of(source)
    if not folder.is_dir() and str(source) in shipped_models():
        folder = SHIPPED / source
    if folder.is_dir():
        if (folder / name).is_file():
            return folder / name
        above = folder.resolve().parent
        hint = f", as {above}" if (above / CONFIG_FILE).is_file() else ""
        raise CheckpointError(
            f"There is no {name} in {folder}: give the folder of a trained model{hint}."
        )
    if folder.is_file():
        inside = next((f for f in folder.parents[:2] if (f / CONFIG_FILE).is_file()), None)
        hint = f": give its folder, {inside}" if inside else ": give the folder of a model"
        raise CheckpointError(f"{source} is a file{hint}.")
    hub_id = named_on_hub(source, hub)
    if hub_id is None:
        raise CheckpointError(
            f"There is no model at {source}{_near(folder)}: give a run's folder, a hub id "
            f"organisation/name, or a model that is shipped ({', '.join(shipped_models())})."
        )
    repo, hub = hub_id
    return download(repo, name, hub, f"There is no folder {source}{_near(folder)}")


def named_on_hub(source: str | Path, hub: Hub = NEWEST) -> tuple[str, Hub] | None:
    """organisation/name, and how to ask for it; None where `source` is a path or a shipped model.

    `organisation/name@revision` names the revision, where none is given beside it.
    """
    if path_of(source).exists() or str(source) in shipped_models():
        return None
    repo, _, revision = str(source).partition("@")
    if revision and hub.revision is None:
        hub = dataclasses.replace(hub, revision=revision)
    elif revision:
        repo = str(source)
    return (repo, hub) if is_hub_id(repo) else None


def _near(folder: Path) -> str:
    """What else is there under a name that is much the same."""
    try:
        names = [path.name for path in folder.parent.iterdir() if path.is_dir()]
    except OSError:
        return ""
    found = get_close_matches(folder.name, names, n=1, cutoff=0.7)
    return f" (there is {folder.parent / found[0]})" if found else ""


def shipped_models() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{CONFIG_FILE}"))


def read_fields(path: Path) -> dict[str, Any]:
    """The fields of a configuration; none where it is other JSON.

    Raises:
        CheckpointError: it is not JSON.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"Cannot read {path}: it is not JSON ({error}).") from error
    return fields if isinstance(fields, dict) else {}
