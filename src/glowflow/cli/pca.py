"""`glow pca`: the principal axes of the latents by level, as a page."""

from dataclasses import dataclass

import torch
from rich.console import Console
from rich.progress import track

from ..checks import require_at_least
from ..data.open import open_splits
from ..errors import InputError
from ..latents.levels import along_axis, latent_pca
from ..models.registry import load_model
from ..reports.levels import write_pca_report
from ..studies.measured import components
from .options import CommonOptions, Outcome, check_device
from .photos import data_for
from .results import new_folder, write_json

DATA_FIRST = True
STEPS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
"""Where the pictures along an axis are, in standard deviations."""


@dataclass(frozen=True, kw_only=True)
class Options(CommonOptions):
    model: str
    """Folder of a run or of a saved model, a Hugging Face hub id, or demo-faces, which is
    shipped."""
    data: str | None = None
    """Images, with attributes or classes where they have some; by default the data of the run."""
    components: int = 16
    """Principal axes of each level."""
    shown: int = 6
    """Axes of each level that get pictures."""
    images: int | None = 5000
    """Use so many images of each part at most; None for all."""
    points: int = 500
    """Held-out images in the plot, at most."""
    minimum: int = 10
    """Training images that are needed with an attribute, and without it."""
    batch_size: int = 50
    """Images at once."""
    seed: int = 0
    """Nothing here is random; taken for the sake of scripts."""
    upscale: bool = False
    """Accept images smaller than the model's and enlarge them."""


def run(options: Options) -> Outcome:
    """Fit the axes, read the attributes off them, and write pca.html and pca.json."""
    device = check_device(options.device)
    require_at_least(options, 1, "components", "batch_size", "minimum", "points")
    model = load_model(options.model, device=device)
    if model.config.bits is None:
        raise InputError("This model is for float data: there are no pictures to show of it.")
    config = data_for(model, options.model, options.data, options.upscale)
    splits = open_splits(config, progress=not options.json)
    found = latent_pca(
        model,
        splits,
        components=options.components,
        limit=options.images,
        minimum=options.minimum,
        batch_size=options.batch_size,
        progress=not options.json,
    )
    label = torch.zeros(1, dtype=torch.int64, device=device) if model.config.classes else None
    along = [
        [
            along_axis(model, found, i, axis, STEPS, label)
            for axis in range(min(options.shown, len(level.axes)))
        ]
        for i, level in enumerate(
            track(
                found.levels,
                "pictures",
                disable=options.json,
                console=Console(stderr=True),
            )
        )
    ]
    folder = new_folder(options.out, "pca")
    page = folder / "pca.html"
    write_pca_report(
        page,
        found,
        along,
        STEPS,
        title=f"Latent space of {options.model}",
        source=splits.source,
        points=options.points,
    )
    facts = {"out": str(folder), "report": str(page), **components.facts(found)}
    write_json(folder / "pca.json", facts)
    shares = ", ".join(f"{level.shares.sum():.1%}" for level in found.levels)
    return Outcome(
        f"{options.components} axes a level explain {shares} of the variance, first level first; "
        f"{page}.",
        facts,
    )
