"""Every bijection: inverse, log-determinant against autograd, gradients."""

from dataclasses import replace

import pytest
import torch
from torch.func import jacrev, vmap

from glowflow import Glow, GlowConfig, RealNVP, RealNVPConfig
from glowflow.bijections import (
    ActNorm,
    AdditiveCoupling,
    AffineCoupling,
    BatchNorm,
    Bijection,
    Chain,
    ChannelCoupling,
    CheckerboardCoupling,
    Interlaced,
    Invertible1x1Conv,
    Logit,
    Marginals,
    Permutation,
    PlainInvertible1x1Conv,
    SpectralWhitening,
    Squeeze,
    Standardize,
    VariationalDequantization,
    Whitening,
)
from glowflow.models.glow import DenseStep, Level, Step
from glowflow.models.parts import PERMUTATIONS, part
from glowflow.models.priors import DiagonalPrior, Split, Top, TopPrior
from glowflow.models.realnvp import LastScale, Scale
from glowflow.nn.coupling_network import CouplingNetwork
from glowflow.nn.octave_network import OctaveNetwork
from glowflow.nn.palette_network import PaletteNetwork
from glowflow.nn.residual_network import ResidualNetwork
from tests.conftest import perturb

ARCHITECTURE = GlowConfig(image_shape=(1, 4, 6), levels=1, steps=2, hidden_channels=5)


def glow(shape=(1, 4, 4), levels=2, **changes):
    return Glow(GlowConfig(image_shape=shape, levels=levels, steps=1, hidden_channels=4, **changes))


def interlaced(shape, bits):
    return Interlaced(shape, bits, lambda channels, n, below: OctaveNetwork(channels, n, 3, below))


def with_palettes(shape, bits):
    first_map = interlaced(shape, bits)
    for octave in first_map.octaves:
        octave.palette_network = PaletteNetwork(2**bits, 3)
    return first_map


RESIDUAL = RealNVPConfig(image_shape=(1, 4, 4), scales=2, residual_blocks=1, hidden_channels=3)


def seen(bijection, shape):
    """With running averages of a batch that has neither zero mean nor unit variance."""
    bijection.train()(0.9 * torch.randn(8, *shape).sigmoid() - 0.5)
    return bijection


def fitted(bijection, shape):
    """In float64, fitted to images whose values are neither even nor independent."""
    x = torch.randn(64, *shape, dtype=torch.float64).cumsum(-1).sigmoid() - 0.5
    bijection = bijection.double()
    first_map = getattr(bijection, "first_map", bijection)
    first_map.fit(x)
    return bijection


class Leaving(Bijection):
    """x ↔ ε of a split that all channels leave."""

    def __init__(self, split):
        super().__init__()
        self.split = split

    def forward(self, x, context=None):
        (z, eps), log_det = self.split(x, context)
        assert z.shape == eps.shape  # handed on beside ε, for a classifier
        return eps, log_det

    def inverse(self, y, context=None):
        return self.split.inverse((None, y), context)


def masked(kind, channels, parity):
    return kind(ResidualNetwork(channels, 2 * channels, 4, 1), channels, parity)


# name: (bijection, shape of x without the batch, context)
CASES = {
    "actnorm": (lambda: ActNorm(3), (3, 2, 3), None),
    "conv1x1-lu": (lambda: Invertible1x1Conv(5), (5, 2, 3), None),
    "conv1x1-plain": (lambda: PlainInvertible1x1Conv(5), (5, 2, 3), None),
    "permutation-reverse": (lambda: part(PERMUTATIONS, "reverse")(5), (5, 2, 2), None),
    "permutation-shuffle": (lambda: Permutation.shuffle(7), (7, 1, 2), None),
    "squeeze": (Squeeze, (3, 4, 6), None),
    "additive": (lambda: AdditiveCoupling(CouplingNetwork(2, 2, 5)), (4, 3, 2), None),
    "additive-odd": (lambda: AdditiveCoupling(CouplingNetwork(3, 2, 5)), (5, 2, 2), None),
    "affine-sigmoid": (lambda: AffineCoupling(CouplingNetwork(2, 4, 5)), (4, 3, 2), None),
    "affine-bounded": (
        lambda: AffineCoupling(CouplingNetwork(2, 4, 5), "bounded"),
        (4, 3, 2),
        None,
    ),
    "affine-exp": (lambda: AffineCoupling(CouplingNetwork(2, 4, 5), "exp"), (4, 3, 2), None),
    "affine-odd": (lambda: AffineCoupling(CouplingNetwork(3, 4, 5)), (5, 2, 2), None),
    "split": (lambda: Split(4), (4, 2, 3), None),
    "split-odd": (lambda: Split(5), (5, 2, 2), None),
    "top": (lambda: Leaving(Top(4, learn=True, classes=0)), (4, 2, 3), None),
    "top-classes": (lambda: Leaving(Top(4, learn=True, classes=3)), (4, 2, 3), [2, 0, 1]),
    "chain": (lambda: Chain([Squeeze(), ActNorm(4), Permutation.reverse(4)]), (1, 4, 4), None),
    "step": (lambda: Step(4, ARCHITECTURE), (4, 2, 3), None),
    "level": (lambda: Level(4, ARCHITECTURE), (1, 4, 6), None),
    "level-top": (lambda: Leaving(Level(4, ARCHITECTURE, top=True)), (1, 4, 6), None),
    "glow": (glow, (1, 4, 4), None),
    "glow-3x4x8": (lambda: glow((3, 4, 8), levels=1), (3, 4, 8), None),
    "glow-additive": (lambda: glow(coupling="additive", permutation="plain"), (1, 4, 4), None),
    "glow-shuffle-bounded": (
        lambda: glow(permutation="shuffle", coupling_scale="bounded", learn_top=False),
        (1, 4, 4),
        None,
    ),
    "glow-diagonal": (
        lambda: glow((1, 4, 8), prior="diagonal", coupling_scale="inverse_sigmoid"),
        (1, 4, 8),
        None,
    ),
    "split-diagonal-classes": (
        lambda: Split(5, DiagonalPrior((2, 3, 2), classes=3)),
        (5, 3, 2),
        [2, 0, 1],
    ),
    "logit": (lambda: Logit(0.05), (2, 3, 2), None),
    "batchnorm": (lambda: seen(BatchNorm(3), (3, 2, 3)), (3, 2, 3), None),
    "checkerboard": (lambda: masked(CheckerboardCoupling, 2, 0), (2, 3, 4), None),
    "checkerboard-opposite": (lambda: masked(CheckerboardCoupling, 1, 1), (1, 3, 4), None),
    "channels": (lambda: masked(ChannelCoupling, 4, 0), (4, 2, 3), None),
    "channels-odd-opposite": (lambda: masked(ChannelCoupling, 3, 1), (3, 2, 2), None),
    "scale": (lambda: seen(Scale(1, 3, RESIDUAL), (1, 4, 4)), (1, 4, 4), None),
    "scale-last": (lambda: seen(LastScale(2, 3, RESIDUAL), (2, 2, 3)), (2, 2, 3), None),
    "realnvp": (lambda: seen(RealNVP(RESIDUAL), (1, 4, 4)), (1, 4, 4), None),
    "realnvp-3x4x2": (
        lambda: seen(RealNVP(replace(RESIDUAL, image_shape=(3, 4, 2))), (3, 4, 2)),
        (3, 4, 2),
        None,
    ),
    "realnvp-floats": (
        lambda: seen(RealNVP(replace(RESIDUAL, bits=None)), (1, 4, 4)),
        (1, 4, 4),
        None,
    ),
    "marginals": (lambda: fitted(Marginals((2, 3, 2), 3), (2, 3, 2)), (2, 3, 2), None),
    "interlaced": (lambda: fitted(interlaced((3, 4, 2), 3), (3, 4, 2)), (3, 4, 2), None),
    "interlaced-grey": (lambda: fitted(interlaced((1, 4, 8), 2), (1, 4, 8)), (1, 4, 8), None),
    "interlaced-odd": (lambda: fitted(interlaced((2, 3, 2), 1), (2, 3, 2)), (2, 3, 2), None),
    "interlaced-palette": (lambda: fitted(with_palettes((2, 4, 4), 3), (2, 4, 4)), (2, 4, 4), None),
    "standardize": (lambda: fitted(Standardize((2, 3, 2)), (2, 3, 2)), (2, 3, 2), None),
    "standardize-positions": (
        lambda: fitted(Standardize((2, 3, 2), positions=True), (2, 3, 2)),
        (2, 3, 2),
        None,
    ),
    "glow-periodic": (lambda: glow(padding="periodic"), (1, 4, 4), None),
    "glow-reflect": (lambda: glow(padding="reflect", levels=1), (1, 4, 4), None),
    "actnorm-1d": (lambda: ActNorm(3), (3, 5), None),
    "conv1x1-lu-3d": (lambda: Invertible1x1Conv(5), (5, 2, 1, 2), None),
    "squeeze-1d": (Squeeze, (3, 6), None),
    "squeeze-3d": (Squeeze, (2, 4, 2, 2), None),
    "affine-odd-1d": (lambda: AffineCoupling(CouplingNetwork(3, 4, 5, axes=1)), (5, 3), None),
    "additive-3d": (lambda: AdditiveCoupling(CouplingNetwork(2, 2, 5, axes=3)), (4, 2, 3, 1), None),
    "top-classes-1d": (
        lambda: Leaving(Top(4, True, 3, TopPrior(4, True, 3, axes=1))),
        (4, 3),
        [2, 0, 1],
    ),
    "spectral": (lambda: fitted(SpectralWhitening((2, 3, 4)), (2, 3, 4)), (2, 3, 4), None),
    "spectral-1d": (lambda: fitted(SpectralWhitening((2, 5)), (2, 5)), (2, 5), None),
    "spectral-3d": (
        lambda: fitted(SpectralWhitening((1, 2, 3, 2)), (1, 2, 3, 2)),
        (1, 2, 3, 2),
        None,
    ),
    "standardize-1d": (lambda: fitted(Standardize((2, 5)), (2, 5)), (2, 5), None),
    "standardize-positions-3d": (
        lambda: fitted(Standardize((2, 2, 1, 3), positions=True), (2, 2, 1, 3)),
        (2, 2, 1, 3),
        None,
    ),
    "glow-1d": (lambda: glow((2, 8), bits=None), (2, 8), None),
    "glow-1d-periodic": (lambda: glow((1, 8), padding="periodic", bits=None), (1, 8), None),
    "glow-1d-diagonal": (lambda: glow((1, 8), prior="diagonal", bits=None), (1, 8), None),
    "glow-1d-classes": (lambda: glow((1, 8), classes=4, bits=None), (1, 8), [3, 0, 3]),
    "glow-1d-whitening": (
        lambda: fitted(glow((2, 4), first_map="whitening", rank=3, bits=None), (2, 4)),
        (2, 4),
        None,
    ),
    "glow-3d": (lambda: glow((1, 2, 4, 2), levels=1, bits=None), (1, 2, 4, 2), None),
    "glow-3d-reflect": (
        lambda: glow((1, 4, 4, 4), levels=1, padding="reflect", bits=None),
        (1, 4, 4, 4),
        None,
    ),
    "whitening": (lambda: fitted(Whitening((2, 3, 2), 5), (2, 3, 2)), (2, 3, 2), None),
    "whitening-full": (lambda: fitted(Whitening((2, 3, 2), 12), (2, 3, 2)), (2, 3, 2), None),
    "whitening-dense": (
        lambda: fitted(
            Whitening((2, 3, 2), 5, Chain([DenseStep(5, 4), DenseStep(5, 4)])), (2, 3, 2)
        ),
        (2, 3, 2),
        None,
    ),
    "glow-marginals": (lambda: fitted(glow(first_map="marginals"), (1, 4, 4)), (1, 4, 4), None),
    "glow-interlaced": (
        lambda: fitted(glow(first_map="interlaced", interlaced_channels=3), (1, 4, 4)),
        (1, 4, 4),
        None,
    ),
    "glow-whitening": (
        lambda: fitted(
            glow(first_map="whitening", rank=6, dense_steps=2, dense_channels=3), (1, 4, 4)
        ),
        (1, 4, 4),
        None,
    ),
    "dequantization": (
        lambda: VariationalDequantization(2, CouplingNetwork(8, 16, 5)),
        (2, 4, 2),
        None,
    ),
    "glow-dequantization": (
        lambda: glow(dequantization="variational", dequantization_channels=3),
        (1, 4, 4),
        None,
    ),
    "glow-classes": (lambda: glow(classes=4, permutation="reverse"), (1, 4, 4), [3, 0, 3]),
}


@pytest.fixture(params=CASES, ids=str)
def case(request):
    make, shape, labels = CASES[request.param]
    torch.manual_seed(0)
    bijection = perturb(make().double())
    bijection.train(not uses_batch_statistics(bijection))
    x = torch.randn(3, *shape, dtype=torch.float64)
    if any(isinstance(module, Logit | Marginals) for module in bijection.modules()):
        x = x.sigmoid() - 0.5
    context = None if labels is None else torch.tensor(labels)
    return bijection, x, context


def uses_batch_statistics(bijection):
    """Whether it is a bijection of each sample in eval mode alone."""
    return any(isinstance(module, BatchNorm) for module in bijection.modules())


def flat(y):
    """Whatever a bijection gives, as (batch, dimensions)."""
    if isinstance(y, torch.Tensor):
        return y.flatten(1)
    return torch.cat([part.flatten(1) for part in y], dim=1)


def test_inverse_in_float64(case):
    bijection, x, context = case
    y, log_det = bijection(x, context)
    back, log_det_back = bijection.inverse(y, context)
    assert (back - x).abs().max() < 1e-10
    assert (log_det + log_det_back).abs().max() < 1e-10


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_inverse_in_float32(case, mode):
    bijection, x, context = case
    bijection = bijection.float().train(mode == "train" and not uses_batch_statistics(bijection))
    with torch.no_grad():
        back = bijection.inverse(bijection(x.float(), context)[0], context)[0]
    assert (back - x.float()).abs().max() < 1e-4


def test_log_determinant_against_autograd(case):
    bijection, x, context = case
    context = None if context is None else context[:1]  # vmap: the same label for each sample

    def single(sample):
        return flat(bijection(sample[None], context)[0])[0]

    if context is None:
        jacobian = vmap(jacrev(single))(x)
    else:
        jacobian = torch.stack([jacrev(single)(sample) for sample in x])
    expected = jacobian.reshape(len(x), x[0].numel(), x[0].numel()).slogdet().logabsdet
    every = None if context is None else context.expand(len(x))
    y, log_det = bijection(x, every)
    assert log_det.shape == (len(x),)
    assert (log_det - expected).abs().max() < 1e-8
    # the inverse states the determinant of its own Jacobian too
    assert (bijection.inverse(y, every)[1] + expected).abs().max() < 1e-8


def as_a_function(bijection, x, context):
    """Every output in one number, and what it is a function of: a sample and every weight."""
    context = None if context is None else context[:1]
    names = [name for name, _ in bijection.named_parameters()]
    values = [v.detach().requires_grad_() for v in (x[:1], *bijection.parameters())]
    direction = torch.randn_like(flat(bijection(x[:1], context)[0]))

    def objective(x, *weights):
        state = dict(zip(names, weights, strict=True))
        y, log_det = torch.func.functional_call(bijection, state, (x, context))
        return (flat(y) * direction).sum() + log_det.sum()

    return objective, values


def slopes(objective, values, step=1e-7):
    """Along one direction through all values at once: by autograd, and by central differences.

    The part of each tensor is about 1, however small its gradient, so that none hides another.
    """
    gradients = torch.autograd.grad(objective(*values), values, materialize_grads=True)
    direction = [torch.randn_like(g) / g.norm().clamp(min=1e-2) for g in gradients]
    by_autograd = sum((g * d).sum().item() for g, d in zip(gradients, direction, strict=True))
    with torch.no_grad():
        ahead, behind = (
            objective(*(v + s * d for v, d in zip(values, direction, strict=True))).item()
            for s in (step, -step)
        )
    return by_autograd, (ahead - behind) / (2 * step)


def test_gradients(case):
    by_autograd, by_differences = slopes(*as_a_function(*case))
    assert by_autograd == pytest.approx(by_differences, rel=0, abs=1e-5)


def test_one_wrong_gradient_among_many_is_seen():
    bijection, x = perturb(glow().double()), torch.randn(1, 1, 4, 4, dtype=torch.float64)
    objective, values = as_a_function(bijection, x, None)
    for value in values:
        hook = value.register_hook(lambda gradient: 1.01 * gradient + 1e-3)
        by_autograd, by_differences = slopes(objective, values)
        assert abs(by_autograd - by_differences) > 1e-5
        hook.remove()


def test_batch_size_does_not_matter(case):
    bijection, x, context = case
    y, log_det = bijection(x, context)
    for i in range(len(x)):
        some = None if context is None else context[i : i + 1]
        one, one_det = bijection(x[i : i + 1], some)
        assert torch.allclose(flat(one), flat(y)[i : i + 1], atol=1e-12)
        assert torch.allclose(one_det, log_det[i : i + 1], atol=1e-12)


def test_log_determinant_is_float32_in_half_precision():
    bijection = ActNorm(3).bfloat16()
    assert bijection(torch.randn(2, 3, 4, 4, dtype=torch.bfloat16))[1].dtype == torch.float32
