"""The calls of a training run, each on tensors without values."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, wraps
from typing import Any, Concatenate, ParamSpec

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ..bijections.kept import Kept
from ..errors import InputError
from ..models.conditions import ConditionalGlowConfig
from ..models.config import GlowConfig, Memory, Precision, RealNVPConfig
from ..models.flow import ImageFlow
from ..nn import rows
from .recorder import MANY, Recorder, Trace

Config = GlowConfig | RealNVPConfig
MODES: tuple[Memory, ...] = ("stored", "reversible")
Make = Callable[[Any], ImageFlow]
"""Makes the model of a configuration."""


Arguments = ParamSpec("Arguments")


def once(
    call: Callable[Concatenate["FakeModel", Arguments], Trace],
) -> Callable[Concatenate["FakeModel", Arguments], Trace]:
    """Keep what a call of a model gave for these arguments."""

    @wraps(call)
    def wrapper(
        self: "FakeModel", /, *arguments: Arguments.args, **named: Arguments.kwargs
    ) -> Trace:
        key = (call.__name__, *arguments, *named.values())
        if key not in self.traces:
            self.traces[key] = call(self, *arguments, **named)
        return self.traces[key]

    return wrapper


class FakeModel:
    """A model of tensors without values, with gradients.

    Calls take `images`, the batch, and `processor`: whether hidden layers are computed chunk by
    chunk, as a processor does, or at once. Of MANY images they always are at once.

    Args:
        config: of the model.
        make: makes it.
        meta: of meta tensors, or of fake ones, which say that they are a processor's: `autocast`
            wants that, and perhaps a network of one's own. They take five times as long.

    Raises:
        InputError: by the calls too, if something needs values.
    """

    def __init__(self, config: Config, make: Make, meta: bool) -> None:
        self.traces: dict[tuple[Any, ...], Trace] = {}
        self._recorder = Recorder(meta)
        self._tensors: Any = torch.device("meta") if meta else FakeTensorMode()
        with self._running(0, processor=True), torch.random.fork_rng():
            self.model = make(config)
            for parameter in self.model.parameters():
                parameter.grad = torch.empty_like(parameter)
        for index, level in enumerate(levels_of(self.model)):
            self._recorder.follow(level, index)

    def memory_modes(self) -> tuple[Memory, ...]:
        """Those that the model has."""
        try:
            self.model.use(memory="reversible")
        except InputError:
            return ("stored",)
        return MODES

    @once
    def step(self, images: int, memory: Memory, precision: Precision, processor: bool) -> Trace:
        """A forward and a backward pass; `kept` is what there is between them."""
        self.model.use(memory=memory, precision=precision).train()
        with self._running(images, processor) as start, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that some step's activations are stored all the same
            x, labels = batch_of(self.model.config, images)
            start()
            loss = self.model.loss(x, labels)
            kept = self._recorder.kept
            torch.autograd.backward(loss)
            return self._recorder.trace(kept)

    @once
    def forward(self, images: int, precision: Precision, processor: bool) -> Trace:
        """log p(x) without gradients, of a frozen model; `kept` is what that keeps."""
        self.model.use(memory="stored", precision=precision).eval()
        with self._running(images, processor) as start, torch.no_grad(), _keeping(self.model):
            x, labels = batch_of(self.model.config, images)
            start()
            self.model.log_prob(x, labels)
            kept = self._recorder.kept
            start()
            self.model.log_prob(x, labels)
            return self._recorder.trace(kept)

    @once
    def initialization(self, images: int, processor: bool) -> Trace:
        """The data-dependent initialisation."""
        self.model.use(memory="stored", precision="float32").train()
        with self._running(images, processor, new=True) as start:
            x, given = batch_of(self.model.config, images)
            batch = x if self.model.config.bits is None else x.to(torch.uint8)
            start()
            if isinstance(self.model.config, ConditionalGlowConfig):
                self.model.initialize(batch, labels=given)
            else:
                self.model.initialize(batch)
            return self._recorder.trace()

    @contextmanager
    def _running(
        self, images: int, processor: bool, new: bool = False
    ) -> Iterator[Callable[[], None]]:
        """Tensors without values, for a block; what it gets starts the recording."""
        in_chunks = processor and images != MANY
        chunked, rows.CHUNKED = rows.CHUNKED, frozenset({"cpu", "meta"} if in_chunks else ())
        try:
            with self._tensors, self._recorder:
                yield lambda: self._recorder.start(images, processor, new)
        except InputError:
            raise
        except Exception as error:  # in whatever code a model is made of
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(
                f"This model cannot be planned: on tensors without values it stops ({reason}); "
                "its code must not look at values."
            ) from error
        finally:
            rows.CHUNKED = chunked


def batch_of(config: Config, images: int) -> tuple[Tensor, Tensor | None]:
    """Images of nothing, and what they are given: labels, rows of conditions, or nothing."""
    x = torch.zeros(images, *config.image_shape)
    if isinstance(config, ConditionalGlowConfig):
        return x, torch.zeros(images, sum(c.size for c in config.conditions))
    return x, torch.zeros(images, dtype=torch.int64) if config.classes else None


@contextmanager
def _keeping(model: nn.Module) -> Iterator[None]:
    """Keep what a frozen model keeps, which it does not of tensors without values."""

    def keep(part: Any) -> None:
        values: dict[Any, Any] = {}

        def kept(name: Any, compute: Callable[[], Any], _: Any) -> Any:
            if name not in values:
                values[name] = compute()
            return values[name]

        part.kept = kept

    parts: list[Any] = [module for module in model.modules() if isinstance(module, Kept)]
    for part in parts:
        keep(part)
    try:
        yield
    finally:
        for part in parts:
            del part.kept


@lru_cache(maxsize=8)
def fake_model(config: Config, make: Make, meta: bool) -> FakeModel:
    """The model of a configuration, made once."""
    return FakeModel(config, make, meta)


def levels_of(model: nn.Module) -> list[nn.Module]:
    """The levels of a Glow, the scales of a RealNVP: what its list of modules holds."""
    lists = [child for child in model.children() if isinstance(child, nn.ModuleList)]
    return list(lists[0]) if lists else [model]
