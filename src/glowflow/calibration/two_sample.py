"""The classifier two-sample test: can draws be told from those they should be like?"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from ..errors import InputError
from .arrays import finite

FOLDS = 5
COMPONENTS = 64
"""Principal components that the classifier sees of longer samples."""
LEAST = 20


@dataclass(frozen=True)
class TwoSample:
    """Accuracy of a classifier on samples that it did not see; 1/2 if it cannot tell them apart."""

    accuracy: float
    standard_error: float
    """Of a share of so many samples."""

    @property
    def p_value(self) -> float:
        """Of so high an accuracy by chance."""
        return float(norm.sf((self.accuracy - 0.5) / self.standard_error))


def c2st(
    first: NDArray[Any], second: NDArray[Any], *, seed: int = 0, components: int = COMPONENTS
) -> TwoSample:
    """Train a classifier to tell two sets of samples apart, and test it on samples left out.

    A perceptron with two hidden layers on standardised values, five-fold cross-validated, on as
    many of the one as of the other. Samples of more than `components` values are represented by so
    many principal components of both sets together, and by their mean and mean square, in which a
    wrong amplitude shows that is spread over all components.

    Args:
        first: (n, *event).
        second: (m, *event).
        seed: of the folds and the classifier.
        components: at most so many values of a sample are looked at.

    Raises:
        InputError: the samples are of different shapes, there are fewer than 20 of either, or a
            value is not finite.

    Source: Lopez-Paz and Oquab 2017, "Revisiting classifier two-sample tests".
    """
    from sklearn.decomposition import PCA
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if first.shape[1:] != second.shape[1:]:
        raise InputError(
            f"The samples are {first.shape[1:]} and {second.shape[1:]}: they must be of one shape."
        )
    count = min(len(first), len(second))
    if count < LEAST:
        raise InputError(f"There are {count} samples of one kind: give {LEAST} of each at least.")
    generator = np.random.default_rng(seed)
    sets = [
        finite(each[np.sort(generator.choice(len(each), count, replace=False))], name)
        for each, name in ((first, "samples"), (second, "reference samples"))
    ]
    x = np.concatenate([each.reshape(count, -1) for each in sets])
    spread = x.std(axis=0)
    x = (x - x.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    if x.shape[1] > components:
        whole = PCA(min(components, count), random_state=seed).fit_transform(x)
        x = np.column_stack([whole, x.mean(axis=1), (x**2).mean(axis=1)])
    y = np.repeat([0, 1], count)
    classifier = make_pipeline(
        StandardScaler(),
        MLPClassifier((64, 64), alpha=1e-2, early_stopping=True, max_iter=300, random_state=seed),
    )
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    guessed = cross_val_predict(classifier, x, y, cv=folds)
    return TwoSample(float((guessed == y).mean()), 0.5 / math.sqrt(len(y)))
