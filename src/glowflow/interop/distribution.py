"""A flow as a `torch.distributions.Distribution`."""

import copy
import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import Distribution, constraints, register_kl

from ..bijections.batchnorm import by_batches
from ..bijections.logit import Logit
from ..errors import InputError
from ..models.conditional import ConditionalGlow, require_finite
from ..models.flow import ImageFlow
from ..models.priors import standard_normal_log_prob
from ..models.realnvp import RealNVP

NO_MOMENTS = "The {} of a flow has no closed form: take that of sample((n,))."


class FlowDistribution(Distribution):
    """log p(x) = log N(ε; 0, T²I) + log|det dε/dx|, with ε the latents of x and T the temperature.

    As `distribution`, which makes it, says.
    """

    has_rsample = True

    def __init__(
        self,
        model: ImageFlow,
        labels: Int[Tensor, "*batch"] | Sequence[int] | int | None = None,
        *,
        temperature: Float[Tensor, ""] | float = 1.0,
        validate_args: bool | None = None,
    ) -> None:
        if not isinstance(model, ImageFlow):
            raise InputError(f"The model is a {type(model).__name__}: give a Glow or a RealNVP.")
        self.model = model
        self.labels, batch_shape = self._conditioned_on(labels)
        if not isinstance(temperature, (Real, Tensor)) or torch.as_tensor(temperature).dim():
            raise InputError(f"temperature is {temperature!r}: give one number above 0.")
        # a number () does not widen float32 tensors, whatever its own dtype is
        if not isinstance(temperature, Tensor):
            temperature = torch.tensor(float(temperature), dtype=torch.float64)
        self.temperature = temperature
        super().__init__(batch_shape, torch.Size(model.config.image_shape), validate_args)

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        """A temperature above 0; labels from 0 up to, but below, the number of classes."""
        found: dict[str, Any] = {"temperature": constraints.positive}
        if self.labels is not None:
            last = self.model.config.classes - 1
            found["labels"] = constraints.integer_interval(0, last)  # type: ignore[no-untyped-call]
        return found

    @property
    def support(self) -> constraints.Constraint:
        """Every real image; of a RealNVP for bytes, what its logit is defined on."""
        each: Any = constraints.real
        if isinstance(self.model, RealNVP) and isinstance(self.model.logit, Logit):
            limit = self.model.logit.limit
            each = constraints.interval(-limit, limit)  # type: ignore[no-untyped-call]
        return constraints.independent(each, len(self.event_shape))  # type: ignore[no-untyped-call]

    def log_prob(self, value: Float[Tensor, "*sample_and_event"]) -> Tensor:
        """log p(value) in nats, of the shape that `value`, without the image's, and `batch_shape`
        broadcast to; with gradients to `value`, the weights and the temperature.

        Raises:
            ValueError: values are checked, and one is of another shape or not in the support.
            InputError: the values' dtype does not fit the weights'.
        """
        empty = isinstance(value, Tensor) and not value.numel()
        if self._validate_args and not empty:  # PyTorch's check of an image cannot take none
            self._validate_sample(value)
        axes = len(self.event_shape)
        event = value.shape[-axes:]
        shapes = value.shape[:-axes], self.batch_shape
        batch = torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
        labels = self._labels_of(batch)
        x = self.model._checked(value.expand(batch + event).reshape(-1, *event), labels)
        with by_batches(False):
            latents, log_det = self.model(x, labels)
        scaled = tuple(eps / self.temperature for eps in latents)
        log_det = log_det - self.event_shape.numel() * self.temperature.log()
        return (standard_normal_log_prob(scaled) + log_det).reshape(batch)

    def sample(
        self, sample_shape: Sequence[int] | int = torch.Size()
    ) -> Float[Tensor, "*sample_and_event"]:
        """`rsample` without gradients, in parts, so that memory is that of a part."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def rsample(
        self, sample_shape: Sequence[int] | int = torch.Size()
    ) -> Float[Tensor, "*sample_and_event"]:
        """x of latents T·ε, ε ~ N(0, I) from PyTorch's global generator of the model's device; with
        gradients to the weights and the temperature."""
        counts = (sample_shape,) if isinstance(sample_shape, int) else sample_shape
        shape = self._extended_shape(torch.Size(counts))
        model, batch = self.model, shape[: -len(self.event_shape)]
        sizes = [math.prod(each) for each in model.latent_shapes]
        noise = torch.randn(batch.numel(), sum(sizes), dtype=model.dtype, device=model.device)
        rows = torch.split(noise * self.temperature, sizes, dim=1)
        latents = tuple(
            eps.reshape(-1, *each) for eps, each in zip(rows, model.latent_shapes, strict=True)
        )
        labels = self._labels_of(batch)
        if torch.is_grad_enabled():
            x, _ = model.inverse(latents, labels)
        else:
            x = model.decode(latents, labels)
        return x.reshape(shape)

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "FlowDistribution":
        """Refused: there is one set of weights, and nothing to expand.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            f"A flow cannot be expanded to {tuple(batch_shape)}, for its parameters are one "
            "model's weights and have no batch: draw with sample(sample_shape), or give labels of "
            "that shape to a class-conditional model."
        )

    def entropy(self) -> Tensor:
        """Has no closed form.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "The entropy of a flow has no closed form: average -log_prob(x) over x = sample((n,))."
        )

    @property
    def mean(self) -> Tensor:
        """Has no closed form, and raises NotImplementedError."""
        raise NotImplementedError(NO_MOMENTS.format("mean"))

    @property
    def variance(self) -> Tensor:
        """Has no closed form, and raises NotImplementedError."""
        raise NotImplementedError(NO_MOMENTS.format("variance"))

    def _conditioned_on(self, given: Any) -> tuple[Tensor | None, torch.Size]:
        labels = _labels(self.model, given)
        return labels, torch.Size() if labels is None else labels.shape

    def _labels_of(self, batch: torch.Size) -> Int[Tensor, " batch"] | None:
        if self.labels is None:
            return None
        return self.labels.to(self.model.device).expand(batch).reshape(-1)


class GivenDistribution(FlowDistribution):
    """log p(x | c) of a `ConditionalGlow`: what `model.given(c)` makes.

    The conditioning network has run once, with the weights as they were. `batch_shape` is () for
    one c and (N,) for N of them.
    """

    model: ConditionalGlow

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        """A temperature above 0."""
        return {"temperature": constraints.positive}

    def _conditioned_on(self, given: Any) -> tuple[None, torch.Size]:
        if not isinstance(self.model, ConditionalGlow):
            raise InputError(
                f"A {type(self.model).__name__} is given nothing: make a ConditionalGlow."
            )
        rows = self.model.pack(given)
        require_finite(rows, self.model.config)
        self.features = self.model.features(rows)
        count = rows.shape[0]
        return None, torch.Size() if count == 1 else torch.Size((count,))

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> "GivenDistribution":
        """The same conditions for a larger batch; the conditioning network does not run again.

        Raises:
            InputError: N conditions do not broadcast to this shape.
        """
        wanted = torch.Size(batch_shape)
        own = self.batch_shape
        if len(wanted) < len(own) or (own and wanted[-1] != own[0]):
            raise InputError(
                f"{own[0]} conditions cannot be expanded to {tuple(wanted)}: its last number must "
                f"be {own[0]}."
            )
        expanded = copy.copy(self)
        expanded._batch_shape = wanted
        return expanded

    def _labels_of(self, batch: torch.Size) -> Any:
        if not self.batch_shape:
            return self.features
        return tuple(
            h.expand(*batch, *h.shape[1:]).reshape(-1, *h.shape[1:]) for h in self.features
        )


def _no_divergence(p: Distribution, q: Distribution) -> Tensor:
    raise NotImplementedError(
        "The Kullback-Leibler divergence of a flow has no closed form: average p.log_prob(x) - "
        "q.log_prob(x) over x = p.rsample((n,))."
    )


for _pair in (
    (FlowDistribution, FlowDistribution),
    (FlowDistribution, Distribution),
    (Distribution, FlowDistribution),
):
    register_kl(*_pair)(_no_divergence)  # type: ignore[no-untyped-call]


def distribution(
    model: ImageFlow,
    labels: Int[Tensor, "*batch"] | Sequence[int] | int | None = None,
    *,
    temperature: Float[Tensor, ""] | float = 1.0,
    validate_args: bool | None = None,
) -> FlowDistribution:
    """A model's density as a `torch.distributions.Distribution` over images.

    log p(x) = log N(ε; 0, T²I) + log|det dε/dx|, in nats, with ε the latents of x; `event_shape` is
    (channels, height, width). At T = 1 it is `model.log_prob(x)`; at others it is the exact density
    of what `model.sample(temperature=T)` decodes. It follows the model: its weights, device, dtype.

    Of a model for bytes it is the density of x, scaled to [−½, ½) and dequantised:
    `model.to_float(images)` makes x of bytes, `model.to_images(x)` makes bytes of x, and
    log P(images) ≥ E_u log p(x) − D·n·log 2 for D values of n bits, u the noise of `to_float`.
    Of a model for float data it is the density of these. Batch normalisation takes its running
    averages, whatever the model's mode is.

    Samples come from PyTorch's global generator, so that `torch.manual_seed` repeats them. There
    are no closed forms of mean, variance, entropy, mode and divergences: NotImplementedError.

    Example:
        >>> import torch
        >>> from glowflow import Glow, GlowConfig
        >>> model = Glow(GlowConfig(image_shape=(1, 8, 8), levels=2, steps=2, hidden_channels=8))
        >>> p = distribution(model)
        >>> x = p.rsample((5, 2))
        >>> x.shape, p.log_prob(x).shape
        (torch.Size([5, 2, 1, 8, 8]), torch.Size([5, 2]))

    Args:
        model: a Glow or a RealNVP.
        labels: of a class-conditional model: one, or any shape of them, which is `batch_shape`.
            Of a `ConditionalGlow` its conditions, as its `given` takes them.
            All classes, equally probable, are `MixtureSameFamily(Categorical(logits=zeros(K)),
            distribution(model, range(K)))`.
        temperature: T, a number above 0, or a tensor () to have its gradient.
        validate_args: as of every distribution of PyTorch, which checks by default; a check needs
            values, so that `vmap` wants it False.

    Raises:
        InputError: the model is no flow, labels are missing, too many or no whole numbers.
        ValueError: arguments are checked, and the temperature or a label is out of range.
    """
    if isinstance(model, ConditionalGlow):
        return GivenDistribution(
            model, labels, temperature=temperature, validate_args=validate_args
        )
    return FlowDistribution(model, labels, temperature=temperature, validate_args=validate_args)


def _labels(model: ImageFlow, given: Any) -> Int[Tensor, "*batch"] | None:
    """The labels as a tensor; None where the model has no classes."""
    classes = model.config.classes
    if given is None:
        if classes:
            raise InputError(
                f"This model has {classes} classes: give labels; of range({classes}) and "
                "MixtureSameFamily is the mixture of all."
            )
        return None
    if not classes:
        raise InputError("This model has no classes: leave the labels out.")
    if not isinstance(given, Tensor) and np.size(given) == 0:
        given = np.asarray(given, dtype=np.int64)  # which is of floats by itself
    try:
        labels = torch.as_tensor(np.asarray(given) if not isinstance(given, Tensor) else given)
    except (TypeError, ValueError) as error:
        raise InputError(f"Labels are {given!r}: give integers.") from error
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise InputError(f"Labels are {labels.dtype}: give integers.")
    return labels.long().to(model.device)
