"""What a training step minimises."""

from jaxtyping import Float
from torch import Tensor, nn

from ..models.flow import ImageFlow


class Objective(nn.Module):
    """The loss in bits: bits/dim of the images, plus whatever else the model asks of training.

    A module around `ImageFlow.loss_terms`, for several processes synchronise the gradients of the
    module whose forward is called.

    Args:
        model: the flow.
    """

    def __init__(self, model: ImageFlow) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, x: Float[Tensor, "batch channels height width"], labels: Tensor | None = None
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Return the loss to minimise and the mean bits/dim in it."""
        terms = self.model.loss_terms(x, labels)
        return terms.total, terms.bits_per_dim
