"""`glow push`: a run's model to the Hugging Face hub, with a model card."""

import tempfile
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import tyro

from ..errors import InputError
from ..files import MARK
from .options import CommonOptions, Outcome, check_device
from .results import new_folder

if TYPE_CHECKING:
    from ..models.flow import ImageFlow

AMOUNTS = (-1.0, -0.5, 0.0, 0.5, 1.0)
ROWS = 8
"""Attributes that the card shows, at most."""


@dataclass(frozen=True, kw_only=True)
class Options(CommonOptions):
    run: Annotated[str, tyro.conf.Positional]
    """Folder of a run or of a saved model."""
    repo: Annotated[str, tyro.conf.Positional]
    """organisation/name on the hub; made if there is none."""
    private: bool = False
    """Make the repository private, if it is a new one."""
    revision: str | None = None
    """Branch to commit to, made if there is none; by default main."""
    create_pr: bool = False
    """Open a pull request instead of committing."""
    license: str | None = None
    """Of the model, by the hub's name for it: mit, cc-by-4.0, …; by default none is said."""
    data_license: str | None = None
    """Of the training images, in words, for the card."""
    evaluation: Path | None = None
    """evaluation.json of glow evaluate, for the card; by default that of the run."""
    message: str = "Model of glowflow"
    """Of the commit."""
    dry_run: bool = False
    """Send nothing, and write the folder that would be sent."""
    seed: int = 0
    """Of the samples that the card shows."""


def run(options: Options) -> Outcome:
    """Lay out what is sent, write the card, and send it."""
    from ..models.hub import is_hub_id
    from ..models.hub_upload import check_upload
    from ..models.sending import lay_out, send, write_card
    from .model_data import load_model_for

    if not is_hub_id(options.repo):
        raise InputError(f"{options.repo} is no name on the hub: give organisation/name.")
    check_upload(
        options.repo,
        branch=options.revision,
        commit_message=options.message,
        create_pr=options.create_pr,
    )
    source = Path(options.run).expanduser()
    if not source.is_dir():
        raise InputError(f"There is no folder {options.run}: give that of a run.")
    if options.out is not None and not options.dry_run:
        raise InputError("--out is for --dry-run: nothing else is written here.")
    if options.evaluation is not None and not options.evaluation.is_file():
        raise InputError(f"There is no file {options.evaluation}: give an evaluation.json.")
    model = load_model_for(options.run, check_device(options.device), any_kind=True)
    place = (
        nullcontext(new_folder(options.out, "push"))
        if options.dry_run
        else tempfile.TemporaryDirectory()
    )
    with place as name:
        folder = Path(name)
        left_out = lay_out(model, folder, source, options.evaluation, options.seed)
        _show_edits(model, folder, options.seed)
        licences = {"license": options.license, "data_license": options.data_license}
        write_card(model, folder, options.repo, **licences)
        sent = [path for path in sorted(folder.iterdir()) if path.name != MARK]
        sizes = {path.name: path.stat().st_size for path in sent}
        url = None
        if not options.dry_run:
            url = send(
                folder,
                options.repo,
                private=options.private or None,
                branch=options.revision,
                create_pr=options.create_pr,
                commit_message=options.message,
            )
    total = f"{len(sizes)} files, {sum(sizes.values()) / 2**20:.1f} MiB"
    without = f"; left out: {', '.join(left_out)}" if left_out else ""
    facts = {
        "repo": options.repo,
        "url": url,
        "out": str(folder) if options.dry_run else None,
        "files": sizes,
        "left_out": left_out,
    }
    if options.dry_run:
        return Outcome(f"{total} would go to {options.repo}: {folder}{without}.", facts)
    return Outcome(f"{total} went to {url}{without}.", facts)


def _show_edits(model: "ImageFlow", folder: Path, seed: int) -> None:
    """A sample moved along the attributes, if there are directions and a sample is a picture."""
    from ..latents.directions import load_directions
    from ..latents.edits import edit
    from ..models.card import EDITS_FILE
    from ..models.companions import DIRECTIONS_FILE
    from ..reports.pictures import rows, save_png

    path = folder / DIRECTIONS_FILE
    if not path.is_file() or model.config.bits is None or model.is_conditional:
        return
    directions = load_directions(path, model).latents
    drawn = model.draw(8, temperature=0.7, seed=seed)
    if not drawn.usable.any() or not directions:
        return
    sample = drawn.images[drawn.usable][:1].to(model.device)
    latents = model.encode(model.to_float(sample, noise="center"))
    strips = []
    for name, direction in list(directions.items())[:ROWS]:
        moved = [model.decode(edit(latents, [direction], [amount])) for amount in AMOUNTS]
        images = [model.to_images(x).cpu().numpy()[0] for x in moved]
        strips.append((name, images))
    headings = [f"{amount:+g}" if amount else "sample" for amount in AMOUNTS]
    shown = [(name, np.stack(images)) for name, images in strips]
    save_png(folder / EDITS_FILE, rows(shown, headings))
