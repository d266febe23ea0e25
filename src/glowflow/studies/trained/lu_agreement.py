"""How far a Glow with LU convolutions and one with plain ones are from being one function."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ...bijections import ChannelMixing, Invertible1x1Conv
from ...data.inputs import given_to_samples
from ...data.types import ImageData, Splits
from ...models.config import GlowConfig, PermutationName
from ...models.flow import ImageFlow
from ...models.glow import Glow
from ...models.registry import load_model, make_model
from ...training.initialisation import initialize, model_config_for
from .results import TrialResult, of
from .study import Trial
from .trials import run_folder

COMPARED = 64
"""Images on which two models are compared, at most."""


@dataclass(frozen=True)
class Agreement:
    """How far two models are from being one function."""

    when: str
    dtype: str
    latents: float
    """Largest |difference| of a latent."""
    log_det: float
    """Largest |difference| of log|det dε/dx|, in nats an image."""


def agreements_of(
    trial: Trial, splits: Splits, folder: Path, results: Sequence[TrialResult]
) -> list[Agreement]:
    """Both kinds at the start of the first seed's trials, and after its training."""
    config = model_config_for(trial.config, splits)
    assert isinstance(config, GlowConfig)
    lu, plain = (
        initialised(config, kind, splits.train, trial.config.seed) for kind in ("lu", "plain")
    )
    some = torch.from_numpy(splits.train.images[:COMPARED].copy())
    given = given_to_samples(plain, splits.train, len(some))
    agreements = [
        agreement("at the start of a trial", plain, lu, some, given),
        agreement("at the start, W decomposed", plain.double(), decomposed(plain), some, given),
    ]
    ended = [result for result in of(results, "plain") if not result.stopped]
    if ended:
        run = run_folder(folder, "plain", ended[0].seed)
        for model in (_glow(load_model(run)), _glow(load_model(run).double())):
            agreements.append(
                agreement("after training, W decomposed", model, decomposed(model), some, given)
            )
    return agreements


def initialised(
    config: GlowConfig, permutation: PermutationName, data: ImageData, seed: int
) -> Glow:
    """The model that a trial of this seed starts from."""
    torch.manual_seed(seed)
    model = _glow(make_model(replace(config, permutation=permutation)))
    initialize(model, data, seed)
    return model.eval()


def _glow(model: ImageFlow) -> Glow:
    assert isinstance(model, Glow)
    return model


@torch.no_grad()
def decomposed(plain: Glow) -> Glow:
    """The same function with each W as P L (U + diag(s))."""
    model = _glow(make_model(replace(plain.config, permutation="lu")))
    model = model.to(plain.device, plain.dtype)
    model.load_state_dict(plain.state_dict(), strict=False)
    theirs = {name: m for name, m in plain.named_modules() if isinstance(m, ChannelMixing)}
    for name, mixing in model.named_modules():
        if isinstance(mixing, Invertible1x1Conv):
            mixing.set_matrix(theirs[name].matrix())
    return model.eval()


@torch.no_grad()
def agreement(
    when: str, one: Glow, other: Glow, images: Tensor, given: Tensor | None = None
) -> Agreement:
    """Of two models, on the same images, given the same."""
    x = one.to_float(images, noise="center")
    (latents, log_det), (others, other_log_det) = one(x, given), other(x, given)
    by_level = [float((a - b).abs().max()) for a, b in zip(latents, others, strict=True)]
    by_image = float((log_det - other_log_det).abs().max())
    return Agreement(when, str(one.dtype).removeprefix("torch."), max(by_level), by_image)
