"""Bits per dimension: bounds on what the model gives the bytes themselves, beside others."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ...checks import require_at_least
from ...data.types import Splits
from ...evaluation.estimate import Estimate
from ..page import Plot, Section, Table
from ..study import Findings
from .study import MeasuredStudy, require_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ...models.flow import ImageFlow
    from .bounds import Bounds

COLOUR = "#2563a8"


@dataclass(frozen=True, kw_only=True)
class Bits(MeasuredStudy):
    """Bits/dim: uniform and importance-weighted bounds, beside baselines and published figures."""

    images: int | None = 100
    """Test images, at most, evenly spread; None for all. Each goes through the model `draws` times:
    with the defaults 10,000 passes of one image."""
    draws: int = 100
    """Dequantisation noise draws of each image. K is 1, 10, 100, … and this number."""
    batch_size: int = 50
    """Images that are scored at once."""
    seed: int = 0
    """Of the noise."""

    def check(self, model: "ImageFlow", splits: Splits) -> None:
        """Refuse numbers that are too small, float data, and images that do not fit."""
        from ...data.inputs import require_fit

        require_at_least(self, 1, "images", "draws", "batch_size")
        require_bytes(model, "only bytes have bits per dimension")
        require_fit(model, splits.test)

    def measure(self, model: "ImageFlow", splits: Splits, *, progress: bool = True) -> Findings:
        """All bounds are of the same noise draws, which are those of `evaluate`."""
        from .bounds import measure_bounds

        return findings(
            measure_bounds(
                model,
                splits,
                limit=self.images,
                draws=self.draws,
                batch_size=self.batch_size,
                seed=self.seed,
                progress=progress,
            )
        )


def findings(bounds: "Bounds") -> Findings:
    """The bounds in a line, as tables and as a plot."""
    evaluation = bounds.evaluation
    dataset = evaluation.dataset
    version = f"{dataset}, {bounds.completeness}" if bounds.completeness else dataset
    named = f"The published data set {version}. " if dataset else ""
    return Findings(
        title="Bits per dimension",
        sentence=sentence(bounds),
        about=f"{named}{evaluation.bits} bits.",
        sections=(
            Section(pictures=[Plot("bits.png", "bounds against K; beside other figures",
                                   (9, 3.4), lambda figure: _draw(figure, bounds))]),
            _bounds_section(bounds),
            _beside_section(bounds),
        ),
        summary={
            "completeness": bounds.completeness,
            "images": bounds.images,
            "test_images": bounds.test_images,
            "draws": bounds.draws,
            "uniform": asdict(bounds.uniform),
            "importance_weighted": {str(k): asdict(e) for k, e in bounds.weighted.items()},
            "below_uniform": {str(k): asdict(e) for k, e in bounds.below.items()},
            "effective_draws": asdict(bounds.effective),
            "evaluation": evaluation.to_dict(),
        },
    )  # fmt: skip


def sentence(bounds: "Bounds") -> str:
    """The uniform bound and the tightest one, and on what."""
    published = ", ".join(f"{b.name} {b.mean:.2f}" for b in bounds.evaluation.published)
    return (
        f"{bounds.uniform} bits/dim by {bounds.noise} dequantisation, "
        f"{bounds.weighted[bounds.draws]} by importance weighting with K = {bounds.draws}: "
        f"upper bounds, on {bounds.images:,} of {bounds.test_images:,} test images"
        + (f"; {published}." if published else ".")
    )


def _bounds_section(bounds: "Bounds") -> Section:
    lines = [[f"{bounds.noise}, mean of {bounds.draws} draws", str(bounds.uniform), "–"]]
    for k, weighted in bounds.weighted.items():
        name = f"importance-weighted, K = {k}" + (f" ({bounds.noise}, 1 draw)" if k == 1 else "")
        lines.append([name, str(weighted), _small(bounds.below[k])])
    given = ""
    if bounds.evaluation.bayes_accuracy is not None:
        given = " The model is class-conditional: all of them are given the image's label."
    return Section(
        "Bounds",
        f"Mean ± standard error over {bounds.images:,} test images, all rows with the same "
        "noise draws. In expectation over the noise every row is an upper bound on −log₂ P(x) / D, "
        "the bits per dimension of the bytes x themselves, and the importance-weighted bound "
        "−(1/D) log₂ (1/K) Σ p(x + u_k) 2^(−nD) falls as K grows. "
        f"Below {bounds.noise}: the difference image by image, free of the spread between images. "
        f"Of {bounds.draws} draws, {bounds.effective.mean:.1f} count on average ((Σw)² / Σw²): "
        f"where they are few, a larger K would be lower still.{given}",
        table=Table(["bound", "bits/dim", f"below {bounds.noise}"], lines),
    )


def _small(estimate: Estimate) -> str:
    """A difference, with a digit more than an estimate has."""
    error = "" if estimate.standard_error is None else f" ± {estimate.standard_error:.4f}"
    return f"{estimate.mean:.4f}{error}"


def _beside_section(bounds: "Bounds") -> Section:
    from ...evaluation.table import ranked

    lines = [
        [f"{b.name} ({b.note})", "–" if b.mean is None else str(Estimate(b.mean, b.standard_error))]
        for b in ranked(bounds.evaluation)
    ]
    return Section(
        "Beside other figures",
        f"The same {bounds.images:,} images, the first noise draw alone; published figures are of "
        "the whole test part, and shown only for the same data set, release and bits.",
        table=Table(["", "bits/dim"], lines),
    )


def _draw(figure: "Figure", bounds: "Bounds") -> None:
    """Left: the bounds against K; right: the model among baselines and published figures."""
    from ...evaluation.table import MODEL, ranked

    against_k, beside = figure.subplots(1, 2)
    against_k.errorbar(
        list(bounds.below),
        [bounds.uniform.mean - below.mean for below in bounds.below.values()],
        yerr=[below.standard_error or 0.0 for below in bounds.below.values()],
        marker="o",
        markersize=4,
        capsize=3,
        color=COLOUR,
        label="importance-weighted, K draws",
    )
    against_k.axhline(
        bounds.uniform.mean,
        color="#8a8a8a",
        linestyle="--",
        linewidth=1,
        label=f"{bounds.noise}, mean of {bounds.draws} draws",
    )
    against_k.set_xscale("log")
    against_k.set_xlabel("K")
    against_k.set_ylabel("bits/dim, an upper bound")
    against_k.set_title("bars: standard error of the difference", fontsize=9)
    against_k.grid(alpha=0.25)
    against_k.legend(frameon=False, fontsize=8)
    shown = [b for b in reversed(ranked(bounds.evaluation)) if b.mean is not None]
    bars = beside.barh(
        [b.name for b in shown],
        [b.mean for b in shown],
        color=["#c2410c" if b.name == MODEL else "#8fb3d9" for b in shown],
    )
    beside.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
    beside.set_xlabel("bits/dim")
    beside.margins(x=0.15)
    beside.tick_params(labelsize=8)
