"""The 1x1 convolution in LU form beside the plain one: one function, two costs (paper, 3.2)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure as Plot
from torch import Tensor

from ...bijections import ChannelMixing, Invertible1x1Conv
from ...data.types import Splits
from ...models.config import Architecture, Coupling, GlowConfig
from ...models.glow import Glow
from ...reports.plots import plot_png
from ...training.batches import noise_for
from ...training.initialisation import initial_batch_size, model_config_for
from .. import Findings
from .lu_costs import COSTS, KINDS, Costs, CostSettings, Crossover, check_costs, crossover, timings
from .trials import (
    FOLDER,
    GlowSettings,
    Trial,
    TrialResult,
    check_trials,
    of,
    over_seeds,
    run_trials,
    train_config,
)
from .trials_report import (
    TABLE_WORDS,
    Section,
    Table,
    about,
    compared,
    draw_curves,
    facts,
    files,
    recipe,
    results_table,
    stopped_section,
)

NAMES = {"lu": "LU", "plain": "plain"}
REFERENCES = dict.fromkeys(NAMES, "plain")
COLOURS = {"lu": "#c2410c", "plain": "#2563a8"}
COMPARED = 64
"""Images on which two models are compared, at most."""


@dataclass(frozen=True, kw_only=True)
class LUSettings(CostSettings, GlowSettings):
    """LU against plain: the same start, the same training, and the cost of each."""

    coupling: Coupling = "affine"
    """Of the models that are trained."""


@dataclass(frozen=True)
class Agreement:
    """How far two models are from being one function."""

    when: str
    dtype: str
    latents: float
    """Largest |difference| of a latent."""
    log_det: float
    """Largest |difference| of log|det dε/dx|, in nats an image."""


def trials(settings: LUSettings) -> list[Trial]:
    """Two a seed. Both draw the same rotations and weights from it: they start as one function."""
    return [
        Trial(
            kind,
            train_config(
                settings,
                seed,
                Architecture(
                    levels=settings.levels,
                    steps=settings.steps,
                    hidden_channels=settings.hidden_channels,
                    coupling=settings.coupling,
                    coupling_scale=settings.coupling_scale,
                    permutation=kind,
                ),
            ),
        )
        for seed in settings.all_seeds
        for kind in KINDS
    ]


def check(splits: Splits, settings: LUSettings) -> None:
    """Refuse what cannot work before anything is computed.

    Raises:
        InputError: a number is too small, or the images do not fit.
    """
    check_costs(settings)
    check_trials(trials(settings), splits, settings)


def report(
    splits: Splits,
    settings: LUSettings,
    folder: Path,
    *,
    device: str,
    progress: bool = True,
) -> Findings:
    """Train both kinds for every seed below `folder`, compare, time, and report.

    Args:
        splits: the data.
        settings: how much of it.
        folder: the study's; results that are there are taken.
        device: `cpu`, `cuda`, …
        progress: show bars.

    Raises:
        InputError: as `check`, or the folder cannot be written.
        KeyboardInterrupt: Ctrl-C; the same call goes on.
    """
    wanted = trials(settings)
    results = run_trials(wanted, splits, folder, settings, device=device, progress=progress)
    agreements = agree(wanted, splits, folder, results)
    timed = timings(settings, folder, device=device, seed=settings.seed, progress=progress)
    costs = timed.seconds
    widths = sorted(settings.widths)
    crossings = {
        name: crossover(widths, seconds["lu"], seconds["plain"]) for name, seconds in costs.items()
    }
    said = sentence(results, agreements, crossings)
    sections = [
        Section(
            "One function",
            "The same images through both. W decomposed: the LU model is made from the plain one. "
            "Log-determinants are of whole images.",
            _agreement_table(agreements),
        ),
        Section(
            "Training curves",
            f"Glow with {settings.levels} levels of {settings.steps} steps, "
            f"{settings.hidden_channels} hidden channels, {settings.coupling} coupling; "
            f"{recipe(wanted[0].config)}. Both kinds start as one function, that of their seed.",
            plot=("lu-training.png", _plot_training(results)),
        ),
        Section(
            "Results",
            f"The reference is the plain form. {TABLE_WORDS}",
            results_table(results, list(NAMES), REFERENCES),
        ),
        Section(
            "Cost",
            f"Milliseconds of one convolution of {settings.timed_images} images of "
            f"{settings.timed_size}x{settings.timed_size} pixels, LU / plain: median of "
            f"{settings.rounds} turns, taken one after the other, float32 on {timed.hardware}. "
            f"{'; '.join(f'{name}: {what}' for name, what in COSTS.items())}.",
            _cost_table(widths, costs),
            ("lu-cost.png", _plot_costs(widths, costs, crossings)),
        ),
        Section(
            "Crossover",
            "Where the two curves meet for the last time, between the two widths on either side. "
            "Where they run within a few percent of each other, noise says where they meet.",
            (["", "result"], [[name, _say(found)] for name, found in crossings.items()]),
        ),
        *stopped_section(results),
    ]
    return Findings(
        sentence=said,
        facts={
            **facts(splits, wanted[: len(KINDS)], results, REFERENCES),
            "agreement": [asdict(agreement) for agreement in agreements],
            "widths": widths,
            "timed_on": timed.hardware,
            "seconds": costs,
            "crossover": {name: asdict(found) for name, found in crossings.items()},
        },
        files=files(
            "lu",
            "The 1x1 convolution as LU and plain",
            said,
            about(splits, settings, results),
            sections,
        ),
    )


def agree(
    wanted: Sequence[Trial], splits: Splits, folder: Path, results: Sequence[TrialResult]
) -> list[Agreement]:
    """Both kinds at the start of the first seed's trials, and after its training."""
    config = model_config_for(wanted[0].config, splits)
    assert isinstance(config, GlowConfig)
    seed = wanted[0].config.seed
    images = torch.from_numpy(splits.train.images[: initial_batch_size(config)].copy())
    lu, plain = (_start(replace(config, permutation=kind), images, seed) for kind in KINDS)
    some = images[:COMPARED]
    found = [
        _agreement("at the start of a trial", plain, lu, some),
        _agreement("at the start, W decomposed", plain.double(), decomposed(plain), some),
    ]
    ended = [r for r in of(results, "plain") if not r.stopped]
    if ended:
        run = folder / FOLDER / f"plain-s{ended[0].seed}"
        trained = Glow.from_pretrained(run)
        for model in (trained, Glow.from_pretrained(run).double()):
            found.append(_agreement("after training, W decomposed", model, decomposed(model), some))
    return found


def _start(config: GlowConfig, images: Tensor, seed: int) -> Glow:
    torch.manual_seed(seed)
    model = Glow(config)
    model.initialize(images, noise_for(seed, -1, images.device))
    return model.eval()


@torch.no_grad()
def decomposed(plain: Glow) -> Glow:
    """The same function with each W as P L (U + diag(s))."""
    model = Glow(replace(plain.config, permutation="lu")).to(plain.device, plain.dtype)
    model.load_state_dict(plain.state_dict(), strict=False)
    theirs = {name: m for name, m in plain.named_modules() if isinstance(m, ChannelMixing)}
    for name, mixing in model.named_modules():
        if isinstance(mixing, Invertible1x1Conv):
            mixing.set_matrix(theirs[name].matrix())
    return model.eval()


@torch.no_grad()
def _agreement(when: str, one: Glow, other: Glow, images: Tensor) -> Agreement:
    x = one.to_float(images, noise="center")
    (latents, log_det), (others, other_log_det) = one(x), other(x)
    by_level = [float((a - b).abs().max()) for a, b in zip(latents, others, strict=True)]
    by_image = float((log_det - other_log_det).abs().max())
    return Agreement(when, str(one.dtype).removeprefix("torch."), max(by_level), by_image)


def _say(found: Crossover) -> str:
    where = "at every width" if found.channels is None else f"from {found.channels:.0f} channels on"
    return f"{found.faster} is faster {where}"


def sentence(
    results: Sequence[TrialResult],
    agreements: Sequence[Agreement],
    crossings: Mapping[str, Crossover],
) -> str:
    """How far they agree, bits/dim of both, and where the costs cross."""
    own = over_seeds(of(results, "plain"), "test_bits_per_dim")
    start, exact = agreements[:2]
    costs = ", ".join(f"{name}: {_say(crossings[name])}" for name in ("log-det", "training"))
    return (
        f"At the start latents differ by {start.latents:.1g} in float32 and {exact.latents:.1g} in "
        f"float64; test bits/dim: plain {own or 'stopped'}, "
        f"{compared(results, 'lu', 'plain', 'LU')}; {costs}."
    )


def _agreement_table(agreements: Sequence[Agreement]) -> Table:
    lines = [[a.when, a.dtype, f"{a.latents:.1e}", f"{a.log_det:.1e}"] for a in agreements]
    return ["", "dtype", "latents, largest difference", "log-det, nats an image"], lines


def _cost_table(widths: Sequence[int], costs: Costs) -> Table:
    lines = [
        [
            f"{width:,}",
            *(
                f"{1e3 * costs[name]['lu'][i]:.3g} / {1e3 * costs[name]['plain'][i]:.3g}"
                for name in COSTS
            ),
        ]
        for i, width in enumerate(widths)
    ]
    return ["channels", *COSTS], lines


def _plot_training(results: Sequence[TrialResult]) -> bytes:
    figure = Plot(figsize=(6, 3.4), dpi=110, layout="constrained")
    draw_curves(figure.subplots(), results, NAMES, colours=list(COLOURS.values()))
    return plot_png(figure)


def _plot_costs(widths: Sequence[int], costs: Costs, crossings: Mapping[str, Crossover]) -> bytes:
    figure = Plot(figsize=(11, 3.2), dpi=110, layout="constrained")
    panels = figure.subplots(1, len(COSTS), sharey=True)
    for axes, name in zip(panels, COSTS, strict=True):
        for kind, label in NAMES.items():
            milliseconds = [1e3 * seconds for seconds in costs[name][kind]]
            style: Any = {"color": COLOURS[kind], "marker": "o", "markersize": 3}
            axes.loglog(widths, milliseconds, label=label, **style)
        meeting = crossings[name].channels
        if meeting is not None:
            axes.axvline(meeting, linestyle="--", linewidth=0.8, color="#555555")
            axes.annotate(
                f"{meeting:.0f}",
                (meeting, 0.02),
                xycoords=("data", "axes fraction"),
                xytext=(3, 0),
                textcoords="offset points",
                fontsize=8,
            )
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("channels")
        axes.grid(alpha=0.25)
    panels[0].set_ylabel("milliseconds")
    panels[0].legend(frameon=False)
    return plot_png(figure)
