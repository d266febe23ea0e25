"""`glow pca`: the principal axes of the latents by level, as a page."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..checks import require_at_least
from ..errors import InputError
from .options import DataOptions, Outcome, check_device
from .results import new_folder, write_json

if TYPE_CHECKING:
    from ..latents.levels import LatentPCA
    from ..models.flow import ImageFlow

DATA_FIRST = True
STEPS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
"""Where the pictures along an axis are, in standard deviations."""


@dataclass(frozen=True, kw_only=True)
class Options(DataOptions):
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


def run(options: Options) -> Outcome:
    """Fit the axes, read the attributes off them, and write pca.html and pca.json."""
    from ..latents.levels import latent_pca
    from ..reports.levels import write_pca_report
    from ..studies.measured.components import facts as facts_of
    from .model_data import load_model_for, splits_for

    device = check_device(options.device)
    require_at_least(options, 1, "components", "batch_size", "minimum", "points")
    model = load_model_for(options.model, device)
    if model.config.bits is None:
        raise InputError("This model is for float data: there are no pictures to show of it.")
    splits = splits_for(model, options)
    pca = latent_pca(
        model,
        splits,
        components=options.components,
        limit=options.images,
        minimum=options.minimum,
        batch_size=options.batch_size,
        progress=not options.json,
    )
    along = _along_axes(options, model, pca)
    folder = new_folder(options.out, "pca")
    page = folder / "pca.html"
    write_pca_report(
        page,
        pca,
        along,
        STEPS,
        title=f"Latent space of {options.model}",
        source=splits.source,
        points=options.points,
    )
    facts = {"out": str(folder), "report": str(page), **facts_of(pca)}
    write_json(folder / "pca.json", facts)
    shares = ", ".join(f"{level.shares.sum():.1%}" for level in pca.levels)
    axes = max(len(level.axes) for level in pca.levels)
    return Outcome(
        f"{axes} axes a level explain {shares} of the variance, first level first; {page}.",
        facts,
    )


def _along_axes(
    options: Options, model: "ImageFlow", pca: "LatentPCA"
) -> list[list[NDArray[np.uint8]]]:
    """Images at `STEPS` along the first axes of each level."""
    import torch

    from ..latents.levels import along_axis
    from ..progress import with_bar

    label = torch.zeros(1, dtype=torch.int64, device=model.device) if model.config.classes else None
    with model.frozen():
        return [
            [
                along_axis(model, pca, number, axis, STEPS, label)
                for axis in range(min(options.shown, len(level.axes)))
            ]
            for number, level in enumerate(
                with_bar(pca.levels, "pictures", visible=not options.json)
            )
        ]
