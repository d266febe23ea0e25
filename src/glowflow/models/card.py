"""The model card: what a page of the hub says of a model, written from what its run left."""

import json
import keyword
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ..errors import InputError
from .companions import CALIBRATION_FILE, DIRECTIONS_FILE
from .config import sides
from .likelihood import name_of_data, unit_of
from .training_data import TrainingData

CARD_FILE = "README.md"
EVALUATION_FILE = "evaluation.json"
RECIPE_FILE = "train.yaml"
SAMPLES_FILE = "samples.png"
EDITS_FILE = "edits.png"
TASK = "unconditional-image-generation"
LIMITS = """\
- A likelihood is not an anomaly score by itself: a flow can give images of another kind a higher
  one than its own (Nalisnick et al. 2019). `glow score` compares with held-out images.
- Samples, edits and likelihoods have whatever bias the training images have; nothing was done
  against it. Samples at temperatures below 1 are less varied than the data.
- Bits/dim are compared only where data, release, size and bits are the same."""
WHAT = {
    "config.json": "the architecture, and what was done to the training images",
    "model.safetensors": "the weights",
    DIRECTIONS_FILE: "attribute directions: `glow edit --attribute`",
    CALIBRATION_FILE: "scores of images that are not strange: `glow score`",
    RECIPE_FILE: "every setting of the training run",
    EVALUATION_FILE: "the figures above, beside baselines",
    SAMPLES_FILE: "samples",
    EDITS_FILE: "edits of samples",
}


@dataclass(frozen=True)
class Figures:
    """Bits per dimension as an evaluation file has them."""

    mean: float
    standard_error: float | None
    images: int
    draws: int
    dataset: str
    what: str


def read_figures(path: Path) -> Figures | None:
    """Of the evaluation.json of a run or of `glow evaluate`; None where there is none.

    Raises:
        InputError: it is not such a file.
    """
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        found = found.get("evaluation", found)
        figures = Figures(
            float(found["mean"]),
            None if found["standard_error"] is None else float(found["standard_error"]),
            int(found["images"]),
            int(found["draws"]),
            str(found.get("dataset", "")),
            str(found.get("what", "held-out images")),
        )
        if not math.isfinite(figures.mean) or min(figures.images, figures.draws) < 0:
            raise ValueError("a figure is out of range")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path} has no figures of glow evaluate ({type(error).__name__}): make it again, or "
            "remove it."
        ) from error
    return figures


def model_card(
    model: Any,
    known: TrainingData | None,
    folder: Path,
    repo: str,
    *,
    license: str | None = None,
    data_license: str | None = None,
) -> str:
    """The card of a model whose files lie in a folder.

    Args:
        model: an `ImageFlow`.
        known: of its training images.
        folder: what is sent; its evaluation, recipe and pictures are shown if they are there.
        repo: organisation/name.
        license: of the model, by the hub's name for it; absent if it is not said.
        data_license: of the training images, in words.

    Raises:
        InputError: the evaluation is damaged.
    """
    figures, name = read_figures(folder / EVALUATION_FILE), name_of_data(model.config.bits)
    sections = [
        f"# {repo.partition('/')[2]}\n\n{_summary(model)}",
        _picture(folder, SAMPLES_FILE, "samples at temperature 0.7"),
        _use(model, repo, folder),
        f"## Likelihood\n\n{_likelihood(model, figures)}",
        f"## Training {name}\n\n{_data(known, data_license, name)}",
        _edits(folder),
        _recipe(folder),
        f"## Limits\n\n{LIMITS}",
        _files(folder),
    ]
    head = _metadata(model, repo, known, figures, license)
    return f"---\n{head}\n---\n\n" + "\n\n".join(filter(None, sections)) + "\n"


def _metadata(
    model: Any, repo: str, known: TrainingData | None, figures: Figures | None, license: str | None
) -> str:
    results = []
    if figures is not None:
        results = [
            EvalResult(
                task_type=TASK,
                task_name="Unconditional Image Generation",
                dataset_type=_hub_data(known) or "other",
                dataset_name=figures.dataset or _of(known),
                metric_type="bits_per_dimension",
                metric_name=f"bits/dim ({figures.images} {figures.what}, {figures.draws} draws)",
                metric_value=round(figures.mean, 4),
            )
        ]
    data = ModelCardData(
        library_name="glowflow",
        pipeline_tag=TASK,
        license=license,
        datasets=[name] if (name := _hub_data(known)) else None,
        tags=["glowflow", model.model_type, "normalizing-flow", "density-estimation"],
        model_name=repo.partition("/")[2] if results else None,
        eval_results=results or None,
    )
    return str(data.to_yaml())


def _summary(model: Any) -> str:
    config = model.config
    channels, *grid = config.image_shape
    name, one = type(model).__name__, name_of_data(config.bits).removesuffix("s")
    colours = {1: "grey", 3: "RGB", 4: "RGBA"} if config.bits is not None else {}
    kind = colours.get(channels, f"{channels}-channel")
    of = "images of" if config.bits is not None else "data on a grid of"
    depth = "floats" if config.bits is None else f"{config.bits} bits"
    size = f"{sum(p.numel() for p in model.parameters()):,} parameters"
    shape = (
        f"{config.levels} levels of {config.steps} steps, {config.coupling} couplings"
        if config.family == "glow"
        else f"{config.scales} scales, {config.residual_blocks} residual blocks a network"
    )
    classes = f", {config.classes} classes" if config.classes else ""
    if conditions := getattr(config, "conditions", ()):
        classes = ", given " + ", ".join(f"{c.name} ({c.kind}, {c.shape})" for c in conditions)
    return (
        f"A {name} (a normalizing flow) of {kind} {of} {sides(grid)}, {depth}{classes}: "
        f"{shape}, {config.hidden_channels} hidden channels, {size}. It gives an exact "
        f"log-likelihood, an exact latent code for every {one}, and samples in one pass."
    )


def _use(model: Any, repo: str, folder: Path) -> str:
    edit = (
        f"\nglow edit me.png --model {repo} --all" if (folder / DIRECTIONS_FILE).is_file() else ""
    )
    images = "images" if model.config.bits is not None else "x"
    given, draw = "", "model.sample(16, temperature=0.7, seed=0)"
    if conditions := getattr(model.config, "conditions", ()):
        given = " --given observed.npz"
        values = ", ".join(f'"{c.name}": {_variable(c.name)}' for c in conditions)
        draw = f"model.given({{{values}}}).sample(16)"
    return f"""## Use

```sh
pip install glowflow
glow sample --model {repo}{given}{edit}
```

```python
from glowflow import load_model

model = load_model("{repo}")
{images} = {draw}
```"""


def _variable(name: str) -> str:
    """A name for it in Python."""
    found = re.sub(r"\W", "_", name)
    return found if found.isidentifier() and not keyword.iskeyword(found) else f"_{found}"


def _likelihood(model: Any, figures: Figures | None) -> str:
    shape = model.config.image_shape
    dims = f"{' x '.join(map(str, shape))} = {math.prod(shape):,}"
    unit = (
        f"A dimension is one value of one channel of one pixel ({dims} an image), of "
        f"{model.config.bits} bits."
        if model.config.bits is not None
        else f"A dimension is one value of one channel of one place ({dims} a sample), a float."
    )
    if figures is None:
        return f"Bits per dimension: not measured. {unit}"
    measure, scale = unit_of(model.config.bits)
    known = figures.standard_error
    error = "" if known is None else f" ± {scale * known:.3f}"
    draws = f"{figures.draws} draw{'' if figures.draws == 1 else 's'} of dequantisation noise"
    noise = (
        "a differential figure, which depends on the unit"
        if model.config.bits is None
        else f"{draws} an image, an upper bound"
    )
    in_patches = model.trained_on is not None and model.trained_on.fit == "patches"
    over = "photographs" if in_patches else name_of_data(model.config.bits)
    return (
        f"**{scale * figures.mean:.3f}{error} {measure}** on {figures.images:,} "
        f"{_plain(figures.what)} ({noise}; ± is the standard error over the "
        f"{over}). {unit}"
    )


def _data(known: TrainingData | None, data_license: str | None, name: str) -> str:
    rows = {"source": "not recorded"}
    if known is not None:
        rows = {
            "source": _of(known),
            "release": known.dataset or "no published one that was recognised",
            "layout": known.layout,
            "made to fit by": known.fit if name == "images" else "",
            "split": known.split,
            "SHA-256 of the array": known.checksum,
        }
        if known.images is not None:
            rows[name] = "{:,} to train on, {:,} to validate, {:,} to test".format(*known.images)
        if known.class_names:
            rows["classes"] = ", ".join(known.class_names[:20])
    rows[f"licence of the {name}"] = data_license or "not stated: find out before you use the model"
    lines = [f"| {name} | {_plain(value)} |" for name, value in rows.items() if value]
    return "\n".join(["| | |", "|---|---|", *lines])


def _edits(folder: Path) -> str:
    if not (folder / EDITS_FILE).is_file():
        return ""
    shown = _picture(folder, EDITS_FILE, "samples moved along attributes")
    return f"## Edits\n\nA sample moved along each attribute, from -1 to 1.\n\n{shown}"


def _recipe(folder: Path) -> str:
    path = folder / RECIPE_FILE
    if not path.is_file():
        return "## Recipe\n\nNot recorded."
    text = path.read_text(encoding="utf-8", errors="replace").strip().replace("```", "'''")
    summary = f"<details><summary>{RECIPE_FILE}</summary>"
    return f"## Recipe\n\n{summary}\n\n```yaml\n{text}\n```\n\n</details>"


def _files(folder: Path) -> str:
    names = [name for name in WHAT if (folder / name).is_file()]
    rows = "\n".join(f"| `{name}` | {WHAT[name]} |" for name in names)
    return f"## Files\n\n| file | what |\n|---|---|\n{rows}"


def _picture(folder: Path, name: str, what: str) -> str:
    return f"![{what}]({name})" if (folder / name).is_file() else ""


def _of(known: TrainingData | None) -> str:
    return (known.source if known is not None else "") or "not recorded"


def _hub_data(known: TrainingData | None) -> str | None:
    """organisation/name of a data set of the hub."""
    source = "" if known is None else known.source
    if not source.startswith("hub:"):
        return None
    name = source.removeprefix("hub:").partition("@")[0].partition(":")[0]
    return name if name.count("/") == 1 and not name.startswith(("/", ".", "~")) else None


def _plain(text: str) -> str:
    """Text that a table of Markdown shows as it is, in one line."""
    line = " ".join(text.split())[:300]
    return "".join(f"\\{c}" if c in r"\`*_[]<>|#" else c for c in line)
