"""A model leaves for other software: its programs, what an app must know, and a comparison."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from ..files import replacing, require_new, write_text
from ..latents.directions import Directions
from ..models.flow import ImageFlow
from ..models.training_data import TrainingData
from .comparison import Comparison, Run, compare
from .onnx import OPSET, export_onnx, needed
from .portable import Precision
from .programs import Names, names_of, programs_of

Format = Literal["torch", "onnx"]
META_FILE = "meta.json"
DIRECTIONS_FILE = "directions.bin"
META_FORMAT = 1


@dataclass(frozen=True)
class Exported:
    """What was written, and how near it is to the model."""

    folder: Path
    sizes: Mapping[str, int]
    """Bytes of each file, meta.json left out."""
    comparison: Comparison


def export_model(
    model: ImageFlow,
    folder: Path,
    *,
    format: Format,
    precision: Precision = "float32",
    directions: Directions | None = None,
) -> Exported:
    """Write the programs `encode`, `decode` and `log_prob`, and compare them with the model.

    `torch` writes a `torch.export` program each (.pt2), `onnx` a graph each and one file of
    weights; both write meta.json, and directions.bin where there are directions.

    Args:
        model: of any kind; it stays as it is.
        folder: a new or an empty one.
        format: `torch` or `onnx`.
        precision: of the networks' weights in the files; all is computed in float32.
        directions: of this model.

    Raises:
        InputError: as `export_onnx` and `compare`; or the folder is not empty.
    """
    require_new(folder)
    if format == "onnx":
        needed("onnxruntime")
        written = export_onnx(model, folder, precision=precision)
        programs = {
            name: _onnx_run(path, names_of(model)[name]) for name, path in written.graphs.items()
        }
    else:
        paths = {name: folder / f"{name}.pt2" for name in names_of(model)}
        for name, program in programs_of(model, precision).items():
            _save(program, paths[name])
        programs = {name: _torch_run(path, model) for name, path in paths.items()}
    comparison = compare(model, programs, precision)
    facts = describe(model, format, precision)
    if directions is not None:
        facts["directions"] = _write_directions(folder / DIRECTIONS_FILE, directions)
    files = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    sizes = {path.name: path.stat().st_size for path in files}
    facts = {**facts, "bytes_of_files": sizes, "measured": dataclasses.asdict(comparison)}
    write_text(folder / META_FILE, json.dumps(facts, indent=2) + "\n")
    return Exported(folder, sizes, comparison)


def describe(model: ImageFlow, format: Format, precision: Precision) -> dict[str, Any]:
    """What an app needs to know of the programs, for meta.json."""
    bits, shape = model.config.bits, model.config.image_shape
    known = model.trained_on or TrainingData()
    shapes: dict[str, list[int | str]] = {"x": ["batch", *shape], "log_prob": ["batch"]}
    shapes["labels"] = ["batch"]
    for level, latent in enumerate(model.latent_shapes, start=1):
        shapes[f"latent{level}"] = ["batch", *latent]
    suffix = {"torch": "pt2", "onnx": "onnx"}[format]

    def values(names: tuple[str, ...]) -> list[dict[str, Any]]:
        return [
            {
                "name": name,
                "dtype": "int64" if name == "labels" else "float32",
                "shape": shapes[name],
            }
            for name in names
        ]

    variational = getattr(model.config, "dequantization", "uniform") == "variational"
    return {
        "format": META_FORMAT,
        "programs": {
            name: {
                "file": f"{name}.{suffix}",
                "inputs": values(its.inputs),
                "outputs": values(its.outputs),
            }
            for name, its in names_of(model).items()
        },
        "opset": OPSET if format == "onnx" else None,
        "precision_of_weights": precision,
        "model_type": model.model_type,
        "image_shape": list(shape),
        "bits": bits,
        "levels": len(model.latent_shapes),
        "classes": model.config.classes,
        "class_names": list(known.class_names),
        "latents": "standard normal; times a temperature, 0.7 say, before decode draws images",
        "bytes_to_x": None
        if bits is None
        else f"(floor(byte / {2 ** (8 - bits)}) + u) / {2**bits} - 0.5, with u = 0.5 for encode "
        "and u uniform from 0 to 1 for log_prob",
        "x_to_bytes": None
        if bits is None
        else f"clamp(floor((x + 0.5) * {2**bits}), 0, {2**bits - 1}) * {2 ** (8 - bits)}",
        "log_prob": "nats, of the density of x"
        + (
            ""
            if bits is None
            else "; its mean over u bounds log P(bytes) + D log 2^bits from below"
        )
        + ("; u becomes the learned noise, whose density is in it" if variational else ""),
        "bits_per_dim": f"-log_prob / (D log 2) + {bits or 0}, with D = {int(np.prod(shape))}",
    }


def _save(program: ExportedProgram, path: Path) -> None:
    with replacing(path) as temporary:
        torch.export.save(program, temporary)


def _torch_run(path: Path, model: ImageFlow) -> Run:
    """The program of a file; `decode` takes the latents as one tuple."""
    module: Any = torch.export.load(path).module()
    levels = len(model.latent_shapes)

    def run(*given: Tensor) -> tuple[Tensor, ...]:
        arguments = (given[:levels], *given[levels:]) if path.stem == "decode" else given
        made = module(*arguments)
        return made if isinstance(made, tuple) else (made,)

    return run


def _onnx_run(path: Path, names: Names) -> Run:
    """The graph of a file in ONNX Runtime, on the CPU, with PyTorch's number of threads."""
    runtime = needed("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(*given: Tensor) -> tuple[Tensor, ...]:
        arrays = {name: one.numpy() for name, one in zip(names.inputs, given, strict=True)}
        made = session.run(list(names.outputs), arrays)
        return tuple(torch.from_numpy(np.asarray(one)) for one in made)

    return run


def _write_directions(path: Path, directions: Directions) -> dict[str, Any]:
    """Δε of each attribute after the other, level by level, as float32, lowest byte first."""
    rows = [
        np.concatenate([eps.float().cpu().numpy().ravel() for eps in latents])
        for latents in directions.latents.values()
    ]
    with replacing(path) as temporary:
        temporary.write_bytes(np.stack(rows).astype("<f4").tobytes())
    return {
        "file": path.name,
        "attributes": list(directions.latents),
        "values_of_each": len(rows[0]),
        "meaning": "latents + amount * values, level by level, as float32, lowest byte first",
    }
