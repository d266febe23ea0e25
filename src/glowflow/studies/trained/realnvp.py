"""Glow beside RealNVP (Dinh et al. 2017): with as many parameters, and in as much time."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...data.types import Splits
from ...models.config import CouplingName, RealNVPArchitecture, RealNVPConfig, picture_shape
from ...training.config import TrainConfig
from ..page import Plot, Section
from ..study import Findings
from .comparison import TrialComparison, compared, recipe
from .curves import draw_curves
from .results import TrialResult, of, over_seeds
from .study import WITHOUT_END, GlowStudy, Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GLOW, SAME_IMAGES, SAME_TIME = "glow", "realnvp-images", "realnvp-time"
NAMES = {GLOW: "Glow", SAME_IMAGES: "RealNVP, as many images", SAME_TIME: "RealNVP, as much time"}
REFERENCES = dict.fromkeys(NAMES, GLOW)


@dataclass(frozen=True, kw_only=True)
class BesideRealNVP(GlowStudy):
    """Train Glow and RealNVP with as many parameters, on as many images and for as long."""

    coupling: CouplingName = "affine"
    """Of Glow."""
    scales: int | None = None
    """Of RealNVP; by default those with which its parameters match, from `glow train`'s on."""
    residual_blocks: int | None = None
    """Of each of RealNVP's coupling networks; by default as for `scales`."""

    def trials(self) -> list[Trial]:
        """A Glow a seed."""
        model = self.glow(coupling=self.coupling)
        return [self.trial(GLOW, seed, model) for seed in self.all_seeds]

    def realnvp_trials(
        self, model: RealNVPArchitecture, glows: Sequence[TrialResult]
    ) -> list[Trial]:
        """Two for each Glow that came to its end: with its images, and with its seconds."""
        trials = []
        for glow in glows:
            if glow.stopped:
                continue
            config = self.trial("", glow.seed, model).config
            by_images = replace(config, images=glow.images, minutes=None)
            by_time = replace(config, images=WITHOUT_END, minutes=glow.seconds / 60)
            trials += [Trial(SAME_IMAGES, by_images), Trial(SAME_TIME, by_time)]
        return trials

    def check(self, splits: Splits) -> None:
        """Refuse what cannot work before anything is computed.

        Raises:
            InputError: a number is too small, or the images do not fit.
        """
        from .realnvp_matching import shapes

        super().check(splits)
        for shape in shapes(
            picture_shape(splits.train.image_shape), self.scales, self.residual_blocks
        ):
            RealNVPConfig.of(shape, splits.train.image_shape)

    def measure(
        self, splits: Splits, folder: Path, *, device: str, progress: bool = True
    ) -> Findings:
        """Train the Glows, and then RealNVPs beside them."""
        from .realnvp_matching import match_parameters
        from .trials import count_parameters, run_trials

        glows = self.trials()
        results = run_trials(
            self, glows, splits, folder, device=device, title="Glow", progress=progress
        )
        glow = glows[0].config
        target = count_parameters(glow, splits)
        model = match_parameters(
            target,
            picture_shape(splits.train.image_shape),
            scales=self.scales,
            residual_blocks=self.residual_blocks,
        )
        others = self.realnvp_trials(model, results)
        results += run_trials(
            self, others, splits, folder, device=device, title="RealNVP", progress=progress
        )
        realnvp = self.trial("", self.seed, model).config
        count = count_parameters(realnvp, splits)
        matched = {"glow": target, "realnvp": count, "relative_difference": count / target - 1}
        comparison = TrialComparison(self, splits, [glows[0], *others[:2]], results, REFERENCES)
        return comparison.findings(
            "Glow beside RealNVP",
            sentence(results, matched),
            _curves_section(results),
            comparison.section(
                f"The reference is Glow. “{NAMES[SAME_IMAGES]}”: of the Glow of its seed. "
                f"“{NAMES[SAME_TIME]}”: the seconds that the Glow of its seed took, of the same "
                "machine, which say nothing about another one."
            ),
            self._models_section(glow, realnvp, model, matched),
            parameters=matched,
            realnvp=asdict(model),
        )

    def _models_section(
        self,
        glow: TrainConfig,
        realnvp: TrainConfig,
        model: RealNVPArchitecture,
        matched: Mapping[str, float],
    ) -> Section:
        return Section(
            "The models",
            f"Each has the optimiser of its family. Glow: {self.size_in_words}, {self.coupling} "
            f"coupling; {recipe(glow)}. RealNVP: {model.scales} scales, {model.residual_blocks} "
            f"residual blocks, {model.hidden_channels} feature maps; {recipe(realnvp)}. "
            f"Parameters: {matched['glow']:,} and {matched['realnvp']:,}, "
            f"{matched['relative_difference']:+.1%}{_unmatched(matched)}.",
        )


def sentence(results: Sequence[TrialResult], matched: Mapping[str, float]) -> str:
    """Glow, and RealNVP beside it."""
    own = over_seeds(of(results, GLOW), "test_bits_per_dim")
    by_images, by_time = (
        compared(results, name, GLOW, called)
        for name, called in ((SAME_IMAGES, "with as many images"), (SAME_TIME, "in as much time"))
    )
    return (
        f"Test bits/dim: Glow {own or 'stopped'}; RealNVP with "
        f"{matched['relative_difference']:+.1%} parameters{_unmatched(matched)}, beside it: "
        f"{by_images}, {by_time}."
    )


def _unmatched(matched: Mapping[str, float]) -> str:
    from .realnvp_matching import MATCHED

    near = abs(matched["relative_difference"]) <= MATCHED
    return (
        ""
        if near
        else f", which is more than {MATCHED:.0%}: none of those that are tried comes nearer"
    )


def _curves_section(results: Sequence[TrialResult]) -> Section:
    plot = Plot("realnvp.png", "Training curves", (9, 3.6), lambda figure: _draw(figure, results))
    return Section(
        "Training curves",
        "Mean over seeds of the training bits/dim, with a band of one standard error, against "
        "images and against seconds. RealNVP trains with the statistics of its batches.",
        [plot],
    )


def _draw(figure: "Figure", results: Sequence[TrialResult]) -> None:
    by_images, by_time = figure.subplots(1, 2)
    draw_curves(by_images, results, NAMES)
    draw_curves(by_time, results, NAMES, by="seconds")
