"""`glow check`: whether a posterior, or samples, can be trusted."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..files import write_text
from ..studies.page import Plot, Section, Table
from ..studies.study import Findings
from ..studies.summary import compact_json
from .arrays import read_array
from .options import CommonOptions, Outcome, check_device

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..calibration import PosteriorChecks, SampleChecks, Verdict


@dataclass(frozen=True, kw_only=True)
class Options(CommonOptions):
    truths: str | None = None
    """Array (N, …) of what N observations were simulated from; with --samples, the posterior's
    draws are checked. Arrays are .npy files, or FILE:NAME of .npz, HDF5 or Zarr."""
    samples: str | None = None
    """Array (N, S, …) of S draws for each truth; without --truths, samples (M, C, …) to hold
    against --data."""
    reference: str | None = None
    """Array (N, R, …) of draws of the right posterior, where it is known."""
    observed: str | None = None
    """Array (N, …) of the observations; with --replicated for predictive checks."""
    replicated: str | None = None
    """Array (N, S, …) of data drawn from the posterior's draws."""
    model: str | None = None
    """Draw the samples from this model: a run's folder, a hub id, or one that is shipped."""
    data: str | None = None
    """What samples should be like: an array (N, C, …), or for --model any data that it takes; by
    default the held-out images of its run."""
    count: int = 1000
    """Samples to draw from --model, and images to compare with, at most."""
    seed: int = 0
    """Of the samples, the references and the classifier."""


def run(options: Options) -> Outcome:
    """Check, and write check.md, index.html, check.json and the plots."""
    _require_one_question(options)
    if options.truths is not None:
        return _leave(options, _of_posterior(options))
    return _leave(options, _of_samples(options))


def _require_one_question(options: Options) -> None:
    given = {name: getattr(options, name) is not None for name in ("truths", "samples", "model")}
    if given["truths"] and (not given["samples"] or given["model"]):
        raise InputError("--truths go with --samples, the posterior's draws for each of them.")
    if not given["truths"] and given["samples"] == given["model"]:
        raise InputError(
            "Give --truths and --samples for a posterior, --samples and --data for samples, or "
            "--model for samples of a model."
        )
    if not given["truths"] and given["samples"] and options.data is None:
        raise InputError("Give --data, which the samples should be like, or --truths.")
    for name in ("reference", "observed", "replicated"):
        if getattr(options, name) is not None and not given["truths"]:
            raise InputError(f"--{name} is for a posterior: give --truths and --samples with it.")
    if (options.observed is None) != (options.replicated is None):
        raise InputError("--observed and --replicated go together.")
    if options.count < 20:
        raise InputError(f"--count is {options.count}: give 20 at least.")


def _of_posterior(options: Options) -> Findings:
    from ..calibration import check_posterior
    from ..calibration.plots import draw_coverage, draw_p_values, draw_ranks

    arrays = {
        name: None if (text := getattr(options, name)) is None else read_array(text, f"--{name}")
        for name in ("truths", "samples", "reference", "observed", "replicated")
    }
    truths, samples = arrays.pop("truths"), arrays.pop("samples")
    assert truths is not None and samples is not None
    checks = check_posterior(truths, samples, **arrays, seed=options.seed)
    draws = checks.ranks.draws
    by_summary = {**checks.ranks.by_summary, "distances (TARP)": checks.tarp}
    rows = -(-len(by_summary) // 3)
    p_values = checks.ranks.p_values()

    def ranks(figure: "Figure") -> None:
        draw_ranks(figure, by_summary, draws)

    def coverage(figure: "Figure") -> None:
        draw_coverage(figure, checks.coverage)

    def places(figure: "Figure") -> None:
        draw_p_values(figure, p_values)

    return Findings(
        title="Checks of a posterior",
        sentence=_sentence(checks.verdicts),
        about=f"{len(truths):,} simulations, {draws:,} draws each, a truth is {truths.shape[1:]}.",
        sections=(
            Section(table=_table(checks.verdicts)),
            Section(
                title="Ranks",
                words="The share of ranks below each level, less the level. A posterior that is "
                "right stays in the band at all levels, in 95 % of such checks.",
                pictures=[Plot("ranks.png", "ranks in their bands", (8, 2.4 * rows), ranks)],
            ),
            Section(
                title="Coverage",
                words="Bars are two standard errors over simulations.",
                pictures=[Plot("coverage.png", "coverage by level", (4, 3.6), coverage)],
                table=_coverage_table(checks),
            ),
            Section(
                title="Ranks by place",
                words="p-value of the uniformity of each value's ranks.",
                pictures=[Plot("places.png", "p-values by place", (4, 3.2), places)],
            ),
        ),
        summary={
            "verdicts": [asdict(verdict) for verdict in checks.verdicts],
            "coverage": {
                "nominal": checks.coverage.nominal.tolist(),
                "empirical": checks.coverage.empirical.tolist(),
                "standard_error": checks.coverage.standard_error.tolist(),
            },
            "p_values_of_summaries": checks.ranks.summary_p_values(),
            "simulations": len(truths),
            "draws": draws,
        },
    )


def _of_samples(options: Options) -> Findings:
    from ..calibration import check_samples
    from ..calibration.plots import draw_spectra

    samples, data, about = _both(options)
    checks = check_samples(samples, data, seed=options.seed)

    def spectra(figure: "Figure") -> None:
        draw_spectra(figure, checks.spectra, checks.ratio)

    return Findings(
        title="Checks of samples",
        sentence=_sentence(checks.verdicts),
        about=about,
        sections=(
            Section(table=_table(checks.verdicts)),
            Section(
                title="Power spectrum",
                words="Mean over fields and channels of |x̂|² of a mode; bars are two standard "
                "errors.",
                pictures=[Plot("spectrum.png", "spectra and their ratio", (6, 5), spectra)],
            ),
            Section(title="One-point statistics", table=_points_table(checks)),
        ),
        summary={
            "verdicts": [asdict(verdict) for verdict in checks.verdicts],
            "power_ratio": {
                "wavenumber": checks.ratio.wavenumber.tolist(),
                "ratio": checks.ratio.ratio.tolist(),
                "standard_error": checks.ratio.standard_error.tolist(),
            },
            "one_point": {
                name: asdict(points)
                for name, points in zip(("samples", "data"), checks.one_point, strict=True)
            },
            "two_sample_accuracy": checks.two_sample.accuracy,
            "samples": len(samples),
            "data": len(data),
        },
    )


def _both(options: Options) -> tuple[NDArray[Any], NDArray[Any], str]:
    """Samples, what they should be like, and a sentence about both."""
    if options.model is None:
        samples = read_array(options.samples or "", "--samples")
        data = read_array(options.data or "", "--data")
        return samples, data, f"{len(samples):,} samples beside {len(data):,} of {options.data}."
    import torch

    from ..data.inputs import given_to_samples
    from ..data.partition import spread
    from .model_data import choose, load_model_for

    device = check_device(options.device)
    model = load_model_for(options.model, device, any_kind=True)
    chosen = choose(
        model, options.model, options.data, limit=options.count, progress=not options.json
    )
    compared = spread(chosen.data, options.count)
    images = compared.images
    if model.config.bits is not None:  # so that both have the model's bits
        x = model.to_float(torch.from_numpy(np.array(images)), noise="center")
        images = model.to_images(x).numpy()
    given = given_to_samples(model, compared, len(images))
    drawn = model.draw(len(images), seed=options.seed, labels=given)
    if not bool(drawn.finite.all()):
        raise InputError(f"{options.model}: {drawn.concern()}.")
    about = (
        f"{len(images):,} samples of {options.model} at temperature 1 beside as many "
        f"{chosen.what} of {chosen.source}."
    )
    return drawn.images.numpy(), np.asarray(images), about


def _sentence(verdicts: "tuple[Verdict, ...]") -> str:
    failed = [verdict.check for verdict in verdicts if not verdict.passed]
    if not failed:
        return f"All {len(verdicts)} checks passed."
    return f"{len(failed)} of {len(verdicts)} checks failed: {', '.join(failed)}."


def _table(verdicts: "tuple[Verdict, ...]") -> Table:
    lines = [[v.check, v.found, v.expected, "passed" if v.passed else "FAILED"] for v in verdicts]
    return Table(["check", "found", "expected", ""], lines)


def _coverage_table(checks: "PosteriorChecks") -> Table:
    columns = checks.coverage.nominal, checks.coverage.empirical, checks.coverage.standard_error
    lines = [[f"{n:.3f}", f"{e:.3f}", f"{s:.3f}"] for n, e, s in zip(*columns, strict=True)]
    return Table(["nominal", "empirical", "standard error"], lines)


def _points_table(checks: "SampleChecks") -> Table:
    of_samples, of_data = checks.one_point
    lines = [
        [
            name,
            f"{of_samples.statistics[name]:.4g} ± {of_samples.standard_errors[name]:.2g}",
            f"{of_data.statistics[name]:.4g} ± {of_data.standard_errors[name]:.2g}",
        ]
        for name in of_data.statistics
    ]
    return Table(["statistic", "samples", "data"], lines)


def _leave(options: Options, findings: Findings) -> Outcome:
    """Write the page; a failed check is exit code 1."""
    from .results import new_folder, write_findings

    folder: Path = new_folder(options.out, "check")
    facts = {"sentence": findings.sentence, **findings.summary}
    write_findings(folder, "check", findings)
    write_text(folder / "check.json", compact_json(facts) + "\n")
    passed = all(verdict["passed"] for verdict in findings.summary["verdicts"])
    return Outcome(
        f"{findings.sentence} Results: {folder}",
        {"out": str(folder), **facts},
        code=int(not passed),
    )
