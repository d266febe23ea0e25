"""A flow as a density estimator of scikit-learn."""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from ..checks import has_device, require
from ..data.config import DataConfig
from ..data.types import ImageData, Splits
from ..errors import InputError, TrainingError
from ..models.config import Architecture
from ..models.flow import ImageFlow
from ..training.config import TrainConfig
from ..training.loop import train
from .density_rows import levels_of, moments, require_rows, shape_of

SCORED_AT_ONCE = 256
"""Rows of a pass."""
LARGEST_SEED = 2**31 - 1
_ONE = Lock()
"""Held by the thread that trains: PyTorch's random numbers are the process's."""


class GlowDensity(DensityMixin, BaseEstimator):  # type: ignore[misc]
    """log p(x) of images as rows, by a Glow that `fit` trains on them.

    Rows of floats, standardised by each value's mean μ and standard deviation s over the training
    rows (1 where it never changes), are the images z of a model for float data, so that

        log p(x) = log p_z((x − μ)/s) − Σ log s

    is the log-density in nats, in the units of X. In training each row has normal noise of `noise`
    standard deviations, once: a density that is smooth at that scale, and finite of values that
    repeat. Rows of uint8 are bytes of images, and the model has their 256 bins: `score_samples` is
    log p(x) − D·log 256 of x = (X + u)/256 − ½, u uniform, one draw for all rows: in expectation a
    lower bound of the log-probability of the bytes, in nats. Integers of other dtypes are floats.

    `score` is the mean over rows, as of `GaussianMixture` (`KernelDensity` has their sum).

    Example:
        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(40, 16))
        >>> density = GlowDensity(images=200, random_state=0).fit(X)
        >>> density.score_samples(X).shape, density.sample(3).shape
        ((40,), (3, 16))

    Args:
        image_shape: (channels, height, width) of a row's values, in this order; None for a square
            grey image.
        levels: of the model, each of which halves height and width; None for as many as leave two
            pixels a side, 3 at most.
        steps: steps of flow per level.
        hidden_channels: of the coupling networks.
        images: rows to train on in all, over all epochs. More fit the rows of `fit` better, and new
            rows up to a point: `GridSearchCV` finds it.
        minutes: end of the training, if that comes before `images`; what is learnt until then
            depends on the machine.
        batch_size: rows per optimiser step.
        lr: learning rate after the warm-up, which takes the first tenth of `images`.
        noise: of rows of floats in training, in standard deviations of each value.
        device: that trains, `cpu`, `cuda`, …; None for what Accelerate finds. Rows are scored and
            sampled on the CPU in float64.
        random_state: of the weights, the order and the noise.
        verbose: show a bar, and what is noted in training, on stderr.

    Attributes:
        model_: the `Glow`, in float64.
        image_shape_: of a row.
        mean_, scale_: μ and s, (n_features_in_,); 0 and 1 of bytes.
        n_features_in_, feature_names_in_: as everywhere in scikit-learn.
    """

    def __init__(
        self,
        *,
        image_shape: tuple[int, int, int] | None = None,
        levels: int | None = None,
        steps: int = 4,
        hidden_channels: int = 64,
        images: int = 20_000,
        minutes: float | None = None,
        batch_size: int = 32,
        lr: float = 5e-3,
        noise: float = 0.01,
        device: str | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.image_shape = image_shape
        self.levels = levels
        self.steps = steps
        self.hidden_channels = hidden_channels
        self.images = images
        self.minutes = minutes
        self.batch_size = batch_size
        self.lr = lr
        self.noise = noise
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Train a new model on the rows of X.

        Args:
            X: (rows, values) floats or uint8, two rows at least.
            y: ignored.

        Raises:
            ValueError: X is no array of finite numbers with two dimensions, as scikit-learn says.
            InputError: the rows are no images of `image_shape`, or a parameter cannot be.
            TrainingError: a value became NaN or infinite.
        """
        self.__dict__.pop("model_", None)  # it is of other rows, whatever comes of these
        require_rows(X)
        rows: NDArray[Any] = validate_data(
            self, X, dtype=_DTYPES, order="C", ensure_min_samples=2, ensure_min_features=4
        )
        shape, of_bytes = shape_of(rows.shape[1], self.image_shape), rows.dtype == np.uint8
        random = check_random_state(self.random_state)
        config = self._config(shape, of_bytes, int(random.randint(LARGEST_SEED)))
        mean, scale = np.zeros(rows.shape[1]), np.ones(rows.shape[1])
        images = rows
        if not of_bytes:
            mean, scale = moments(rows)
            noise = self.noise * random.standard_normal(rows.shape)
            images = ((rows.astype(np.float64) - mean) / scale + noise).astype(np.float32)
        model = self._train(config, images.reshape(-1, *shape))
        self.image_shape_, self.mean_, self.scale_ = shape, mean, scale
        self.dtype_, self.model_ = rows.dtype, model
        return self

    def score_samples(self, X: ArrayLike) -> NDArray[np.float64]:
        """log p of each row in nats: (rows,) float64; −inf of a row on which the model overflows.

        Raises:
            NotFittedError: there was no `fit`.
            ValueError: X has other columns than in `fit`, or is no array of finite numbers.
            InputError: X has floats, and `fit` had bytes.
        """
        check_is_fitted(self, "model_")
        require_rows(X)
        rows: NDArray[Any] = validate_data(self, X, dtype=_DTYPES, reset=False)
        of_bytes = self.dtype_ == np.uint8
        if of_bytes and rows.dtype != np.uint8:
            raise InputError(f"X has {rows.dtype}, and this density is one of bytes: give uint8.")
        u = np.random.default_rng(0).random(rows.shape[1])
        scores = []
        with torch.no_grad(), self.model_.frozen():
            for start in range(0, len(rows), SCORED_AT_ONCE):
                some = rows[start : start + SCORED_AT_ONCE].astype(np.float64)
                z = (some + u) / 256 - 0.5 if of_bytes else (some - self.mean_) / self.scale_
                images = torch.from_numpy(z).view(-1, *self.image_shape_)
                scores.append(self.model_.log_prob(images).numpy())
        scale = rows.shape[1] * math.log(256) if of_bytes else np.log(self.scale_).sum()
        found: NDArray[np.float64] = np.concatenate(scores) - scale
        return np.where(np.isnan(found), -np.inf, found)

    def score(self, X: ArrayLike, y: Any = None) -> float:
        """The mean of `score_samples` over the rows: higher is better.

        Args:
            X: rows.
            y: ignored.
        """
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1, random_state: Any = None) -> NDArray[Any]:
        """Rows drawn from the model, (n_samples, values), in the dtype of the X of `fit`.

        Args:
            n_samples: rows.
            random_state: as in `KernelDensity.sample`: a number repeats the draw.

        Raises:
            NotFittedError: there was no `fit`.
            InputError: n_samples is no whole number, or negative.
        """
        check_is_fitted(self, "model_")
        whole = isinstance(n_samples, (int, np.integer)) and not isinstance(n_samples, bool)
        require(whole, f"n_samples is {n_samples!r}: give a whole number.")
        seed = int(check_random_state(random_state).randint(LARGEST_SEED))
        rows: NDArray[Any] = self.model_.sample(int(n_samples), seed=seed).flatten(1).numpy()
        if self.dtype_ == np.uint8:
            return rows
        return (rows * self.scale_ + self.mean_).astype(self.dtype_)

    def _config(self, shape: tuple[int, int, int], of_bytes: bool, seed: int) -> TrainConfig:
        """The run, of parameters that may be NumPy's numbers: a search takes them from arrays."""
        given = {
            name: value.item() if isinstance(value, np.generic) else value
            for name, value in self.get_params().items()
        }
        images, noise, levels = given["images"], given["noise"], given["levels"]
        for name in ("images", "batch_size"):
            require(type(given[name]) is int, f"{name} is {given[name]!r}: give a whole number.")
        for name in ("lr", "noise", "minutes"):
            value = 0 if name == "minutes" and given[name] is None else given[name]
            finite = type(value) in (int, float) and math.isfinite(value)
            require(finite, f"{name} is {given[name]!r}: give a number.")
        require(noise >= 0, f"noise is {noise}: give 0 or more.")
        known = self.device is None or has_device(self.device)
        require(known, f"device is {self.device!r}, and there is none here: leave it out.")
        architecture = Architecture(
            levels=levels_of(shape) if levels is None else levels,
            steps=given["steps"],
            hidden_channels=given["hidden_channels"],
            coupling_scale="bounded",
            dequantization="variational" if of_bytes else "uniform",
            first_map="auto",
        )
        return TrainConfig(
            data=DataConfig(data="rows"),
            model=architecture,
            images=images,
            minutes=given["minutes"],
            batch_size=given["batch_size"],
            lr=given["lr"],
            warmup_images=images // 10,
            validate_every=math.inf,
            validation_images=32,
            keep=1,
            seed=seed,
        )

    def _train(self, config: TrainConfig, images: NDArray[Any]) -> ImageFlow:
        rows = ImageData(images)
        splits = Splits(rows, rows, rows, "the rows of X", checksum="")
        quiet = nullcontext() if self.verbose else redirect_stderr(io.StringIO())
        device = None if self.device is None else str(torch.device(self.device))
        with _ONE, TemporaryDirectory() as folder, torch.random.fork_rng(), quiet, _learning():
            run = Path(folder) / "run"
            try:
                trained = train(config, splits, run, device=device, progress=bool(self.verbose))
            except TrainingError as error:  # which names options and files of a run
                where = str(error).split("; ")[0]
                raise TrainingError(
                    f"{where}; give a smaller lr, or rows without values far from all others."
                ) from error
        if trained.interrupted:
            raise KeyboardInterrupt
        return trained.model.cpu().double()


_DTYPES = (np.float64, np.float32, np.uint8)
"""Kept as they are; others become float64."""


@contextmanager
def _learning() -> Iterator[None]:
    """Gradients, whatever is around `fit`."""
    with torch.inference_mode(False), torch.enable_grad():
        yield
