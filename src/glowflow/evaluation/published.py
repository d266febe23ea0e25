"""Published bits per dimension, each for one release of one data set and one number of bits."""

from .baselines import Baseline

REALNVP = ("RealNVP, published", "Dinh et al. 2017")
GLOW = ("Glow, published", "Kingma & Dhariwal 2018, table 2")

# LSUN is not here: its published figures are of random squares of smaller copies, which
# `glowflow.data` does not make.
PUBLISHED: dict[tuple[str, int], tuple[tuple[tuple[str, str], float], ...]] = {
    ("cifar10", 8): ((REALNVP, 3.49), (GLOW, 3.35)),
    ("imagenet32-old", 8): ((REALNVP, 4.28), (GLOW, 4.09)),
    ("imagenet64-old", 8): ((REALNVP, 3.98), (GLOW, 3.81)),
}
"""By data set, named as in `Splits.dataset`, and bits: models without classes, on all images of
the official test part (ImageNet: validation)."""


def published(dataset: str, bits: int | None, classes: int = 0) -> tuple[Baseline, ...]:
    """What may stand beside a figure: nothing, unless data set, release and bits are the same.

    Args:
        dataset: as in `Splits.dataset`.
        bits: of the model.
        classes: of the model; log p(x | label) is not compared with log p(x).
    """
    if bits is None or classes:
        return ()
    return tuple(
        Baseline(name, mean, None, f"{dataset}, {bits} bits; {paper}")
        for (name, paper), mean in PUBLISHED.get((dataset, bits), ())
    )
