"""A model as ONNX graphs, for every runtime that reads them."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from ..files import replacing
from ..models.flow import ImageFlow
from .portable import Precision
from .programs import Recorded, record

OPSET = 18
WEIGHTS_FILE = "weights.bin"
INLINE = 1024
"""Bytes of a constant that stays in its graph; larger ones are in the file of weights, once."""
ALIGNMENT = 64


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


def export_onnx(
    model: ImageFlow, folder: Path, *, precision: Precision = "float32"
) -> ExportedOnnx:
    """Write encode.onnx, decode.onnx and log_prob.onnx, and weights.bin beside them.

    The batch may be of any size. The graphs hold constants where the model has matrices that follow
    from weights, and use operators of ONNX's own opset 18 alone.

    Args:
        model: of any kind; it stays as it is.
        folder: where the files go.
        precision: of the convolutions' weights in the file; all is computed in float32.

    Raises:
        InputError: as `portable`; a part of one's own has no counterpart in ONNX; or the folder
            cannot be written.
    """
    recorded = record(model, precision=precision)
    graphs = {name: folder / f"{name}.onnx" for name in recorded}
    weights = folder / WEIGHTS_FILE
    with replacing(weights) as temporary, temporary.open("wb") as file:
        shared = _SharedWeights(file)
        written = {name: _graph(program) for name, program in recorded.items()}
        for graph in written.values():
            shared.take(graph)
    for name, graph in written.items():
        with replacing(graphs[name]) as temporary:
            temporary.write_bytes(_serialized(graph))
    return ExportedOnnx(
        folder=folder,
        graphs=graphs,
        weights=weights,
        inputs={name: program.inputs for name, program in recorded.items()},
        outputs={name: program.outputs for name, program in recorded.items()},
    )


def _graph(recorded: Recorded) -> Any:
    """The program in ONNX's terms, without what says where it was made."""
    made = torch.onnx.export(
        recorded.program,
        (),
        None,
        input_names=list(recorded.inputs),
        output_names=list(recorded.outputs),
        opset_version=OPSET,
        verbose=False,
    )
    assert made is not None
    graph = made.model.graph
    made.model.metadata_props.clear()
    graph.metadata_props.clear()
    values = [*graph.inputs, *graph.initializers.values()]
    for node in graph:
        node.metadata_props.clear()
        node.doc_string = None
        values += node.outputs
    for value in values:
        value.metadata_props.clear()
        value.doc_string = None
        if value.shape is not None:
            for axis, size in enumerate(value.shape):
                if not isinstance(size, int):
                    value.shape[axis] = "batch" if axis == 0 else None
    return made.model


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
