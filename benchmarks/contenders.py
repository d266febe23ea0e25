"""What is compared: bare convolutions, this project, normflows' Glow; one small interface."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from glowflow import Glow, GlowConfig

INSTALL = "pip install -c constraints.txt -e '.[bench]'"
NORMFLOWS = "normflows float32"
BARE_FORMATS = {
    "contiguous": torch.contiguous_format,
    "channels_last": torch.channels_last,
}
DISTURBANCE = 1e-3
"""Standard deviation of what is added to every parameter: zeros are cheaper on some devices."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What every contender gets."""

    size: int = 32
    """Height and width of the images in pixels; they have 3 channels."""
    levels: int = 3
    hidden: int = 512
    """Channels of the two hidden layers of each coupling network."""
    batch: int = 16
    """Images of a training step, and images that are sampled at once."""


@dataclass(frozen=True)
class Mode:
    """How this project runs (`Glow.use`)."""

    precision: Literal["float32", "bf16"]
    memory: Literal["stored", "reversible"]
    compile: bool = False


MODES = {
    "float32-stored": Mode("float32", "stored"),
    "float32-reversible": Mode("float32", "reversible"),
    "bf16-stored": Mode("bf16", "stored"),
    "bf16-reversible": Mode("bf16", "reversible"),
    "float32-compile": Mode("float32", "stored", compile=True),
    "bf16-compile": Mode("bf16", "stored", compile=True),
}


class Contender(Protocol):
    """What is timed, and whose memory is measured."""

    compiled: bool
    """Whether the first training step compiles."""

    @property
    def parameters(self) -> list[Tensor]:
        """What gets gradients and an optimiser."""

    def prepare(self, *, training: bool) -> None:
        """Switch to training or to inference, and let the latter compute what it keeps."""

    def train(self) -> None:
        """One forward and backward pass of the batch; gradients add up in the parameters."""

    def forward(self) -> None:
        """One forward pass of the batch without gradients."""


class Bare:
    """The convolutions of the coupling networks alone: the floor of any Glow of this shape.

    3x3, 1x1, 3x3 with the channels of every step of every level (affine coupling: half of the
    channels come in, shift and scale of the other half go out); no bias, no ReLU, nothing between.
    Each step has weights of its own and is differentiated at once, by its weights and its input.

    Args:
        setting: image size, levels, hidden channels, batch.
        steps: K per level.
        dtype: of weights and images.
        layout: memory format of weights and images.
        device: where they are.
    """

    compiled = False

    def __init__(
        self,
        setting: Setting,
        steps: int,
        dtype: torch.dtype,
        layout: torch.memory_format,
        device: torch.device,
    ) -> None:
        def normal(*shape: int) -> Tensor:
            return torch.randn(shape).to(device, dtype).contiguous(memory_format=layout)

        def weight(out: int, channels: int, kernel: int) -> Tensor:
            fan_in = channels * kernel**2
            return (normal(out, channels, kernel, kernel) / fan_in**0.5).requires_grad_()

        self.nets: list[tuple[tuple[Tensor, Tensor, Tensor], Tensor, Tensor]] = []
        """(weights, input, gradient of the output) of each step."""
        hidden = setting.hidden
        for level in range(1, setting.levels + 1):
            half, side = 3 * 2**level, setting.size // 2**level
            x = normal(setting.batch, half, side, side)
            gradient = normal(setting.batch, 2 * half, side, side)
            for _ in range(steps):
                weights = (
                    weight(hidden, half, 3),
                    weight(hidden, hidden, 1),
                    weight(2 * half, hidden, 3),
                )
                self.nets.append((weights, x, gradient))

    @property
    def parameters(self) -> list[Tensor]:
        """The weights of the convolutions."""
        return [weight for weights, _, _ in self.nets for weight in weights]

    def prepare(self, *, training: bool) -> None:
        """There is one way to run."""

    def train(self) -> None:
        """Each step's convolutions, forward and backward."""
        for weights, x, gradient in self.nets:
            torch.autograd.backward(self._run(weights, x.detach().requires_grad_()), gradient)

    @torch.no_grad()
    def forward(self) -> None:
        """Each step's convolutions."""
        for weights, x, _ in self.nets:
            self._run(weights, x)

    @staticmethod
    def _run(weights: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
        first, second, last = weights
        return F.conv2d(F.conv2d(F.conv2d(x, first, padding=1), second), last, padding=1)


class Flow(ABC):
    """A whole model: training, log-density, samples, codes.

    Args:
        module: the model, initialised from `x`, on the device of `x`.
        x: (batch, 3, size, size) in [−½, ½).
    """

    compiled = False

    def __init__(self, module: nn.Module, x: Tensor) -> None:
        self.module = module
        self.x = x
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(DISTURBANCE * torch.randn_like(parameter))

    @property
    def parameters(self) -> list[Tensor]:
        """Every parameter of the model."""
        return list(self.module.parameters())

    def prepare(self, *, training: bool) -> None:
        """Switch the mode; one image is encoded and one sampled where it becomes inference."""
        if self.module.training == training:
            return
        self.module.train(training)
        if not training:
            self.encode_one()
            self.sample(1)

    def train(self) -> None:
        """Mean of −log p(x) and its gradients."""
        torch.autograd.backward(-self.log_prob().mean())

    @torch.no_grad()
    def forward(self) -> None:
        """log p(x) of the batch."""
        self.log_prob()

    @abstractmethod
    def log_prob(self) -> Float[Tensor, " batch"]:
        """log p(x) of the batch in nats."""

    @abstractmethod
    def sample(self, count: int) -> None:
        """Draw `count` images."""

    @abstractmethod
    def encode_one(self) -> None:
        """The latents of one image."""


class Ours(Flow):
    """This project's Glow in one of its modes."""

    module: Glow

    def __init__(self, setting: Setting, steps: int, mode: Mode, device: torch.device) -> None:
        model = Glow(
            GlowConfig(
                image_shape=(3, setting.size, setting.size),
                levels=setting.levels,
                steps=steps,
                hidden_channels=setting.hidden,
            )
        ).to(device)
        images = random_images(setting).to(device)
        model.initialize(images)
        super().__init__(model, model.to_float(images))
        self.compiled = mode.compile
        model.use(memory=mode.memory, precision=mode.precision, compile=mode.compile)
        self._frozen = ExitStack()

    def prepare(self, *, training: bool) -> None:
        """Switch the mode; in inference the weights stay, and the model is told so."""
        if self.module.training == training:
            return
        self._frozen.close()
        if not training:
            self._frozen.enter_context(self.module.frozen())
        super().prepare(training=training)

    def log_prob(self) -> Float[Tensor, " batch"]:
        """log p(x) of the batch in nats."""
        return self.module.log_prob(self.x)

    def sample(self, count: int) -> None:
        """Draw `count` images, as bytes."""
        self.module.sample(count, temperature=1.0, seed=0)

    def encode_one(self) -> None:
        """The latents of one image."""
        self.module.encode(self.x[:1])


class Normflows(Flow):
    """normflows' Glow as its image example builds it, with Gaussians that have no classes."""

    module: Any

    def __init__(self, setting: Setting, steps: int, device: torch.device) -> None:
        shape = (3, setting.size, setting.size)
        model = normflows_glow(shape, setting.levels, steps, setting.hidden).to(device)
        x = (random_images(setting) / 256 - 0.5).to(device)
        with torch.no_grad():
            model.forward_kld(x)  # the first pass initialises the actnorms
        super().__init__(model.to(device), x)

    def log_prob(self) -> Float[Tensor, " batch"]:
        """log p(x) of the batch in nats."""
        return self.module.log_prob(self.x, None)

    @torch.no_grad()
    def sample(self, count: int) -> None:
        """Draw `count` images, as floats."""
        self.module.sample(count)

    @torch.no_grad()
    def encode_one(self) -> None:
        """The latents of one image."""
        self.module.inverse_and_log_det(self.x[:1])


def normflows_glow(shape: tuple[int, int, int], levels: int, steps: int, hidden: int) -> Any:
    """normflows' Glow as its image example builds it, with Gaussians that have no classes."""
    import normflows as nf

    bases, flows, merges = [], [], []
    for level in range(levels, 0, -1):
        channels = shape[0] * 2 ** (level + 1)
        height, width = shape[1] // 2**level, shape[2] // 2**level
        blocks = [
            nf.flows.GlowBlock(channels, hidden, split_mode="channel", scale=True)
            for _ in range(steps)
        ]
        flows.append([*blocks, nf.flows.Squeeze()])
        last = level == levels
        if not last:
            merges.append(nf.flows.Merge())
        bases.append(
            nf.distributions.DiagGaussian((channels if last else channels // 2, height, width))
        )
    return nf.MultiscaleFlow(bases, flows, merges, class_cond=False)


def random_images(setting: Setting) -> Tensor:
    """A batch of bytes."""
    return torch.randint(0, 256, (setting.batch, 3, setting.size, setting.size), dtype=torch.uint8)


def ours(mode: str) -> str:
    """The contender's name of one of MODES."""
    return f"glowflow {mode.replace('-', ' ')}"


def contender_names(modes: Sequence[str]) -> tuple[list[str], list[str]]:
    """Who takes part where this project runs in `modes`, and a line for each who cannot."""
    precisions = sorted({"float32", *(MODES[mode].precision for mode in modes)}, reverse=True)
    names = [f"bare {precision} {layout}" for precision in precisions for layout in BARE_FORMATS]
    names += [ours(mode) for mode in modes]
    if find_spec("normflows") is None:
        return names, [f"{NORMFLOWS} is not installed: {INSTALL}"]
    return [*names, NORMFLOWS], []


def build(name: str, setting: Setting, steps: int, device: torch.device) -> Contender:
    """The contender of that name with K = `steps`; the same weights at each call."""
    torch.manual_seed(0)
    if name == NORMFLOWS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it calls torch.lu, which is deprecated
            return Normflows(setting, steps, device)
    project, precision, kind = name.split(" ")
    if project == "bare":
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        return Bare(setting, steps, dtype, BARE_FORMATS[kind], device)
    return Ours(setting, steps, MODES[f"{precision}-{kind}"], device)
