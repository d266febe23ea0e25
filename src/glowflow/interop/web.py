"""A model as a page: static files that run it in the visitor's browser, with no server."""

import gzip
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray
from PIL import Image

from ..errors import InputError
from ..files import replacing, write_text
from ..latents.codes import flatten, unflatten
from ..latents.directions import Directions
from ..models.flow import ImageFlow
from ..reports.pictures import to_pil
from .onnx import export_onnx, needed
from .portable import Precision
from .web_runtime import LICENSE, Runtime

PAGE = Path(str(files("glowflow"))) / "interop" / "web"
"""The page's own files, which are the same for every model."""
PROGRAMS = ("encode", "decode")
WALL = 24
"""Pictures that the page opens with, drawn here: seeds 0, 1, …"""
COLUMNS = 12
LARGEST_TILE = 128
"""Pixels of the longer side of a picture on the wall, at most."""
CHECK_SEED = 1_000_000
CHECK_VALUES = 2**17
"""Values that the page compares with Python's, about; of one picture at least."""
PIXELATED = 96
"""Pictures whose longer side has fewer pixels are enlarged as squares."""


@dataclass(frozen=True)
class ExportedPage:
    """What was written, and how near its graphs come to the model."""

    folder: Path
    sizes: Mapping[str, int]
    """Bytes of each file, by its path in the folder."""
    compared: int
    """Values of decoded pictures that were compared with the model's own."""
    different: int
    """Of these, how many bytes differ."""
    largest_difference: int
    """By how much at most, of 255."""
    not_returned: int
    """Of as many values, how many bytes differ after encode and decode."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(self.sizes.values())


@torch.no_grad()
def export_web(
    model: ImageFlow,
    folder: Path,
    runtime: Runtime,
    *,
    name: str,
    directions: Directions | None = None,
    precision: Precision = "float32",
    temperature: float = 0.7,
) -> ExportedPage:
    """Write a folder of static files: index.html runs the model wherever the folder is served.

    Pixels are those of Python, ±1 of 255, for the same latents; the page compares them itself.
    Pictures that the page draws come from a generator of its own (`normals`), and not PyTorch's.

    Args:
        model: for bytes of grey, RGB or RGBA images.
        folder: where the files go.
        runtime: onnxruntime-web.
        name: of the model, the page's title.
        directions: attributes, each with a slider.
        precision: of the convolutions' weights and the directions in the files; `float16` halves
            them. The browser computes in float32.
        temperature: of the pictures that the page begins with.

    Raises:
        InputError: the model is for float data, or for other channels; as `export_onnx`; or the
            folder cannot be written.
    """
    require_pictures(model)
    needed("onnxruntime")
    made = export_onnx(model, folder, precision=precision)
    for other in made.graphs.keys() - PROGRAMS:
        made.graphs[other].unlink()
    tile = _draw_wall(folder / "wall.webp", model, temperature)
    codes, pictures = _check(model, temperature)
    with replacing(folder / "check.bin") as path:
        path.write_bytes(codes.tobytes() + pictures.tobytes())
    different, largest, not_returned = _compare(folder, model, codes, pictures)
    if directions is not None:
        _write_directions(folder / "directions.bin", directions, precision)
    _copy_runtime(folder / "runtime", runtime)
    meta: dict[str, Any] = {
        **_facts_of(model, name, precision, temperature),
        "runtime": runtime.version,
        "attributes": [] if directions is None else list(directions.latents),
        "directions": None if directions is None else {"dtype": precision},
        "wall": {"seed": 0, "count": WALL, "columns": COLUMNS, "tile": tile},
        "check": {"count": len(codes), "tolerance": max(1, largest)},
        "download": _size(folder, ("weights.bin", "decode.onnx", "runtime/ort.wasm.gz")),
    }
    _copy_page(folder, meta)
    meta["files"] = ["meta.json", *_files(folder)]
    write_text(folder / "meta.json", json.dumps(meta, indent=1) + "\n")
    sizes = {name: (folder / name).stat().st_size for name in _files(folder)}
    return ExportedPage(folder, sizes, pictures.size, different, largest, not_returned)


def normals(seed: int, count: int) -> Float[np.ndarray, " count"]:
    """Standard normal numbers, float32: the generator of the page, number by number.

    u_i = (h(h(φ·i + h(s)) ⊕ h(s ⊕ φ)) + ½)/2³² for seed s, with h MurmurHash3's 32-bit finaliser
    and φ = 0x9E3779B9; then √(−2 ln u_2i)·(cos, sin)(2π u_2i+1) (Box & Muller 1958).

    Args:
        seed: 0 to 2³² − 1.
        count: how many.
    """
    golden = np.uint32(0x9E3779B9)
    own = np.array([seed], dtype=np.uint32)
    index = np.arange(2 * math.ceil(count / 2), dtype=np.uint32)
    first = _mixed(index * golden + _mixed(own))
    uniform = (_mixed(first ^ _mixed(own ^ golden)) + 0.5) / 2.0**32
    radius, angle = np.sqrt(-2 * np.log(uniform[0::2])), 2 * np.pi * uniform[1::2]
    pairs = np.stack((radius * np.cos(angle), radius * np.sin(angle)), axis=1)
    return pairs.reshape(-1)[:count].astype(np.float32)


def _mixed(h: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """MurmurHash3's 32-bit finaliser."""
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return h ^ (h >> np.uint32(16))


def require_pictures(model: ImageFlow) -> None:
    """Refuse a model whose images a page cannot show.

    Raises:
        InputError: they are floats, or have other channels than grey, RGB or RGBA.
    """
    channels = model.config.image_shape[0]
    if model.config.bits is None:
        raise InputError(
            "This model is for float data, which a page cannot show: export it with --format onnx."
        )
    if channels not in (1, 3, 4):
        raise InputError(
            f"This model's images have {channels} channels, and a page shows grey, RGB or RGBA: "
            "export it with --format onnx."
        )


def _codes(
    model: ImageFlow, seeds: Sequence[int], temperature: float
) -> tuple[Float[np.ndarray, "count D"], Int[torch.Tensor, " count"] | None]:
    """The codes that the page draws from these seeds, and their classes."""
    size = math.prod(model.config.image_shape)
    codes = np.float32(temperature) * np.stack([normals(seed, size) for seed in seeds])
    classes = model.config.classes
    labels = torch.tensor([seed % classes for seed in seeds]) if classes else None
    return codes, labels


def _decoded(
    model: ImageFlow, codes: NDArray[np.float32], labels: torch.Tensor | None
) -> UInt8[np.ndarray, "count channels height width"]:
    rows = torch.from_numpy(codes).to(model.device, model.dtype)
    labels = None if labels is None else labels.to(model.device)
    return model.to_images(model.decode(unflatten(rows, model.latent_shapes), labels)).cpu().numpy()


def _draw_wall(path: Path, model: ImageFlow, temperature: float) -> tuple[int, int]:
    """The pictures of the first seeds on one sheet without gaps; height and width of each."""
    pictures = _decoded(model, *_codes(model, range(WALL), temperature))
    height, width = pictures.shape[2:]
    scale = min(1.0, LARGEST_TILE / max(height, width))
    tile = max(1, round(height * scale)), max(1, round(width * scale))
    sheet = Image.new("RGBA", (COLUMNS * tile[1], math.ceil(WALL / COLUMNS) * tile[0]))
    for number, picture in enumerate(pictures):
        one = to_pil(picture).convert("RGBA").resize(tile[::-1], Image.Resampling.BOX)
        sheet.paste(one, (number % COLUMNS * tile[1], number // COLUMNS * tile[0]))
    if pictures.shape[1] < 4:
        sheet = sheet.convert("RGB")
    with replacing(path) as temporary:
        sheet.save(temporary, format="WEBP", lossless=scale == 1 and max(tile) < PIXELATED)
    return tile


def _check(
    model: ImageFlow, temperature: float
) -> tuple[Float[np.ndarray, "count D"], UInt8[np.ndarray, "count channels height width"]]:
    """A few latents, and the pictures that this model makes of them; classes 0, 1, … in turn."""
    size = math.prod(model.config.image_shape)
    count = max(1, min(4, CHECK_VALUES // size))
    codes, _ = _codes(model, range(CHECK_SEED, CHECK_SEED + count), temperature)
    return codes, _decoded(model, codes, _in_turn(model, count))


def _in_turn(model: ImageFlow, count: int) -> torch.Tensor | None:
    classes = model.config.classes
    return torch.arange(count) % classes if classes else None


def _compare(
    folder: Path,
    model: ImageFlow,
    codes: NDArray[np.float32],
    pictures: NDArray[np.uint8],
) -> tuple[int, int, int]:
    """How many bytes the graphs give otherwise, by how much, and how many do not come back."""
    onnxruntime = needed("onnxruntime")
    encode, decode = (onnxruntime.InferenceSession(folder / f"{name}.onnx") for name in PROGRAMS)
    names = [given.name for given in decode.get_inputs()]
    labels = _in_turn(model, len(codes))
    of_classes = {} if labels is None else {"labels": labels.numpy()}

    def decoded(latents: Sequence[NDArray[np.float32]]) -> NDArray[np.uint8]:
        (x,) = decode.run(None, {**dict(zip(names, latents, strict=False)), **of_classes})
        return model.to_images(torch.from_numpy(x)).numpy()

    rows = unflatten(torch.from_numpy(codes), model.latent_shapes)
    far = np.abs(decoded([eps.numpy() for eps in rows]).astype(int) - pictures)
    x = model.to_float(torch.from_numpy(pictures), noise="center").float().numpy()
    back = decoded(encode.run(None, {"x": x, **of_classes}))
    return int((far > 0).sum()), int(far.max()), int((back != pictures).sum())


def _write_directions(path: Path, directions: Directions, precision: Precision) -> None:
    """Δε of each attribute after one another, all levels of each in a row."""
    rows = [flatten(tuple(eps[None] for eps in some)) for some in directions.latents.values()]
    values = torch.cat(rows).float().cpu().numpy()
    with replacing(path) as temporary:
        temporary.write_bytes(values.astype(np.dtype(precision)).tobytes())


def _copy_runtime(folder: Path, runtime: Runtime) -> None:
    """The script as it is; the program packed, so that hosts need not do that."""
    with replacing(folder / runtime.script.name) as path:
        path.write_bytes(runtime.script.read_bytes())
    with replacing(folder / "ort.wasm.gz") as path:
        path.write_bytes(gzip.compress(runtime.program.read_bytes(), mtime=0))
    write_text(folder / "LICENSE.txt", LICENSE)


def _copy_page(folder: Path, meta: Mapping[str, Any]) -> None:
    words = {
        "title": meta["name"],
        "description": meta["description"],
        "count": WALL,
        "look": "" if max(meta["shape"][1:]) < PIXELATED else "smooth",
    }
    for path in sorted(PAGE.iterdir()):
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".html":
            text = Template(text).substitute({k: escape(str(v)) for k, v in words.items()})
        write_text(folder / path.name, text)


def _facts_of(
    model: ImageFlow, name: str, precision: Precision, temperature: float
) -> dict[str, Any]:
    channels, height, width = model.config.image_shape
    parameters = sum(weights.numel() for weights in model.parameters())
    known = () if model.trained_on is None else model.trained_on.class_names
    classes = model.config.classes
    kind = {1: "grey", 3: "colour", 4: "RGBA"}[channels]
    family = {"glow": "Glow", "realnvp": "RealNVP"}[model.model_type]
    return {
        "name": name,
        "description": f"A {family} of {parameters:,} parameters for {kind} pictures of "
        f"{width}×{height} pixels. It draws, mixes and changes them in your browser.",
        "family": family,
        "parameters": parameters,
        "shape": [channels, height, width],
        "bits": model.config.bits,
        "latents": [list(shape) for shape in model.latent_shapes],
        "classes": classes,
        "class_names": list(known) if len(known) == classes else list(map(str, range(classes))),
        "precision": precision,
        "temperature": temperature,
    }


def _files(folder: Path) -> list[str]:
    """What the page consists of; hidden files are others'."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in paths if not path.name.startswith("."))


def _size(folder: Path, names: Sequence[str]) -> int:
    return sum((folder / name).stat().st_size for name in names)
