"""The three programs of a model, as PyTorch records them."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from ..models.flow import ImageFlow, Latents
from ..models.priors import standard_normal_log_prob
from .portable import Precision, portable


class Encode(nn.Module):
    """x ↦ whitened latents, a tuple, first level first."""

    def __init__(self, model: ImageFlow) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        x: Float[Tensor, "batch channels height width"],
        labels: Int[Tensor, " batch"] | None = None,
    ) -> Latents:
        """Return the latents."""
        return self.model(x, labels)[0]


class Decode(nn.Module):
    """Latents ↦ x, the inverse of `Encode`."""

    def __init__(self, model: ImageFlow) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, latents: Latents, labels: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch channels height width"]:
        """Return x."""
        return self.model.inverse(latents, labels)[0]


class LogProb(nn.Module):
    """x ↦ log p(x), or log p(x | label), in nats."""

    def __init__(self, model: ImageFlow) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        x: Float[Tensor, "batch channels height width"],
        labels: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, " batch"]:
        """Return log p(x)."""
        latents, log_det = self.model(x, labels)
        return standard_normal_log_prob(latents) + log_det


@dataclass(frozen=True)
class Recorded:
    """A program, and what its inputs and outputs are called."""

    program: ExportedProgram
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def record(model: ImageFlow, precision: Precision = "float32") -> dict[str, Recorded]:
    """`encode`, `decode` and `log_prob` of the model, for batches of any size."""
    own = portable(model, precision)
    x = torch.zeros(2, *own.config.image_shape)
    latents = tuple(torch.zeros(2, *shape) for shape in own.latent_shapes)
    names = tuple(f"latent{level}" for level in range(1, len(latents) + 1))
    batch = {0: Dim("batch")}
    labels: tuple[Tensor, ...] = (torch.zeros(2, dtype=torch.int64),) if own.config.classes else ()
    of_labels = ("labels",) if labels else ()

    def recorded(
        part: nn.Module, given: Tensor | Latents, inputs: tuple[str, ...], outputs: tuple[str, ...]
    ) -> Recorded:
        dynamic = batch if isinstance(given, Tensor) else tuple(batch for _ in given)
        shapes = (dynamic, *(batch for _ in labels))
        with torch.no_grad():
            program = torch.export.export(
                part, (given, *labels), dynamic_shapes=shapes, strict=False
            )
        return Recorded(program, (*inputs, *of_labels), outputs)

    return {
        "encode": recorded(Encode(own), x, ("x",), names),
        "decode": recorded(Decode(own), latents, names, ("x",)),
        "log_prob": recorded(LogProb(own), x, ("x",), ("log_prob",)),
    }
