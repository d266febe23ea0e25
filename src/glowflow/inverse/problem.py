"""What was observed, and of what prior."""

import copy
import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from ..bijections import Interlaced
from ..errors import InputError
from ..models.flow import ImageFlow
from .operators import Operator


def prior_of(model: ImageFlow) -> ImageFlow:
    """A copy in eval mode whose weights have no gradients, or the model, if it is as much."""
    if not model.training and not any(weight.requires_grad for weight in model.parameters()):
        return model
    return copy.deepcopy(model).eval().requires_grad_(False)


@dataclass(frozen=True, eq=False)
class Problem:
    """y = A(x) + σn, n ~ N(0, 1), with x from a flow.

    log p(ε | y) = log N(ε; 0, I) − ½‖y − A(x(ε))‖²/σ² up to a constant, in nats, over the whitened
    latents ε of all levels.

    Args:
        model: the prior, as `prior_of` gives it.
        operator: A.
        observed: (*data) y, in the model's units: −½ … ½ for images.
        noise: σ in the same units; a number, or of the shape of the data.
        labels: (1,) the class, for a class-conditional model.

    Raises:
        InputError: A gives another shape than the data's, σ is not positive, or the prior has the
            first map `interlaced`, whose inverse has jumps.
    """

    model: ImageFlow
    operator: Operator
    observed: Tensor
    noise: float | Tensor
    labels: Tensor | None = None
    sizes: list[int] = field(init=False)

    def __post_init__(self) -> None:
        if any(isinstance(module, Interlaced) for module in self.model.modules()):
            raise InputError(
                "The first map `interlaced` tells values from bytes, so that its inverse has "
                "jumps, which gradients do not see: solve with a prior of another first map."
            )
        model = prior_of(self.model)
        object.__setattr__(self, "model", model)
        observed = self.observed.to(model.device, model.dtype)
        object.__setattr__(self, "observed", observed)
        noise = torch.as_tensor(self.noise, dtype=model.dtype, device=model.device)
        if not bool((noise > 0).all()) or not bool(torch.isfinite(noise).all()):
            raise InputError("The noise must be finite and above 0 everywhere.")
        object.__setattr__(self, "noise", noise)
        object.__setattr__(self, "sizes", [math.prod(shape) for shape in model.latent_shapes])
        if not bool(torch.isfinite(observed).all()):
            raise InputError("What was observed has values that are not finite: mask them.")
        with torch.no_grad():
            made = self._apply(torch.zeros(1, *model.config.image_shape).to(observed))
        if made.shape[1:] != observed.shape:
            raise InputError(
                f"The operator makes {tuple(made.shape[1:])} of a field and "
                f"{tuple(observed.shape)} was observed: they must be of one shape."
            )

    @property
    def dims(self) -> int:
        """Latent values."""
        return sum(self.sizes)

    def field(self, flat: Float[Tensor, "chains dims"]) -> Float[Tensor, "chains channels *grid"]:
        """x of latents as rows."""
        rows = torch.split(flat, self.sizes, dim=1)
        latents = tuple(
            eps.reshape(-1, *shape)
            for eps, shape in zip(rows, self.model.latent_shapes, strict=True)
        )
        labels = None if self.labels is None else self.labels.to(flat.device).expand(len(flat))
        return self.model.inverse(latents, labels)[0]

    def made(self, flat: Float[Tensor, "chains dims"]) -> Float[Tensor, " chains *data"]:
        """A(x) of latents as rows."""
        return self._apply(self.field(flat))

    def log_posterior(
        self, flat: Float[Tensor, "chains dims"], times: float = 1.0
    ) -> Float[Tensor, " chains"]:
        """Up to a constant, in nats, if the noise is so many times what it is; −∞ where the field
        is not finite."""
        misfit = (self.observed - self.made(flat)) / (times * self.noise)
        value = -0.5 * (flat**2).sum(dim=1) - 0.5 * (misfit**2).flatten(1).sum(dim=1)
        return value.nan_to_num(nan=-math.inf, neginf=-math.inf)

    def _apply(self, x: Tensor) -> Tensor:
        made = self.operator(x)
        if not isinstance(made, Tensor) or made.shape[:1] != x.shape[:1]:
            raise InputError("The operator must make a tensor of a batch of fields, one a field.")
        return made
