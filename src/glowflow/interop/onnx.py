"""A model as ONNX graphs, for every runtime that reads them."""

import hashlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch.export import ExportedProgram

from ..data.extras import extra
from ..errors import InputError, in_one_line
from ..files import replacing
from ..models.flow import ImageFlow
from .portable import Precision
from .programs import Names, names_of, whole_program_of

OPSET = 18
WEIGHTS_FILE = "weights.bin"
INLINE = 1024
"""Bytes of a constant that stays in its graph; larger ones are in the file of weights, once."""
ALIGNMENT = 64
"""Bytes that the start of a constant is a multiple of."""


@dataclass(frozen=True)
class ExportedOnnx:
    """What was written."""

    folder: Path
    graphs: dict[str, Path]
    """`encode`, `decode` and `log_prob`."""
    weights: Path
    """The constants of all graphs: ONNX's external data."""
    inputs: dict[str, tuple[str, ...]]
    """Names of each graph's inputs, in order."""
    outputs: dict[str, tuple[str, ...]]
    """Names of each graph's outputs, in order."""


def export_onnx(
    model: ImageFlow, folder: Path, *, precision: Precision = "float32"
) -> ExportedOnnx:
    """Write encode.onnx, decode.onnx and log_prob.onnx, and weights.bin beside them.

    The first axis of every input and output is the batch, of any size. Inputs and outputs are
    float32, labels int64. The graphs use ONNX's own operators of opset 18.

    Args:
        model: of any kind; it stays as it is.
        folder: where the files go.
        precision: of the networks' weights in the file; all is computed in float32.

    Raises:
        InputError: as `portable`; a package of the extra `export` is missing; a part of one's own
            cannot be expressed in ONNX; or the folder cannot be written.
    """
    for module in ("onnx", "onnxscript"):
        needed(module)
    names = names_of(model)
    whole = _graph(whole_program_of(model, precision), names)
    cut = {name: _cut(whole, name, its) for name, its in names.items()}
    graphs = {name: folder / f"{name}.onnx" for name in names}
    weights = folder / WEIGHTS_FILE
    with replacing(weights) as temporary, temporary.open("wb") as file:
        shared = _SharedWeights(file)
        for graph in cut.values():
            shared.take(graph)
    for name, graph in cut.items():
        with replacing(graphs[name]) as temporary:
            temporary.write_bytes(_serialized(graph))
    return ExportedOnnx(
        folder=folder,
        graphs=graphs,
        weights=weights,
        inputs={name: its.inputs for name, its in names.items()},
        outputs={name: its.outputs for name, its in names.items()},
    )


def needed(module: str) -> Any:
    """Import a package of the extra `export`.

    Raises:
        InputError: it is not installed.
    """
    return extra(module, "export", "ONNX needs")


def _of_whole(name: str, output: str) -> str:
    """What an output of `name` is called in the graph of all three."""
    return f"{name}.{output}"


def _graph(program: ExportedProgram, names: dict[str, Names]) -> Any:
    """The program in ONNX's terms, without what says where it was made."""
    inputs = dict.fromkeys(
        (*names["encode"].inputs[:1], *names["decode"].inputs)  # x, latents, labels
    )
    outputs = [
        _of_whole(name, output)
        for name in ("encode", "log_prob", "decode")
        for output in names[name].outputs
    ]
    try:
        with _quiet():
            made: Any = torch.onnx.export(
                program,
                (),
                None,
                input_names=list(inputs),
                output_names=outputs,
                opset_version=OPSET,
                custom_translation_table={torch.ops.aten.log_sigmoid.default: _log_sigmoid},
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        said = in_one_line(error.__cause__ or error)[:300]
        raise InputError(
            f"A part of this model cannot be expressed in ONNX ({said}): use --format torch, or "
            "write the part with other operations."
        ) from error
    model = made.model
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    for node in model.graph:
        node.doc_string = None
        values += node.outputs
        node.metadata_props.clear()
    for value in values:
        value.doc_string = None
        value.metadata_props.clear()
        if value.shape is not None:
            for axis, size in enumerate(value.shape):
                if not isinstance(size, int):
                    value.shape[axis] = "batch" if axis == 0 else None
    model.graph.metadata_props.clear()
    model.metadata_props.clear()
    return model


def _log_sigmoid(x: Any) -> Any:
    """−softplus(−x): runtimes give a sigmoid that is far below 1 with an error of 1e-7."""
    from onnxscript import opset18 as op

    return op.Neg(op.Softplus(op.Neg(x)))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says about packages that are not needed."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _cut(whole: Any, name: str, names: Names) -> Any:
    """The part of the graph of all three that gives the outputs of one."""
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    model = whole.clone()
    graph = model.graph
    kept = {_of_whole(name, output): output for output in names.outputs}
    graph.outputs[:] = [value for value in graph.outputs if value.name in kept]
    RemoveUnusedNodesPass()(model)
    gone = [value for value in graph.inputs if value.name not in names.inputs]
    graph.inputs[:] = [value for value in graph.inputs if value.name in names.inputs]
    for value in gone:  # what is left of them is the size of the batch, which all inputs have
        for node, index in value.uses():
            node.replace_input_with(index, graph.inputs[0])
    for value in graph.outputs:
        value.name = kept[value.name]
    graph.name = name
    return model


class _SharedWeights:
    """A file of constants, each of which is there once, whichever graphs have it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.places: dict[bytes, int] = {}

    def take(self, model: Any) -> None:
        """Move the large constants of a graph into the file."""
        from onnx_ir import ExternalTensor

        for name, value in model.graph.initializers.items():
            tensor = value.const_value
            if tensor.nbytes < INLINE:
                continue
            content = tensor.tobytes()
            value.const_value = ExternalTensor(
                WEIGHTS_FILE,
                self._place(content),
                len(content),
                tensor.dtype,
                shape=tensor.shape,
                name=name,
            )

    def _place(self, content: bytes) -> int:
        key = hashlib.sha256(content).digest()
        if key not in self.places:
            self.file.write(bytes(-self.file.tell() % ALIGNMENT))
            self.places[key] = self.file.tell()
            self.file.write(content)
        return self.places[key]


def _serialized(model: Any) -> bytes:
    from onnx_ir import to_proto

    written: bytes = to_proto(model).SerializeToString()
    return written
