"""The official weights in a frozen graph, plain or with what follows from weights alone folded.

TensorFlow's constant folding stores exp(3·logs) in the place of logs, and W as a 1x1 kernel in the
place of W: once for the part that encodes and once, inverted, for the part that decodes. From the
former the weights come back; the latter is compared with them.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ..errors import CheckpointError
from .foreign import Given
from .graph_file import Constant, Graph, read_graph
from .stored import Stored, listed

FOLDED = re.compile(r"/_\d+__cf__\d+$")
"""What TensorFlow's folding puts behind the name of a node."""
VARIABLE = re.compile(r".+/(?:b|logs|W|P|L|U|log_S|sign_S|indices|indices_inverse)")
SCALED = re.compile(r"(.+/(?:actnorm_scale|l_last|conv|p|y_emb|classifier))/Exp")
MIXED = re.compile(r"(.+/invconv)/Reshape")
MADE_FROM_WEIGHTS = re.compile(rf"{SCALED.pattern}$|{MIXED.pattern}$")
SCALARS = re.compile(r"(\d{1,2})/\d+/(?:actnorm_scale/mul_2|invconv/mul_1)")
"""Log-determinants of a step, which only the encoding part has: h·w·Σ 3·logs, h·w·log|det W|."""
LOOSE = 1e-2
"""Share of a sum, or of an inverse, by which float32 may miss it."""

Scopes = dict[str, dict[str, Constant]]
"""Constants by scope, and by their names in it without what folding has added."""
Reader = Callable[[], Tensor]


@dataclass(frozen=True)
class FrozenGraph:
    """What is in a graph, under the names of the variables."""

    tensors: Mapping[str, Tensor]
    """The weights; and under its own name what has two dimensions or more and no explanation."""
    said: Given
    left_out: tuple[str, ...]


def read_frozen_graph(path: Path) -> FrozenGraph:
    """Tell weights from what follows from them, and from what is no weight.

    Raises:
        CheckpointError: the file is damaged, or its parts contradict each other.
    """
    graph = read_graph(path)
    if any("EdgeBias" in op for op in graph.ops):
        raise CheckpointError(
            f"{path} is an optimised graph, in which the border is not a channel of the kernels: "
            "convert graph_unoptimized.pb."
        )
    scopes = _scopes(graph, path)
    encoder = _encoder(scopes)
    weights, used = _weights(scopes, encoder)
    copies = _copies(scopes, weights) - used
    log_dets = {
        c.name
        for local, c in scopes.get(encoder, {}).items()
        if SCALARS.fullmatch(local) and c.count == 1
    }
    others = [c for c in graph.constants.values() if c.name not in used | copies | log_dets]
    is_structure = {constant.name: _is_structure(constant) for constant in others}
    structure = [constant for constant in others if is_structure[constant.name]]
    unexplained = [constant for constant in others if not is_structure[constant.name]]
    if texts := [constant.name for constant in unexplained if not constant.is_number]:
        raise CheckpointError(f"{path} has constants that are no numbers: {listed(texts)}.")
    readers = {FOLDED.sub("", constant.name): constant.read for constant in unexplained}
    left_out = []
    if copies:
        left_out.append(f"{len(copies):,} constants of the decoder, which follow from the weights")
    if log_dets:
        left_out.append(f"{len(log_dets):,} log-determinants, which follow from the weights")
    if structure:
        names = listed([FOLDED.sub("", c.name) for c in structure])
        left_out.append(f"{len(structure):,} numbers, shapes, zeros and masks ({names})")
    area = _area(scopes.get(encoder, {}), weights, path)
    said = Given(image_size=_image_size(graph, scopes, area, path), bits=_bits(scopes, encoder))
    return FrozenGraph(Stored({**readers, **weights}), said, tuple(left_out))


def _scopes(graph: Graph, path: Path) -> Scopes:
    scopes: Scopes = {}
    for name, constant in graph.constants.items():
        bare = FOLDED.sub("", name.removeprefix("import/")).removesuffix("/read")
        scope, slash, local = bare.partition("/")
        if not slash or not constant.is_number:
            continue
        if local in scopes.setdefault(scope, {}):
            raise CheckpointError(f"{path} has {bare} twice: which is right cannot be told.")
        scopes[scope][local] = constant
    return scopes


def _encoder(scopes: Scopes) -> str:
    """The scope that has log-determinants; `model` where none or several have."""
    found = [s for s, there in scopes.items() if any(map(SCALARS.fullmatch, there))]
    return found[0] if len(found) == 1 else "model"


def _weights(scopes: Scopes, encoder: str) -> tuple[dict[str, Reader], set[str]]:
    """What reads each variable, and the names of the constants that it is read from."""
    readers: dict[str, Reader] = {}
    used = set()
    for local, constant in scopes.get("model", {}).items():
        if VARIABLE.fullmatch(local):
            readers[f"model/{local}"] = constant.read
            used.add(constant.name)
    for local, constant in scopes.get(encoder, {}).items():
        scaled, mixed = SCALED.fullmatch(local), MIXED.fullmatch(local)
        if scaled and f"model/{scaled[1]}/logs" not in readers:
            readers[f"model/{scaled[1]}/logs"] = partial(_logs, constant)
            used.add(constant.name)
        elif mixed and not any(f"model/{mixed[1]}/{name}" in readers for name in "WL"):
            readers[f"model/{mixed[1]}/W"] = partial(_matrix, constant)
            used.add(constant.name)
    return readers, used


def _logs(constant: Constant) -> Tensor:
    """logs = log(exp(3·logs))/3, in float64."""
    scale = constant.read().double()
    if not (scale > 0).all():
        raise CheckpointError(f"{constant.name} has scales that are not above 0: it is damaged.")
    return scale.log() / 3


def _matrix(constant: Constant) -> Tensor:
    """W, from a kernel (1, 1, C, C)."""
    kernel = constant.read()
    return kernel[0, 0] if kernel.shape[:2] == (1, 1) and kernel.dim() == 4 else kernel


def _copies(scopes: Scopes, weights: Mapping[str, Reader]) -> set[str]:
    """Names of the constants that are what the weights give, as they are or inverted."""
    agree = set()
    for there in scopes.values():
        for local, constant in there.items():
            scaled, mixed = SCALED.fullmatch(local), MIXED.fullmatch(local)
            if scaled and (logs := weights.get(f"model/{scaled[1]}/logs")):
                given = constant.read().double().flatten().log().abs()
                expected = 3 * logs().double().flatten().abs()
                if given.shape == expected.shape and torch.allclose(given, expected, atol=1e-4):
                    agree.add(constant.name)
            elif mixed and (matrix := weights.get(f"model/{mixed[1]}/W")):
                step = mixed[1].removesuffix("invconv")
                scale = weights.get(f"model/{step}actnorm_scale/logs")
                if _is_mixing(_matrix(constant).double(), matrix().double(), scale):
                    agree.add(constant.name)
    return agree


def _is_mixing(given: Tensor, W: Tensor, logs: Reader | None) -> bool:
    """Whether a matrix is W or W⁻¹, or W⁻¹ with the step's scale undone in it."""
    if given.shape != W.shape or W.dim() != 2 or W.shape[0] != W.shape[1]:
        return False
    if torch.allclose(given, W, atol=1e-6 * float(W.abs().max())):
        return True
    undone = W @ given
    eye = torch.eye(len(W), dtype=W.dtype)
    if torch.allclose(undone, eye, atol=LOOSE):
        return True
    scale = torch.empty(0) if logs is None else (3 * logs().double().flatten()).exp()
    return scale.shape == eye.shape[:1] and torch.allclose(undone * scale, eye, atol=LOOSE)


def _is_structure(constant: Constant) -> bool:
    """Whether it belongs to how the graph computes: numbers, paddings, zeros, borders, masks."""
    if len(constant.shape) < 2:
        return True
    if not constant.is_number or MADE_FROM_WEIGHTS.search(FOLDED.sub("", constant.name)):
        return False
    if not constant.is_float:
        return len(constant.shape) == 2 and constant.shape[1] == 2
    values = constant.read()
    if not values.any():
        return True
    if _border(constant) is not None:
        return True
    if values.dim() != 2 or values.shape[0] != values.shape[1]:
        return False
    ones = torch.ones_like(values)
    triangles = ones.tril(-1), ones.triu(1), ones.tril().triu()
    return any(torch.equal(values, triangle) for triangle in triangles)


def _border(constant: Constant) -> tuple[int, int] | None:
    """Height and width inside masks (…, height + 2, width + 2, 1): 1 at the border, else 0."""
    if len(constant.shape) != 4 or constant.shape[3] != 1 or not constant.is_float:
        return None
    batch, height, width, _ = constant.shape
    if batch < 1 or min(height, width) < 3:
        return None
    mask = torch.ones(constant.shape[:3])
    mask[:, 1:-1, 1:-1] = 0
    same = torch.equal(constant.read()[..., 0].float(), mask)
    return (height - 2, width - 2) if same else None


def _area(there: Mapping[str, Constant], weights: Mapping[str, Reader], path: Path) -> int | None:
    """Pixels of the images, from the log-determinants; None where these are not stored.

    Raises:
        CheckpointError: they are not those of the weights.
    """
    found = []
    for local, constant in there.items():
        match = SCALARS.fullmatch(local)
        if match is None or constant.count != 1:
            continue
        step, _, _ = local.rpartition("/")
        one, size = _log_det(step, weights)
        if one is not None:
            # A level has a quarter of the pixels of the one before it.
            found.append((float(constant.read()) * 4 ** (int(match[1]) + 1), one, size))
    if not found:
        return None
    stored, one, _ = max(found, key=lambda f: abs(f[1]))
    area = stored / one if one else 0.0
    if not 1 <= area < 2**32 or any(
        abs(stored - area * one) > LOOSE * area * (size + 1e-3) for stored, one, size in found
    ):
        raise CheckpointError(
            f"The log-determinants that are stored in {path} are not those of its weights: it is "
            "damaged, or a graph of another kind."
        )
    return round(area)


def _log_det(step: str, weights: Mapping[str, Reader]) -> tuple[float | None, float]:
    """The log-determinant of a step's scale or matrix for one pixel, and the size of its terms."""
    if step.endswith("actnorm_scale") and (logs := weights.get(f"model/{step}/logs")):
        terms = 3 * logs().double()
        return float(terms.sum()), float(terms.abs().sum())
    if step.endswith("invconv") and (matrix := weights.get(f"model/{step}/W")):
        W = matrix().double()
        if W.dim() == 2 and W.shape[0] == W.shape[1]:
            return float(torch.linalg.slogdet(W).logabsdet), float(len(W))
    return None, 0.0


def _image_size(
    graph: Graph, scopes: Scopes, area: int | None, path: Path
) -> tuple[int, int] | None:
    """Height and width: of what is fed, of the borders of the first level, or of a square."""
    fed = [
        shape[-3:-1]
        for name, shape in graph.placeholders.items()
        if name.endswith("image") and len(shape) >= 3
    ]
    borders = [
        (2 * size[0], 2 * size[1])
        for there in scopes.values()
        for constant in there.values()
        if (size := _border(constant)) is not None
    ]
    sizes = [(height, width) for height, width in fed or borders if height * width > 0]
    if sizes:
        height, width = max(sizes, key=math.prod)
        if area is not None and height * width != area:
            raise CheckpointError(
                f"{path} is for images of {height}x{width}, and its log-determinants for "
                f"{area:,} pixels: it is damaged."
            )
        return height, width
    side = math.isqrt(area or 0)
    return (side, side) if area and side * side == area else None


def _bits(scopes: Scopes, encoder: str) -> int | None:
    """From the width of the dequantisation noise, 2^−bits."""
    there = scopes.get(encoder, {})
    for name in ("random_uniform/sub", "random_uniform/max"):
        if name in there and there[name].count == 1:
            width = float(there[name].read())
            bits = [n for n in range(1, 9) if width == 2.0**-n]
            return bits[0] if bits else None
    return None
