"""The programs of a model, as PyTorch records them."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ..errors import InputError, in_one_line
from ..models.flow import ImageFlow, Latents
from ..models.priors import standard_normal_log_prob
from .portable import Precision, portable

Labels = Int[Tensor, " batch"] | None


class Encode(nn.Module):
    """x ↦ whitened latents, a tuple, first level first."""

    def __init__(self, model: ImageFlow) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, x: Float[Tensor, "batch channels height width"], labels: Labels = None
    ) -> Latents:
        """Return the latents."""
        return self.model(x, labels)[0]


class Decode(nn.Module):
    """Latents ↦ x, the inverse of `Encode`."""

    def __init__(self, model: ImageFlow) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, latents: Latents, labels: Labels = None
    ) -> Float[Tensor, "batch channels height width"]:
        """Return x."""
        return self.model.inverse(latents, labels)[0]


class LogProb(nn.Module):
    """x ↦ log p(x), or log p(x | label), in nats."""

    def __init__(self, model: ImageFlow) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, x: Float[Tensor, "batch channels height width"], labels: Labels = None
    ) -> Float[Tensor, " batch"]:
        """Return log p(x)."""
        latents, log_det = self.model(x, labels)
        return standard_normal_log_prob(latents) + log_det


class Whole(nn.Module):
    """All three at once, (x, latents) ↦ (latents of x, log p(x), x of the latents)."""

    def __init__(self, model: ImageFlow) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        x: Float[Tensor, "batch channels height width"],
        latents: Latents,
        labels: Labels = None,
    ) -> tuple[Latents, Float[Tensor, " batch"], Float[Tensor, "batch channels height width"]]:
        """Return what the three return."""
        encoded, log_det = self.model(x, labels)
        log_prob = standard_normal_log_prob(encoded) + log_det
        return encoded, log_prob, self.model.inverse(latents, labels)[0]


@dataclass(frozen=True)
class Names:
    """What the inputs and outputs of a program are called, in order."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def names_of(model: ImageFlow) -> dict[str, Names]:
    """Of each of the three programs."""
    latents = tuple(f"latent{level}" for level in range(1, len(model.latent_shapes) + 1))
    labels = ("labels",) if model.config.classes else ()
    return {
        "encode": Names(("x", *labels), latents),
        "decode": Names((*latents, *labels), ("x",)),
        "log_prob": Names(("x", *labels), ("log_prob",)),
    }


def programs_of(model: ImageFlow, precision: Precision) -> dict[str, ExportedProgram]:
    """`encode`, `decode` and `log_prob` of the model, for batches of any size.

    Raises:
        InputError: as `portable`; or a part of one's own cannot be recorded.
    """
    own = portable(model, precision)
    x, latents, labels = _examples(own)
    return {
        "encode": _recorded(Encode(own), x, *labels),
        "decode": _recorded(Decode(own), latents, *labels),
        "log_prob": _recorded(LogProb(own), x, *labels),
    }


def whole_program_of(model: ImageFlow, precision: Precision) -> ExportedProgram:
    """`Whole` of the model; errors as `programs_of`."""
    own = portable(model, precision)
    x, latents, labels = _examples(own)
    return _recorded(Whole(own), x, latents, *labels)


def _examples(model: ImageFlow) -> tuple[Tensor, Latents, tuple[Tensor, ...]]:
    x = torch.zeros(2, *model.config.image_shape)
    latents = tuple(torch.zeros(2, *shape) for shape in model.latent_shapes)
    return x, latents, (torch.zeros(2, dtype=torch.int64),) if model.config.classes else ()


def _recorded(program: nn.Module, *given: Any) -> ExportedProgram:
    batch = {0: Dim("batch")}
    shapes = tuple(batch if isinstance(one, Tensor) else tuple(batch for _ in one) for one in given)
    try:
        with torch.no_grad():
            made = torch.export.export(program.eval(), given, dynamic_shapes=shapes, strict=False)
    except Exception as error:  # of whatever kind PyTorch meets it
        raise InputError(
            "PyTorch cannot record this model as a program: a part of your own does what depends "
            f"on values or on the size of the batch ({in_one_line(error)[:300]})."
        ) from error
    for node in made.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of the machine
    return made
