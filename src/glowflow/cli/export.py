"""`glow export`: a model as programs that run where this package, or Python, is not."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ..errors import CheckpointError, InputError
from ..files import require_new
from .options import ModelOptions, Outcome
from .results import new_folder

if TYPE_CHECKING:
    from ..interop.comparison import Comparison
    from ..interop.export import Exported
    from ..latents.directions import Directions
    from ..models.flow import ImageFlow


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions):
    model: Annotated[str, tyro.conf.Positional]
    """Folder of a run or of a saved model, a Hugging Face hub id, or demo-faces, which is
    shipped."""
    format: Literal["torch", "onnx", "web"]
    """`torch`: torch.export programs; `onnx`: ONNX graphs; `web`: a page that runs the model in the
    visitor's browser. The last two need glowflow[export]."""
    device: str | None = None
    """cpu, on which programs are made and compared."""
    precision: Literal["float32", "float16"] = "float32"
    """Of the networks' weights in the files; float16 halves them, and all is computed in
    float32."""
    directions: Path | None = None
    """File of glow directions; by default directions.safetensors beside the model, if it is
    there."""
    runtime: Path | None = None
    """Folder of the npm package onnxruntime-web, for web; by default it is looked for in
    node_modules, and else fetched by npm, once."""


def run(options: Options) -> Outcome:
    """Write programs or a page, and compare them with the model."""
    if options.device not in (None, "cpu"):
        raise InputError("Programs are compared on the processor: leave --device out.")
    if options.runtime is not None and options.format != "web":
        raise InputError(f"--runtime is for --format web and not {options.format}: leave it out.")
    if options.out is not None:
        require_new(options.out)

    from ..interop.export import export_model
    from .model_data import load_model_for

    model = load_model_for(options.model, "cpu")
    directions = _directions(options, model)
    if options.format == "web":
        return _page(options, model, directions)
    folder = new_folder(options.out, "export")
    exported = export_model(
        model,
        folder,
        format=options.format,
        precision=options.precision,
        directions=directions,
    )
    if not options.json:
        print("\n".join(_table(exported)))
    comparison = exported.comparison
    facts = {
        "out": str(folder),
        "format": options.format,
        "precision": options.precision,
        "close": comparison.is_close,
        "bytes_of_files": dict(exported.sizes),
        **asdict(comparison),
    }
    return Outcome(_sentence(exported), facts, code=0 if comparison.is_close else 1)


def _page(options: Options, model: "ImageFlow", directions: "Directions | None") -> Outcome:
    """Write the page of a model."""
    from ..interop.web import export_web, require_pictures
    from ..interop.web_runtime import runtime

    require_pictures(model)
    own = runtime(options.runtime)
    folder = new_folder(options.out, "site")
    page = export_web(
        model,
        folder,
        own,
        name=Path(options.model).resolve().name,
        directions=directions,
        precision=options.precision,
    )
    close = page.largest_difference <= 1 or options.precision == "float16"
    said = (
        f"Wrote the page {folder / 'index.html'}, {page.size / 1e6:.1f} MB; of {page.compared:,} "
        f"bytes that it draws {page.different:,} differ from the model's, by "
        f"{page.largest_difference} at most, and after encode and decode {page.not_returned:,} of "
        f"as many; to see it: python -m http.server --directory {folder}"
    )
    facts = {
        "out": str(folder),
        "format": options.format,
        "precision": options.precision,
        "close": close,
        "runtime": own.version,
        "bytes_of_files": dict(page.sizes),
        "bytes_compared": page.compared,
        "bytes_that_differ": page.different,
        "largest_difference": page.largest_difference,
        "bytes_not_returned": page.not_returned,
    }
    return Outcome(f"{said}.", facts, code=0 if close else 1)


def _directions(options: Options, model: "ImageFlow") -> "Directions | None":
    from ..latents.directions import load_directions
    from ..models.companions import DIRECTIONS_FILE
    from ..models.pretrained import locate

    path = options.directions
    if path is None:
        try:
            path = locate(options.model, DIRECTIONS_FILE)
        except CheckpointError:
            return None
    return load_directions(path, model)


def _table(exported: "Exported") -> list[str]:
    """Sizes, errors and times, a line each."""
    comparison = exported.comparison
    lines = [f"{name:<20} {size / 1e6:10.3f} MB" for name, size in exported.sizes.items()]
    lines += [
        f"{e.program:<8} batch {e.batch:<3} error {e.error:.1e} (PyTorch's {e.pytorch:.1e})"
        for e in comparison.errors
    ]
    lines += [
        f"{t.program:<8} batch {t.batch:<3} {t.milliseconds:9.2f} ms (PyTorch {t.pytorch:.2f} ms)"
        for t in comparison.times
    ]
    return lines


def _sentence(exported: "Exported") -> str:
    comparison = exported.comparison
    total = sum(exported.sizes.values()) / 1e6
    said = f"Wrote {exported.folder}, {total:.1f} MB{_rounding(comparison)}"
    if comparison.is_close:
        return f"{said}; {_agreement(comparison)}."
    off = max(comparison.errors, key=lambda error: (not error.is_close, error.error))
    return (
        f"{said}; it is not the model: {off.program} is off by {off.error:.1e}, and "
        f"{comparison.bytes_that_differ:,} of {comparison.bytes_compared:,} bytes differ after "
        "encode and decode."
    )


def _agreement(comparison: "Comparison") -> str:
    largest = max(error.error for error in comparison.errors)
    own = max(error.pytorch for error in comparison.errors)
    counted = comparison.bytes_compared
    back = f", and all {counted:,} bytes come back" if counted else ""
    return (
        f"its numbers are the model's to {largest:.1e}, where PyTorch's own in float32 are to "
        f"{own:.1e}{back}"
    )


def _rounding(comparison: "Comparison") -> str:
    rounded: Any = comparison.rounded
    if rounded is None:
        return ""
    return (
        f" with weights in float16, which changes bits/dim by {rounded.bits_per_dim:.1e}, latents "
        f"by {rounded.latents:.1e} and decoded x by {rounded.x:.1e} at most"
    )
