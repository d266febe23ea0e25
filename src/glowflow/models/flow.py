"""What every image model of this package answers: densities, codes, samples, files."""

import math
import tempfile
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from ..bijections import Bijection
from ..bijections.base import without_autocast
from ..checks import require_choice, require_dtype
from ..errors import InputError, NotFiniteWarning
from ..files import path_of
from ..photos.fit import Fit
from .config import GlowConfig, Memory, Precision, picture_shape
from .execution import use_compile, use_memory, use_precision
from .hub import Hub
from .likelihood import bits_per_dim, dequantize, quantize
from .outline import check_outline, check_values
from .pretrained import check_state, load_pretrained, save_pretrained
from .priors import standard_normal_log_prob
from .sending import lay_out, send, write_card
from .training_data import AxisOrder, Picture, TrainingData, prepare

Latents = tuple[Float[Tensor, " batch *shape"], ...]
"""Whitened latents ε: one tensor a level, first level first, standard normal under the model."""

IMAGES_AT_ONCE = 64
"""Images that are sampled, encoded or decoded at once."""


class LossTerms(NamedTuple):
    """What training minimises, in bits, and the mean bits/dim in it."""

    total: Float[Tensor, ""]
    """bits_per_dim, plus whatever else the model asks of training."""
    bits_per_dim: Float[Tensor, ""]


class Drawn(NamedTuple):
    """Samples, and whether they can be trusted."""

    images: Tensor
    """uint8 (count, channels, height, width) on the CPU; float where `config.bits` is None."""
    finite: Bool[Tensor, " count"]
    """Whether every value was a number before it became a byte."""
    inside: Bool[Tensor, " count"]
    """Whether no value was farther than five times the range of images from its middle."""

    @property
    def not_finite(self) -> int:
        """How many are not finite."""
        return int((~self.finite).sum())

    @property
    def far(self) -> int:
        """How many are finite, and far outside of the range."""
        return int((self.finite & ~self.inside).sum())

    @property
    def usable(self) -> Bool[Tensor, " count"]:
        """Whether each is a picture."""
        return self.finite & self.inside

    def concern(self) -> str:
        """What is wrong with them, in a sentence; empty if nothing is."""
        floats = self.images.is_floating_point()
        return concern_of(self.finite, self.inside, "samples", OF_FLOATS if floats else "images")


OF_FLOATS = "the training data"
"""Whose range float data are held against."""


def concern_of(finite: Tensor, inside: Tensor, what: str, of: str = "images") -> str:
    """How many are not finite or far outside of the range of these, in a sentence; empty for
    none."""
    bad, far = int((~finite).sum()), int((finite & ~inside).sum())
    if not bad + far:
        return ""
    return (
        f"{bad} of {len(finite)} {what} are not finite and {far} are far outside of the range of "
        f"{of}: the model's inverse overflows; sample at a lower temperature, or train with "
        "--coupling-scale bounded or a smaller --lr"
    )


class ClassScores(NamedTuple):
    """What a class-conditional model says of each class."""

    log_prob: Float[Tensor, "batch classes"]
    """log p(x | y) in nats."""
    logits: Float[Tensor, "batch classes"]
    """Of the classifier."""


class ImageFlow(Bijection):
    """A bijection between images x and whitened latents, with what follows from it.

    log p(x) = Σ_levels log N(ε; 0, I) + log|det dε/dx| (paper, equation 6).

    x is (batch, channels, height, width), float, scaled to [−½, ½) for images; or (batch, channels,
    *grid) where the configuration has a grid of one or three axes. Labels are (batch,) int64 and
    needed where `config.classes` > 0.
    """

    model_type: ClassVar[str]
    config_class: ClassVar[type[Any]] = GlowConfig
    config: GlowConfig
    trained_on: TrainingData | None = None
    """What its training images were and what was done to them; None where that is not known.
    Written into `config.json`."""

    @property
    @abstractmethod
    def latent_shapes(self) -> tuple[tuple[int, ...], ...]:
        """(channels, height, width), or (channels, *grid), of each level's latent."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return next(self.parameters()).dtype

    def use(
        self,
        *,
        memory: Memory | None = None,
        precision: Precision | None = None,
        compile: bool | None = None,
    ) -> Self:
        """Choose how the model computes; what it computes stays the same.

        What is not given stays as it is. A new or a loaded model is `stored`, `float32` and not
        compiled.

        Args:
            memory: what a backward pass needs of the steps' activations. `stored` keeps them, so
                that memory grows with depth; `reversible` computes them again from the output,
                so that memory is that of one step, for about a third more time.
            precision: what the coupling networks' convolutions compute in, `float32` (the dtype
                of the weights) or `bf16`. Weights, flow tensors, log-determinants, 1x1
                convolutions and priors keep the dtype of the weights. For training: an input
                that is recovered up to float32 rounding can round to another bf16 number, so
                `decode(encode(x))` is off by about 1e-2 in bf16 and gives bytes back in float32.
            compile: run the couplings through `torch.compile`.

        Raises:
            InputError: there is no such choice, or not for this kind of model, or a network of
                another class does not follow it.
        """
        if memory is not None:
            require_choice("memory", memory, Memory)
            use_memory(self, memory)
        if precision is not None:
            require_choice("precision", precision, Precision)
            use_precision(self, precision)
        if compile is not None:
            use_compile(self, compile)
        return self

    @property
    def is_conditional(self) -> bool:
        """Whether images are given something: a label, or conditions."""
        return self.config.classes > 0

    @property
    def initialized(self) -> bool:
        """Whether every normalisation has seen its first batch."""
        flags = [b for name, b in self.named_buffers() if name.endswith("initialized")]
        return not flags or bool(torch.stack(flags).all())

    def log_prob(
        self,
        x: Float[Tensor, "batch channels *grid"],
        labels: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, " batch"]:
        """log p(x), or log p(x | label), in nats.

        Raises:
            InputError: x is of another shape or dtype, labels are missing, or there are labels and
                the model has no classes.
        """
        latents, log_det = self(self._checked(x, labels), labels)
        return standard_normal_log_prob(latents) + log_det

    @torch.no_grad()
    @without_autocast
    def log_prob_by_level(
        self,
        x: Float[Tensor, "batch channels *grid"],
        labels: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch levels"]:
        """Each level's part of log p(x), in nats, first level first; their sum is log p(x).

        log p_ℓ = log N(ε_ℓ; 0, I) + log|det of the level's bijections| − Σ log σ of its prior.

        The bijections of level ℓ are those between split ℓ − 1 and split ℓ (the first level's
        start at the image: RealNVP's logit is among them); the prior is the split's, and the top
        prior at the last level. Without the log-determinant it is log p(z_ℓ | z_ℓ₊₁, …, z_L).

        Without labels a class-conditional Glow is the mixture of its classes, all equally probable:
        the last level has log (1/K) Σ_y p(z_L | y).

        Raises:
            InputError: x is of another shape, or not a float tensor.
        """
        x = self._checked(x, labels)
        return torch.stack(self._log_prob_by_level(x, labels), dim=1)

    @abstractmethod
    def _log_prob_by_level(
        self, x: Tensor, labels: Tensor | None = None
    ) -> list[Float[Tensor, " batch"]]: ...

    @torch.no_grad()
    def bits_per_dim(
        self,
        images: Tensor,
        labels: Int[Tensor, " batch"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, " batch"]:
        """Bits per dimension of each image, with one draw of dequantisation noise.

        Args:
            images: uint8 (batch, channels, height, width); float where `config.bits` is None.
            labels: (batch,) classes of a class-conditional model.
            generator: of the noise, on the device of the images.
        """
        x = self.to_float(images, generator=generator)
        log_prob = self.log_prob(x.to(self.device), labels)
        return bits_per_dim(log_prob, math.prod(self.config.image_shape), self.config.bits)

    @torch.no_grad()
    def encode(
        self,
        x: Float[Tensor, "batch channels *grid"],
        labels: Int[Tensor, " batch"] | None = None,
    ) -> Latents:
        """The whitened latents of x; `decode` is the exact inverse.

        Raises:
            InputError: as `log_prob`.
        """
        x = self._checked(x, labels)
        chunks = zip(torch.split(x, IMAGES_AT_ONCE), self._split(labels, len(x)), strict=True)
        with self.frozen():
            parts = [self(some, their_labels)[0] for some, their_labels in chunks]
        return tuple(torch.cat(level) for level in zip(*parts, strict=True))

    @torch.no_grad()
    def decode(
        self, latents: Latents, labels: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch channels *grid"]:
        """The x whose latents these are.

        Raises:
            InputError: the latents are of other shapes, or the labels do not fit.
        """
        shapes = tuple(tuple(eps.shape[1:]) for eps in latents)
        if shapes != self.latent_shapes:
            raise InputError(f"Latents are {shapes}: this model's are {self.latent_shapes}.")
        count = len(latents[0])
        if any(len(eps) != count for eps in latents):
            raise InputError(
                f"Latents are of {[len(eps) for eps in latents]} images: give as many."
            )
        self._check_labels(labels, count)
        latents = tuple(self._in_own_dtype(eps, "Latents are") for eps in latents)
        levels = zip(*(torch.split(eps, IMAGES_AT_ONCE) for eps in latents), strict=True)
        chunks = zip(levels, self._split(labels, count), strict=True)
        with self.frozen():
            return torch.cat([self.inverse(some, their_labels)[0] for some, their_labels in chunks])

    @torch.no_grad()
    def sample(
        self,
        count: int,
        *,
        temperature: float = 1.0,
        seed: int = 0,
        labels: Int[Tensor, " batch"] | None = None,
    ) -> Tensor:
        """Draw images: ε ~ N(0, temperature²·I) at every level, decoded.

        A sample that is not finite becomes bytes all the same, and Python warns; `draw` says which.

        Args:
            count: number of images.
            temperature: standard deviation of the latents; 0.7 is the paper's.
            seed: of the noise, and of the classes where none are given; the same seed gives the
                same images.
            labels: (count,) classes of a class-conditional model.

        Returns:
            uint8 (count, channels, height, width) on the CPU; float where `config.bits` is None.

        Raises:
            InputError: count or temperature is negative, or labels do not fit.
        """
        drawn = self.draw(count, temperature=temperature, seed=seed, labels=labels)
        if said := drawn.concern():
            warnings.warn(said, NotFiniteWarning, stacklevel=2)
        return drawn.images

    @torch.no_grad()
    def draw(
        self,
        count: int,
        *,
        temperature: float = 1.0,
        seed: int = 0,
        labels: Int[Tensor, " batch"] | None = None,
    ) -> Drawn:
        """`sample`, and which of the samples are finite and near the range of images."""
        parts = list(self.draw_in_parts(count, temperature=temperature, seed=seed, labels=labels))
        if not parts:
            none = torch.zeros(0, dtype=torch.bool)
            empty = torch.empty(0, *self.config.image_shape)
            return Drawn(self.to_images(empty), none, none)
        return Drawn(*(torch.cat(column) for column in zip(*parts, strict=True)))

    @torch.no_grad()
    def draw_in_parts(
        self,
        count: int,
        *,
        temperature: float = 1.0,
        seed: int = 0,
        labels: Int[Tensor, " batch"] | None = None,
    ) -> Iterator[Drawn]:
        """`draw`, `IMAGES_AT_ONCE` samples after one another: memory is that of a part.

        Args, errors and images as `sample`.
        """
        if count < 0 or not 0 <= temperature < math.inf:
            raise InputError(
                f"Cannot draw {count} images at temperature {temperature}: both must be 0 or more."
            )
        generator = torch.Generator().manual_seed(seed % 2**64)
        sizes = [math.prod(shape) for shape in self.latent_shapes]
        parts = _parts_of(count, sum(sizes))
        if self.config.classes and labels is None:
            ahead = torch.Generator()
            ahead.set_state(generator.get_state())
            for some in parts:  # the classes are drawn after the noise
                torch.randn(some, sum(sizes), generator=ahead, dtype=torch.float32, device="cpu")
            labels = torch.randint(self.config.classes, (count,), generator=ahead, device="cpu")
        self._check_labels(labels, count)
        labels = self._ready(labels)
        start = 0
        for some in parts:
            noise = temperature * torch.randn(
                some, sum(sizes), generator=generator, dtype=torch.float32, device="cpu"
            )
            rows = torch.split(noise.to(self.device, self.dtype), sizes, dim=1)
            latents = tuple(
                eps.reshape(-1, *shape) for eps, shape in zip(rows, self.latent_shapes, strict=True)
            )
            theirs = self._part(labels, start, start + some)
            with self.frozen():
                x = self.decode(latents, theirs)
            start += some
            yield Drawn(self.to_images(x).cpu(), *(each.cpu() for each in self.in_range(x)))

    def in_range(
        self, x: Float[Tensor, "batch channels *grid"]
    ) -> tuple[Bool[Tensor, " batch"], Bool[Tensor, " batch"]]:
        """Whether each x is finite, and whether no value is farther than five times the range of
        images from its middle; float data have the range of the training images, if it is known."""
        finite = torch.isfinite(x).flatten(1).all(1)
        known = None if self.trained_on is None else self.trained_on.value_range
        middle, half = 0.0, 0.5
        if self.config.bits is None:
            if known is None or not known[1] > known[0]:
                return finite, finite
            middle, half = (known[0] + known[1]) / 2, (known[1] - known[0]) / 2
        return finite, ((x - middle).abs() <= 10 * half).flatten(1).all(1)

    @torch.no_grad()
    def initialize(  # type: ignore[override]
        self,
        images: Tensor,
        generator: torch.Generator | None = None,
        labels: Int[Tensor, " batch"] | None = None,
    ) -> None:
        """Data-dependent initialisation of every normalisation from one batch of images (bytes).

        Each does this once in its life; a trained or loaded model is left as it is.
        The official size of this batch is 256 at 32x32, scaled by 32²/(height·width).
        The networks that ask for labels are given the first class where there are none.

        Raises:
            InputError: there are no images, or they do not fit.
        """
        if not len(images):
            raise InputError("There are no images to initialise from: give one at least.")
        x = self.to_float(images, generator=generator).to(self.device)
        self._check_labels(labels, len(x))
        self._initialize(x, labels)

    @abstractmethod
    def _initialize(self, x: Tensor, labels: Tensor | None = None) -> None: ...

    def loss_terms(
        self,
        x: Float[Tensor, "batch channels *grid"],
        labels: Int[Tensor, " batch"] | None = None,
    ) -> LossTerms:
        """The loss of a batch in bits, and the mean bits/dim in it.

        Raises:
            InputError: as `log_prob`.
        """
        bits = self._mean_bits(self.log_prob(x, labels))
        return LossTerms(bits, bits)

    def loss(
        self,
        x: Float[Tensor, "batch channels *grid"],
        labels: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, ""]:
        """What training minimises: mean bits/dim, plus whatever else the model asks for.

        Raises:
            InputError: as `log_prob`.
        """
        return self.loss_terms(x, labels).total

    def _mean_bits(self, log_prob: Float[Tensor, " batch"]) -> Float[Tensor, ""]:
        dims = math.prod(self.config.image_shape)
        return bits_per_dim(log_prob, dims, self.config.bits).mean()

    def class_scores(self, x: Float[Tensor, "batch channels *grid"]) -> ClassScores:
        """log p(x | y) in nats for every class y, and the classifier's logits, in one pass.

        Raises:
            InputError: the model has no classes, or as `log_prob`.
        """
        self._require_classes()
        raise InputError(f"A model of type {self.model_type!r} has no class scores.")

    def to_float(
        self,
        images: Tensor,
        *,
        noise: str = "uniform",
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "batch channels *grid"]:
        """Dequantised images in [−½, ½), in the weights' dtype; float data as it is."""
        if self.config.bits is not None:
            images = dequantize(images, self.config.bits, noise=noise, generator=generator)
        elif not images.is_floating_point():
            raise InputError(f"This model is for float data: images are {images.dtype}.")
        self._check_shape(images)
        return images.to(self.dtype)

    def prepare(
        self,
        images: Picture | Sequence[Picture],
        *,
        fit: str | None = None,
        upscale: bool | None = None,
        axes: AxisOrder | None = None,
    ) -> Tensor:
        """New images as the training images were prepared: fitted, in the model's size, channels.

        `log_prob(to_float(prepare(…)))` and `bits_per_dim(prepare(…))` are then comparable with
        those of held-out images. A model that does not know what was done to its training images
        (`trained_on` is None) crops.

        Args:
            images: one or several of: path, Pillow image, array or tensor (H, W), (C, H, W),
                (H, W, C); or a batch of them as one array. A lone (C, H, W) needs `axes` where it
                could be C grey images. Bytes; floats where `config.bits` is None.
            fit: `crop`, `stretch`, `pad`, or `patches` for the centre at the image's own
                resolution; by default the training images'.
            upscale: enlarge images that are too small; by default as the training images.
            axes: of arrays, `NHW`, `NCHW` or `NHWC`, where their shape does not say.

        Returns:
            (N, C, H, W) uint8, or float where `config.bits` is None, on the CPU.

        Raises:
            InputError: an image is missing, broken, too small or of another kind, or an array can
                be read in two ways.
        """
        known = self.trained_on or TrainingData()
        dtype = "float32" if self.config.bits is None else "uint8"
        fit = known.fit if fit is None else fit
        require_choice("fit", fit, Fit)
        upscale = known.upscale if upscale is None else upscale
        data = replace(known, dtype=dtype, fit=fit, upscale=upscale)
        return prepare(images, picture_shape(self.config.image_shape), data, axes=axes)

    def to_images(
        self, x: Float[Tensor, "batch channels *grid"]
    ) -> UInt8[Tensor, "batch channels *grid"]:
        """Bytes from [−½, ½); float data as it is."""
        return x if self.config.bits is None else quantize(x, self.config.bits)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` and `model.safetensors` into `folder`.

        Raises:
            InputError: the folder cannot be written.
        """
        state = self.state_dict()
        save_pretrained(Path(folder), self.model_type, self.config, state, self.trained_on)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        device: str | torch.device = "cpu",
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        **parts: Any,
    ) -> Self:
        """Read a model from a folder, or from a Hugging Face hub id `organisation/name`.

        The model is in eval mode, in the dtype of the file, and does not initialise itself again.
        The configuration and the weights of a hub id are those of one commit.

        Args:
            source: folder, id, or the name of a model that is shipped; `organisation/name@v1` is
                the revision v1.
            device: where the weights go.
            revision: of a hub id: branch, tag or commit; by default main.
            token: of the hub; by default that of `hf auth login` or HF_TOKEN.
            cache_dir: where the hub's files are kept; by default HF_HUB_CACHE.
            local_files_only: take what is kept there, and ask nobody.
            parts: classes of one's own that the model was made with, as the model's class takes
                them: `network` of a Glow.

        Raises:
            CheckpointError: nothing is there, the hub refuses or is silent, it is damaged, or it is
                another architecture.
            InputError: it is of float64, and the device does not compute in that.
        """
        hub = Hub(revision, token, cache_dir, local_files_only)
        config, state, data = load_pretrained(source, cls.model_type, cls.config_class, hub)
        check_outline(lambda: cls(config, **parts), config, state, str(source), bool(parts))
        model: Self = cls(config, **parts)
        model.trained_on = data
        dtypes = {weight.dtype for weight in state.values() if weight.is_floating_point()}
        if len(dtypes) == 1:
            model.to(dtypes.pop())
        model.load_weights(state, str(source))
        check_values(model, str(source))
        require_dtype(model.dtype, device)
        return model.to(device).eval()

    def push_to_hub(
        self,
        repo_id: str,
        *,
        run: str | Path | None = None,
        license: str | None = None,
        data_license: str | None = None,
        commit_message: str = "Model of glowflow",
        private: bool | None = None,
        token: str | None = None,
        branch: str | None = None,
        create_pr: bool = False,
    ) -> str:
        """Send the model to the Hugging Face hub, with a model card, in one commit.

        The repository is made if there is none. One that holds something else than a model of this
        package is refused; a commit on a model of this package leaves the ones before it.

        Args:
            repo_id: organisation/name.
            run: the folder that the model was read from: its directions, calibration, recipe and
                evaluation go along, and into the card.
            license: of the model, by the hub's name for it: `mit`, `cc-by-4.0`.
            data_license: of the training images, in words, for the card.
            commit_message: of the commit.
            private: whether a new repository is; by default as the organisation has it.
            token: that may write; by default that of `hf auth login` or HF_TOKEN.
            branch: to commit to, made if there is none; by default main.
            create_pr: open a pull request instead.

        Returns:
            The address of the commit, or of the pull request.

        Raises:
            InputError: the name or the token will not do, the repository holds something else or
                is public and should not be, a file of the run is damaged, or the hub refuses, is
                silent or fails; then nothing was committed.
        """
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            lay_out(self, folder, None if run is None else path_of(run))
            write_card(self, folder, repo_id, license=license, data_license=data_license)
            return send(
                folder,
                repo_id,
                token=token,
                private=private,
                branch=branch,
                commit_message=commit_message,
                create_pr=create_pr,
            )

    def with_present_names(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights by the names of this version, whatever version wrote them."""
        return state

    def load_weights(self, state: dict[str, Tensor], source: str) -> None:
        """Take these weights, all of them and no others.

        Raises:
            CheckpointError: a name or a shape differs.
        """
        state = self.with_present_names(state)
        check_state(self.state_dict(), state, source)
        self.load_state_dict(state)

    def _checked(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """x in the dtype of the weights, if this model takes it; half precision is widened.

        Raises:
            InputError: it does not.
        """
        self._check_shape(x)
        self._check_labels(labels, x.shape[0])
        if not x.is_floating_point():
            raise InputError(f"x is {x.dtype}: give floats, as `to_float` makes them from bytes.")
        return self._in_own_dtype(x, "x is")

    def _in_own_dtype(self, x: Tensor, what: str) -> Tensor:
        own = next(self.parameters(), x).dtype
        if x.dtype != own and torch.promote_types(x.dtype, own) != own:
            raise InputError(
                f"{what} {x.dtype} and the model is {own}: give {own}, or make the model as "
                f"precise with model.to({x.dtype})."
            )
        return x.to(own)

    def _check_shape(self, x: Tensor) -> None:
        if not isinstance(x, Tensor):
            raise InputError(f"Images are a {type(x).__name__}: give a torch.Tensor.")
        if tuple(x.shape[1:]) != self.config.image_shape:
            raise InputError(
                f"Images are {tuple(x.shape)}: this model takes "
                f"(batch, {', '.join(map(str, self.config.image_shape))})."
            )

    def _check_labels(self, labels: Tensor | None, count: int) -> None:
        if labels is None:
            return
        if not self.config.classes:
            raise InputError("This model has no classes: leave the labels out.")
        if not isinstance(labels, Tensor):
            raise InputError(f"Labels are a {type(labels).__name__}: give a tensor of integers.")
        if labels.shape != (count,) or labels.is_floating_point():
            raise InputError(
                f"Labels are {tuple(labels.shape)} {labels.dtype}: give {count} integers."
            )

    def _ready(self, labels: Any) -> Any:
        """What `_part` takes the labels of some images from, made once for all of them."""
        return labels

    def _part(self, labels: Tensor | None, start: int, stop: int) -> Tensor | None:
        """The labels of some images, on the model's device."""
        return None if labels is None else labels[start:stop].to(self.device)

    def _split(self, labels: Tensor | None, count: int) -> list[Tensor | None]:
        """The labels of each chunk of `count` images."""
        labels = self._ready(labels)
        starts = range(0, max(1, count), IMAGES_AT_ONCE)
        return [self._part(labels, start, start + IMAGES_AT_ONCE) for start in starts]

    def _require_classes(self) -> None:
        if not self.config.classes:
            raise InputError("This model has no classes: make a Glow with `classes` above 0.")


def _parts_of(count: int, size: int) -> list[int]:
    """`count` in parts for which a generator's normal numbers are those of one array (count, size).

    PyTorch fills arrays in blocks of 16, and shorter ones by another rule, so that a short rest is
    drawn with the part before it.
    """
    parts = [IMAGES_AT_ONCE] * (count // IMAGES_AT_ONCE)
    rest = count % IMAGES_AT_ONCE
    if rest * size < 16 and parts:
        parts[-1] += rest
    elif rest:
        parts.append(rest)
    return parts
