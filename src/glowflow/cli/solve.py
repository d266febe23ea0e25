"""`glow solve`: what an image or a field was, from what was observed of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro
from numpy.typing import NDArray

from ..errors import InputError
from ..files import path_of, replacing, write_text
from ..models.config import sides
from ..studies.page import Plot, Section, Sheet, Table
from ..studies.study import Findings
from ..studies.summary import compact_json
from .arrays import is_array, read_array
from .options import ModelOptions, Outcome, check_device

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..inverse import Operator, Problem, Solution
    from ..models.flow import ImageFlow

FAR = 10
"""Deviations of the noise that an observation may be beyond the values of bytes."""
SHOWN = 8
"""Draws on a sheet."""


@dataclass(frozen=True, kw_only=True)
class Options(ModelOptions):
    observed: str
    """What was observed: an image file, or an array (C, H, W) or (N, C, H, W) of several
    observations, as .npy or FILE:NAME of .npz, HDF5 or Zarr; on other grids (C, L), (C, D, H, W)
    and so on; for a model of images its values are 0 to 255."""
    operator: str = "noise"
    """What was done to the field: `noise`, `mask`, `blur`, `downsample`, or MODULE:FUNCTION, a
    function of a batch (B, C, H, W), or (B, C, L), (B, C, D, H, W), in PyTorch, of images with
    values 0 to 255."""
    noise: float
    """Standard deviation of the noise, in the units of what was observed (0 to 255 for images)."""
    mask: str | None = None
    """For `mask`: an image file, white where something was seen, or an array (H, W) or (C, H, W),
    of the model's grid, not 0 there."""
    blur: float = 1.0
    """For `blur`: standard deviation of the Gaussian, in pixels."""
    padding: str = "reflect"
    """For `blur`: what lies outside, reflect, periodic or zero."""
    factor: int = 2
    """For `downsample`: the side of the blocks that were averaged."""
    chains: int = 4
    """Chains, from different draws of the prior."""
    draws: int = 500
    """Of each chain, for each observation."""
    warmup: int = 500
    """Iterations of each chain that adapt its steps and are thrown away."""
    label: Annotated[str | None, tyro.conf.arg(name="class")] = None
    """Class of the field, by its name or number, for a class-conditional model."""


def run(options: Options) -> Outcome:
    """Solve each observation, and write its draws, mean, deviation and best, and a page."""
    import torch

    from ..inverse import Problem, prior_of, solve
    from .model_data import load_model_for
    from .photos import label_of
    from .results import new_folder

    device = check_device(options.device)
    model = prior_of(load_model_for(options.model, device, any_grid=True))
    if not options.noise > 0:
        raise InputError(f"--noise is {options.noise}: give more than 0.")
    operator = _operator(options, model)
    observed = _observed(options, model, operator)
    labels = None
    if options.label is not None:
        labels = label_of(model, options.label, 1, "--class")
    elif model.config.classes:
        raise InputError("The model has classes: give --class.")
    if model.config.bits is not None:
        operator = _of_bytes(operator)
    problems = [
        Problem(model, operator, torch.from_numpy(np.asarray(each)), options.noise, labels)
        for each in observed
    ]
    folder = new_folder(options.out, "solve")
    solutions = [
        solve(
            problem,
            chains=options.chains,
            draws=options.draws,
            warmup=options.warmup,
            seed=options.seed + index,
            progress=not options.json,
        )
        for index, problem in enumerate(problems)
    ]
    return _leave(options, folder, model, problems, solutions)


def _observed(options: Options, model: "ImageFlow", operator: "Operator") -> NDArray[Any]:
    """(N, *data) in the units of what was observed, in the model's dtype."""
    from ..inverse import Mask
    from .model_data import dtype_of

    source_range = None if model.trained_on is None else model.trained_on.source_range
    shape = model.config.image_shape
    values = _image_or_array(options.observed, "--observed", shape, source_range)
    if values.dtype.kind not in "fiub":
        raise InputError(f"{options.observed} has {values.dtype}: give numbers.")
    data_axes = len(shape)
    if ":" in options.operator:
        data_axes = _axes_made(options.operator, operator, model)
    if values.ndim == data_axes:
        values = values[None]
    if values.ndim != data_axes + 1 and ":" not in options.operator:
        raise InputError(
            f"What was observed is {values.shape}: give {_axes(data_axes)}, or "
            f"{_axes(data_axes, of_several=True)} of several."
        )
    if not len(values):
        raise InputError(f"{options.observed} has no observation: give one at least.")
    with np.errstate(over="ignore"):
        wide = np.array(values, dtype=dtype_of(model))
    if isinstance(operator, Mask) and operator.seen.shape in (wide.shape[1:], wide.shape[2:]):
        wide = np.where(operator.seen.numpy(), wide, wide.dtype.type(0))
    if not np.isfinite(wide).all():
        raise InputError(
            f"{options.observed} has values that are not finite in {wide.dtype}: mask them."
        )
    far = FAR * options.noise
    if (
        model.config.bits is not None
        and ":" not in options.operator
        and not (-far <= wide.min() and wide.max() <= 255 + far)
    ):
        raise InputError(
            f"{options.observed} has values from {wide.min():g} to {wide.max():g}, and those of "
            "images are 0 to 255, but for the noise: scale them."
        )
    return wide


def _axes_made(name: str, operator: "Operator", model: "ImageFlow") -> int:
    """Axes of what an operator of one's own makes of one field.

    Raises:
        InputError: it fails, or makes something that has no gradient.
    """
    import torch

    field = torch.zeros(1, *model.config.image_shape, dtype=model.dtype, requires_grad=True)
    try:
        made: Any = operator(field)
    except Exception as error:  # whatever the user's function does
        raise InputError(
            f"The operator {name} fails on a batch of one field ({type(error).__name__}, {error}): "
            "mend it."
        ) from error
    if not isinstance(made, torch.Tensor) or not made.requires_grad:
        raise InputError(
            f"What the operator {name} makes has no gradient: compute it of the field, in PyTorch "
            "operations that have one."
        )
    return made.dim() - 1


def _of_bytes(operator: "Operator") -> "Operator":
    """The operator for x in [−½, ½), of which it sees the bytes, 0 to 255."""
    return lambda x: operator((x + 0.5) * 256 - 0.5)


def _axes(count: int, *, of_several: bool = False) -> str:
    grid = {2: ("L",), 3: ("H", "W"), 4: ("D", "H", "W")}[count]
    return f"({', '.join((*('N' * of_several), 'C', *grid))})"


def _operator(options: Options, model: "ImageFlow") -> "Operator":
    import torch

    from ..inverse import Blur, Downsample, Mask, identity, own_operator

    if (options.mask is None) == (options.operator == "mask"):
        raise InputError("--operator mask and --mask FILE go together.")
    match options.operator:
        case "noise":
            return identity
        case "mask":
            seen = _image_or_array(options.mask or "", "--mask", (1, *model.config.image_shape[1:]))
            if seen.dtype.kind not in "fiub" or not np.isfinite(seen).all():
                raise InputError(f"{options.mask} has values that are no numbers: give 0 and 1.")
            if not is_array(options.mask or ""):
                seen = seen[0] > 127
            return Mask(torch.from_numpy(np.array(seen) != 0))
        case "blur":
            return Blur(options.blur, options.padding)
        case "downsample":
            return Downsample(options.factor)
    return own_operator(options.operator)


def _image_or_array(
    text: str, flag: str, shape: tuple[int, ...], source_range: tuple[float, float] | None = None
) -> NDArray[Any]:
    """An array, or the values (C, H, W) of an image file, for samples of this shape."""
    from ..photos.images import read_photo

    if is_array(text):
        return read_array(text, flag)
    path = path_of(text)
    if not path.is_file():
        raise InputError(f"There is no file {path}: give an image or an array to {flag}.")
    channels, *grid = shape
    if channels not in (1, 3, 4) or len(grid) != 2:
        raise InputError(
            f"The model has {channels} channels on a grid of {sides(tuple(grid))}: give an array "
            f"to {flag}."
        )
    return read_photo(path, channels, source_range)


def _leave(
    options: Options,
    folder: Path,
    model: "ImageFlow",
    problems: "list[Problem]",
    solutions: "list[Solution]",
) -> Outcome:
    """Write all of it; chains that have not converged are exit code 1."""
    from .model_data import dtype_of
    from .results import write_findings

    arrays = {
        "samples": [s.samples.flatten(0, 1) for s in solutions],
        "mean": [s.mean for s in solutions],
        "std": [s.std for s in solutions],
        "best": [s.best for s in solutions],
    }
    bits = model.config.bits
    for name, each in arrays.items():
        values = np.stack([_in_own_units(x.numpy(), name, bits) for x in each])
        with replacing(folder / f"{name}.npy") as path, path.open("wb") as file:
            np.save(file, values.astype(dtype_of(model)))
    reasons = {i: why for i, s in enumerate(solutions) if (why := s.why_not_converged)}
    findings = _findings(options, model, problems, solutions, reasons)
    write_findings(folder, "solve", findings)
    facts = {"out": str(folder), "sentence": findings.sentence, **findings.summary}
    write_text(folder / "solve.json", compact_json(facts) + "\n")
    return Outcome(f"{findings.sentence} Results: {folder}", facts, code=int(bool(reasons)))


def _in_own_units(values: NDArray[Any], name: str, bits: int | None) -> NDArray[Any]:
    if bits is None:
        return values
    return values * 256 if name == "std" else (values + 0.5) * 256 - 0.5


def _findings(
    options: Options,
    model: "ImageFlow",
    problems: "list[Problem]",
    solutions: "list[Solution]",
    reasons: dict[int, str],
) -> Findings:
    count = len(solutions)
    if reasons:
        first = min(reasons)
        sentence = (
            f"NOT CONVERGED for {len(reasons)} of {count} observations (the first is {first}: "
            f"{reasons[first]}): give more --warmup and --draws."
        )
    else:
        sentence = f"Solved {count} observations; all chains converged."
    first_solution, first_problem = solutions[0], problems[0]

    def traces(figure: "Figure") -> None:
        above, below = figure.subplots(2, 1)
        for chain in first_solution.log_posterior.numpy():
            above.plot(chain, linewidth=0.7)
        above.set_xlabel("draw")
        above.set_ylabel("log posterior (nats)")
        below.hist(first_solution.rhat.ravel(), bins=40, color="#1d4e89")
        below.axvline(1.05, color="#c2410c")
        below.set_xlabel("R-hat of each value")

    pictures: list[Plot | Sheet] = [
        _sheet(model, first_problem, first_solution),
        Plot("chains.png", "traces and R-hat of the first observation", (7, 5), traces),
    ]
    lines = [
        [
            str(index),
            f"{s.rhat.max():.3f}",
            f"{s.ess.min():.0f}",
            f"{s.acceptance:.2f}",
            str(s.divergences),
            reasons.get(index, "converged"),
        ]
        for index, s in enumerate(solutions)
    ]
    heads = ["observation", "largest R-hat", "smallest ESS", "acceptance", "divergences", ""]
    return Findings(
        title="Inverse problems",
        sentence=sentence,
        about=f"Prior {options.model}; operator {options.operator}, noise {options.noise:g}; "
        f"{options.chains} chains of {options.draws} draws after {options.warmup}.",
        sections=(
            Section(
                title="The first observation",
                words="Mean and standard deviation are of the posterior's draws; best is the field "
                "at the most probable latents.",
                pictures=pictures,
            ),
            Section(title="Chains", table=Table(heads, lines)),
        ),
        summary={
            "observations": count,
            "converged": count - len(reasons),
            "not_converged": {str(index): why for index, why in reasons.items()},
            "largest_rhat": [float(s.rhat.max()) for s in solutions],
            "smallest_ess": [float(s.ess.min()) for s in solutions],
            "mean_std": [
                float(s.std.mean()) * (256 if model.config.bits else 1) for s in solutions
            ],
        },
    )


def _sheet(model: "ImageFlow", problem: "Problem", solution: "Solution") -> Sheet:
    """Observation, mean, best and some draws; the standard deviation, brightest where largest.
    Series are curves, each between its own least and largest."""
    import torch

    curves = len(model.config.image_shape) == 2

    def shown(x: "torch.Tensor") -> NDArray[Any]:
        if model.config.bits is not None:
            return model.to_images(x).numpy()
        if curves:
            return x.numpy()
        low, high = solution.mean.min(), solution.mean.max()
        return (255 * ((x - low) / (high - low + 1e-12)).clamp(0, 1)).byte().numpy()

    shape = solution.mean.shape
    y, spread = problem.observed.cpu(), solution.std
    if not curves:
        spread = (255 * spread / (spread.max() + 1e-12)).byte()
    rows = [
        ("mean", shown(solution.mean[None])),
        ("best", shown(solution.best[None])),
        ("std", spread[None].numpy()),
        ("draws", shown(solution.samples.flatten(0, 1)[:: max(1, solution.samples.shape[1])])),
    ]
    if y.shape == shape:
        x = y if model.config.bits is None else (y + 0.5) / 256 - 0.5
        rows.insert(0, ("observed", shown(x[None])))
    return Sheet("solution.png", "observation, posterior mean, deviation and draws", rows)
