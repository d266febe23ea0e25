"""Glow of x given c: fields, vectors and classes that every coupling and every prior sees."""

from collections.abc import Mapping, Sequence
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..bijections.base import without_autocast
from ..bijections.exact import is_transformed
from ..bijections.kept import is_traced
from ..errors import InputError
from ..nn.conditioning_network import ConditioningNetwork
from .conditions import Condition, ConditionalGlowConfig
from .glow import Glow, NetworkFactory

if TYPE_CHECKING:
    from torch.distributions import Distribution

Features = tuple[Float[Tensor, "batch features *grid"], ...]
"""What the conditioning network makes of conditions: a map a level, first level first."""


class ConditionalGlow(Glow):
    """p(x | c): a `Glow` whose couplings and priors see c, by one conditioning network.

    log p(x | c) = Σ_levels log N(ε; 0, I) + log|det dε/dx| with ε = f(x; h_1(c), …, h_L(c)).

    The couplings of level l take [x1, h_l(c)], its prior [z1, h_l(c)]; both start at zero, so that
    a new model does not look at c. Where other models take `labels`, this one takes c, as `pack`
    does: rows, or values by name, or what `features` has made of them. One c does for any number
    of x. `given(c)` is the distribution of x.

    Example:
        >>> import torch
        >>> from glowflow import Condition, ConditionalGlowConfig
        >>> conditions = (
        ...     Condition(name="y", kind="field", shape=(1, 4, 4)),
        ...     Condition(name="theta", kind="vector", shape=(2,)),
        ... )
        >>> model = ConditionalGlow(
        ...     ConditionalGlowConfig(
        ...         image_shape=(1, 8, 8), levels=2, steps=2, hidden_channels=8, bits=None,
        ...         conditions=conditions,
        ...     )
        ... )
        >>> x = torch.randn(6, 1, 8, 8)
        >>> c = {"y": torch.randn(6, 1, 4, 4), "theta": torch.randn(6, 2)}
        >>> model.initialize(x, labels=c)
        >>> model.log_prob(x, c).shape
        torch.Size([6])
        >>> posterior = model.given({"y": c["y"][0], "theta": c["theta"][0]})
        >>> posterior.log_prob(x).shape, posterior.sample((3,)).shape
        (torch.Size([6]), torch.Size([3, 1, 8, 8]))

    Args:
        config: every hyperparameter, and the conditions.
        network: as of `Glow`; a `forward` with a parameter `context` is given h_l(c).

    Raises:
        InputError: the configuration names a part that there is not.

    Source: Lu & Huang 2020, "Structured output learning with conditional generative flows";
    Ardizzone et al. 2019, "Guided image generation with conditional invertible neural networks".
    """

    model_type = "conditional-glow"
    config_class = ConditionalGlowConfig
    config: ConditionalGlowConfig

    def __init__(
        self, config: ConditionalGlowConfig, *, network: NetworkFactory | None = None
    ) -> None:
        super().__init__(config, network=network)
        by_kind = {kind: [c.shape for c in self.conditions_of(kind)] for kind in _KINDS}
        fields: Any = by_kind["field"]
        self.conditioning = ConditioningNetwork(
            fields,
            [size for (size,) in by_kind["vector"]],
            [count for (count,) in by_kind["class"]],
            config.image_shape[1:],
            config.levels,
            config.condition_channels,
            config.padding,
            masks=config.missing == "mask",
        )

    @property
    def is_conditional(self) -> bool:
        """True."""
        return True

    def conditions_of(self, kind: str) -> tuple[Condition, ...]:
        """Those that are fields, vectors or classes."""
        return tuple(c for c in self.config.conditions if c.kind == kind)

    def given(self, c: Any, *, temperature: float = 1.0) -> "Distribution":
        """p(x | c) as a `torch.distributions.Distribution`, with `log_prob`, `sample`, `rsample`.

        The conditioning network runs now, and not again: the distribution keeps what it has made
        of c, with gradients if they are on. Where it is differentiated by x again and again, make
        it under `torch.no_grad()`: a backward pass frees the network's graph.

        One c, without a batch axis or with one of 1, has `batch_shape` (); N of them have (N,).

        Args:
            c: as `pack` takes it.
            temperature: standard deviation of the latents.

        Raises:
            InputError: c does not fit, or is not finite.
        """
        # By name: the distributions stand above the models.
        return resolve_name("glowflow.interop.distribution:GivenDistribution")(
            self, c, temperature=temperature
        )

    def pack(self, c: Any) -> Float[Tensor, "batch values"]:
        """Rows of conditions: the values of each after one another, in the configuration's order.

        Args:
            c: a tensor or array for each condition by name, (batch, *shape) or one of (*shape); of
                a single condition also without its name; rows are returned. Classes are integers.

        Returns:
            (batch, values) in the dtype of the weights, on their device.

        Raises:
            InputError: a condition is missing, is of another shape, or is no such class.
        """
        conditions = self.config.conditions
        total = sum(condition.size for condition in conditions)
        if isinstance(c, Tensor) and c.dim() == 2 and c.shape[1] == total:
            return c.to(self.device, self.dtype)
        if not isinstance(c, Mapping):
            if len(conditions) > 1 or c is None:
                names = ", ".join(self.config.names)
                raise InputError(f"This model is given {names}: say what each is, {{name: value}}.")
            c = {conditions[0].name: c}
        if unknown := sorted(map(str, c.keys() - set(self.config.names))):
            names = ", ".join(self.config.names)
            raise InputError(f"There is no condition {unknown[0]!r}: this model is given {names}.")
        columns = [self._rows_of(condition, c.get(condition.name)) for condition in conditions]
        batch = max((column.shape[0] for column in columns), default=1)
        for condition, column in zip(conditions, columns, strict=True):
            if column.shape[0] not in (1, batch):
                raise InputError(
                    f"There are {column.shape[0]} values of {condition.name} and {batch} of "
                    "others: give as many of each, or one."
                )
        return torch.cat([column.expand(batch, -1) for column in columns], dim=1)

    def _rows_of(self, condition: Condition, value: Any) -> Float[Tensor, "batch values"]:
        shape, name = condition.value_shape, condition.name
        if value is None:
            raise InputError(f"The condition {name} is missing: give it.")
        try:
            found = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"Condition {name} is no array of numbers: give one.") from error
        if tuple(found.shape) == shape:
            found = found[None]
        if found.dim() != len(shape) + 1 or tuple(found.shape[1:]) != shape or found.is_complex():
            raise InputError(
                f"Condition {name} is {tuple(found.shape)}: this model takes "
                f"({', '.join(map(str, ('batch', *shape)))}), or one of {shape}."
            )
        if condition.kind == "class":
            if found.is_floating_point():
                raise InputError(f"Condition {name} is {found.dtype}: give whole numbers.")
            (count,) = condition.shape
            if (
                found.numel()
                and not is_transformed()
                and not 0 <= int(found.min()) <= int(found.max()) < count
            ):
                raise InputError(
                    f"Condition {name} must lie between 0 and {count - 1} for {count} classes."
                )
        return found.reshape(found.shape[0], condition.size).to(self.device, self.dtype)

    def unpack(
        self, rows: Float[Tensor, "batch values"]
    ) -> tuple[list[Tensor], list[Tensor], list[Int[Tensor, " batch"]]]:
        """The fields, the vectors and the classes in rows of conditions."""
        found: dict[str, list[Tensor]] = {kind: [] for kind in _KINDS}
        sizes = [condition.size for condition in self.config.conditions]
        for condition, part in zip(
            self.config.conditions, torch.split(rows, sizes, dim=1), strict=True
        ):
            value = part.reshape(rows.shape[0], *condition.value_shape)
            found[condition.kind].append(value.long() if condition.kind == "class" else value)
        return found["field"], found["vector"], found["class"]

    @without_autocast
    def features(self, c: Any) -> Features:
        """What the conditioning network makes of c, (batch, F, *grid/2^l) at level l.

        Wherever c is asked for, these do too, and the network does not run.

        Raises:
            InputError: c does not fit.
        """
        if _is_features(c):
            return c
        maps: Features = self.conditioning(*self.unpack(self.pack(c)))
        return maps

    @torch.no_grad()
    def fit_conditions(self, c: Any) -> None:
        """Take the means and standard deviations of the conditions from these, unless they are
        known; `initialize` does it from its own batch."""
        fields, vectors, _ = self.unpack(self.pack(c))
        self.conditioning.fit(fields, vectors)

    def _contexts(self, context: Any, batch: int) -> Sequence[Tensor]:
        maps = self.features(context)
        return [h if h.shape[0] == batch else h.expand(batch, *h.shape[1:]) for h in maps]

    def _initialize(self, x: Tensor, labels: Any = None) -> None:
        self.fit_conditions(labels)
        super()._initialize(x, labels)

    def _log_prob_by_level(self, x: Tensor, labels: Any = None) -> list[Tensor]:
        return self._log_prob_of_each_level(x, labels)

    def _check_labels(self, labels: Any, count: int) -> None:
        have = (labels if _is_features(labels) else (self.pack(labels),))[0].shape[0]
        if have not in (1, count):
            raise InputError(f"There are {have} conditions for {count} images: give as many, or 1.")

    def _part(self, labels: Any, start: int, stop: int) -> Any:
        if _is_features(labels):
            return tuple(h if h.shape[0] == 1 else h[start:stop] for h in labels)
        rows = self.pack(labels)
        return rows if rows.shape[0] == 1 else rows[start:stop]

    def _ready(self, labels: Any) -> Any:
        """One c is for any number of x: the network runs once."""
        if _is_features(labels):
            return labels
        rows = self.pack(labels)
        return self.features(rows) if rows.shape[0] == 1 else rows


_KINDS = ("field", "vector", "class")


def require_finite(rows: Float[Tensor, "batch values"], config: ConditionalGlowConfig) -> None:
    """Refuse rows of conditions with values that are infinite, or missing where none may be.

    Raises:
        InputError: one is; the message names the condition and the place.
    """
    bad = torch.isinf(rows) if config.missing == "mask" else ~torch.isfinite(rows)
    if is_traced() or not bool(bad.any()):
        return
    sample, column = (int(i) for i in torch.nonzero(bad)[0])
    for condition in config.conditions:
        if column < condition.size:
            break
        column -= condition.size
    place = tuple(int(i) for i in np.unravel_index(column, condition.value_shape))
    raise InputError(
        f"Condition {condition.name} is NaN or infinite in sample {sample} at {place}: give "
        "numbers."
    )


def _is_features(c: Any) -> bool:
    return isinstance(c, tuple) and bool(c) and all(isinstance(h, Tensor) for h in c)
