"""What each bijection promises beyond being one."""

import copy
import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glowflow import InputError
from glowflow.bijections import (
    ActNorm,
    AffineCoupling,
    Bijection,
    Invertible1x1Conv,
    Permutation,
    PlainInvertible1x1Conv,
    Squeeze,
)
from glowflow.bijections.coupling import LOG_SCALES
from glowflow.bijections.linear import random_rotation
from glowflow.nn.coupling_network import CouplingNetwork

FORMS = [Invertible1x1Conv, PlainInvertible1x1Conv]


def test_bijection_needs_both_directions():
    with pytest.raises(TypeError, match="abstract"):
        Bijection()


class TestActNorm:
    def test_centres_then_scales(self):
        actnorm = ActNorm(1)
        with torch.no_grad():
            actnorm.b.fill_(2.0)
            actnorm.logs.fill_(0.5)
        y, _ = actnorm(torch.full((1, 1, 1, 1), 3.0))
        assert y.item() == pytest.approx((3.0 + 2.0) * torch.tensor(1.5).exp().item())

    def test_first_batch_gets_zero_mean_and_unit_variance(self):
        x = 5 * torch.randn(16, 4, 8, 8) * torch.tensor([1.0, 2.0, 3.0, 4.0])[:, None, None] + 7
        y, _ = ActNorm(4).initialize(x)
        assert y.mean(dim=(0, 2, 3)).abs().max() < 1e-4
        assert (y.var(dim=(0, 2, 3), unbiased=False) - 1).abs().max() < 1e-4

    def test_initialises_once_even_after_loading(self):
        first = ActNorm(2)
        first.initialize(torch.randn(8, 2, 4, 4) * 3)
        loaded = ActNorm(2)
        loaded.load_state_dict(first.state_dict())
        loaded.initialize(torch.randn(8, 2, 4, 4) * 100)
        assert torch.equal(loaded.logs, first.logs)

    def test_constant_channel_is_not_blown_up(self):
        y, _ = ActNorm(1).initialize(torch.zeros(4, 1, 2, 2))
        _, log_det = ActNorm(1).initialize(torch.zeros(4, 1, 2, 2))
        assert torch.isfinite(y).all()
        assert log_det.max() <= 4 * 9.22  # 1e4 at most, at each of 4 pixels


class TestInvertible1x1Conv:
    @pytest.mark.parametrize("form", FORMS)
    def test_starts_as_a_rotation(self, form):
        W = form(6).matrix().detach()
        assert torch.allclose(W @ W.T, torch.eye(6), atol=1e-5)
        assert torch.linalg.det(W).item() == pytest.approx(1.0, abs=1e-5)

    def test_both_forms_are_the_same_map(self):
        W = torch.randn(6, 6, dtype=torch.float64)
        lu, plain = Invertible1x1Conv(6).double(), PlainInvertible1x1Conv(6).double()
        lu.set_matrix(W)
        plain.set_matrix(W)
        x = torch.randn(2, 6, 3, 3, dtype=torch.float64)
        for a, b in zip(lu(x), plain(x), strict=True):
            assert torch.allclose(a, b, atol=1e-12)
        for a, b in zip(lu.inverse(x), plain.inverse(x), strict=True):
            assert torch.allclose(a, b, atol=1e-10)

    def test_lu_has_as_many_weights_as_the_matrix(self):
        assert sum(p.numel() for p in Invertible1x1Conv(7).parameters()) == 49

    def test_fixed_parts_of_lu_do_not_learn(self):
        conv = Invertible1x1Conv(5)
        before = conv.rows.clone(), conv.sign_s.clone()
        optimizer = torch.optim.SGD(conv.parameters(), lr=0.1)
        conv(torch.randn(2, 5, 2, 2))[0].square().sum().backward()
        optimizer.step()
        L, U = (factor[0] for factor in conv.factors([conv]))
        assert torch.equal(L.triu(), torch.eye(5))
        assert torch.equal(U.tril(-1), torch.zeros(5, 5))
        assert torch.equal(conv.rows, before[0])
        assert torch.equal(U.diagonal().sign(), before[1])

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("change", ["step", "load", "dtype", "in place"])
    def test_matrices_follow_the_weights(self, form, change):
        conv = form(4).eval()
        x = torch.randn(1, 4, 2, 2)
        with torch.no_grad():
            before = conv.inverse(conv(x)[0])[0], conv(x)[0]
        if change == "step":
            conv.set_matrix(torch.randn(4, 4, dtype=torch.float64))
            optimizer = torch.optim.Adamax(conv.parameters(), lr=0.1)
            conv(x)[0].sum().backward()
            optimizer.step()
        elif change == "load":
            conv.load_state_dict(form(4).state_dict())
        elif change == "dtype":
            conv, x = conv.double(), x.double()
        else:
            with torch.no_grad():
                next(conv.parameters()).mul_(1.5)
        with torch.no_grad():
            y = conv(x)[0]
            expected = torch.einsum("ij,bjhw->bihw", conv.matrix(), x)
            assert torch.allclose(y, expected, atol=1e-5)
            assert torch.allclose(conv.inverse(y)[0], x, atol=1e-4)
            assert y.dtype == x.dtype
        if change != "dtype":
            assert not torch.allclose(y, before[1])

    @pytest.mark.parametrize("form", FORMS)
    def test_matrices_are_computed_once_while_frozen(self, form, monkeypatch):
        conv, y = form(4), torch.randn(1, 4, 2, 2)
        calls = []
        original = conv.inverse_matrices
        monkeypatch.setattr(conv, "inverse_matrices", lambda m: calls.append(1) or original(m))
        with conv.frozen(), torch.no_grad():
            for _ in range(3):
                conv.inverse(y)
            assert len(calls) == 1
            with torch.inference_mode():
                conv.inverse(y)  # what is kept there is for there alone
                conv.inverse(y)
            assert len(calls) == 2
        with conv.frozen():
            conv.inverse(y)  # gradients wanted: not from the kept one
            conv.inverse(y)
        assert len(calls) == 4
        with torch.no_grad():
            conv.eval().inverse(y)  # not frozen: nothing is kept
            conv.inverse(y)
        assert len(calls) == 6

    @pytest.mark.parametrize("form", FORMS)
    def test_copies_and_saved_files_carry_no_kept_matrix(self, form):
        conv, x = form(4), torch.randn(1, 4, 2, 2)
        with conv.frozen(), torch.no_grad():
            conv(x)
            other = copy.deepcopy(conv)
            assert conv._values
            assert other._values is None
            buffer = io.BytesIO()
            torch.save(conv, buffer)
        assert conv._values is None
        kept = {"rows", "sign_s"} if form is Invertible1x1Conv else set()
        assert set(conv.state_dict()) == kept | {name for name, _ in conv.named_parameters()}
        buffer.seek(0)
        assert torch.load(buffer, weights_only=False)._values is None

    @given(st.integers(1, 24))
    @settings(max_examples=10, deadline=None)
    def test_rotation_of_any_size(self, channels):
        Q = random_rotation(channels)
        assert torch.allclose(Q @ Q.T, torch.eye(channels, dtype=torch.float64), atol=1e-12)
        assert torch.linalg.det(Q).item() == pytest.approx(1.0)


class TestPermutation:
    def test_indices_are_saved(self):
        shuffle = Permutation.shuffle(9)
        other = Permutation.shuffle(9)
        other.load_state_dict(shuffle.state_dict())
        x = torch.randn(1, 9, 1, 1)
        assert torch.equal(other(x)[0], shuffle(x)[0])

    def test_reverse(self):
        x = torch.arange(3.0)[None, :, None, None]
        assert Permutation.reverse(3)(x)[0].flatten().tolist() == [2, 1, 0]

    def test_refuses_what_is_no_permutation(self):
        with pytest.raises(InputError, match="not a permutation"):
            Permutation(torch.tensor([0, 0, 1]))


class TestSqueeze:
    def test_channel_order_is_c_dy_dx(self):
        x = torch.arange(2 * 2 * 2.0).reshape(1, 2, 2, 2)
        y, _ = Squeeze()(x)
        assert y.flatten().tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
        x = torch.randn(2, 3, 4, 6)
        y, _ = Squeeze()(x)
        for c, dy, dx, i, j in [(0, 0, 1, 1, 2), (2, 1, 0, 0, 1), (1, 1, 1, 1, 0)]:
            assert torch.equal(y[:, 4 * c + 2 * dy + dx, i, j], x[:, c, 2 * i + dy, 2 * j + dx])

    def test_refuses_odd_sizes(self):
        with pytest.raises(InputError, match="5x4"):
            Squeeze()(torch.zeros(1, 1, 5, 4))
        with pytest.raises(InputError, match="divisible by 4"):
            Squeeze().inverse(torch.zeros(1, 6, 2, 2))


class TestCoupling:
    @pytest.mark.parametrize("scale", LOG_SCALES)
    def test_first_half_stays_and_second_is_shifted_then_scaled(self, scale):
        coupling = AffineCoupling(CouplingNetwork(2, 4, 3), scale)
        x = torch.randn(2, 4, 3, 3)
        with torch.no_grad():
            coupling.network.last.b.copy_(torch.tensor([1.0, 0.3, 2.0, -0.2]))
        y, _ = coupling(x)
        raw = torch.tensor([0.3, -0.2])
        expected = {
            "sigmoid": torch.sigmoid(raw + 2),
            "bounded": 2 ** torch.tanh(raw / torch.tensor(2.0).log()),
            "exp": raw.exp(),
            "inverse_sigmoid": 1 / torch.sigmoid(raw + 2),
        }[scale]
        shifted = x[:, 2:] + torch.tensor([1.0, 2.0])[:, None, None]
        assert torch.equal(y[:, :2], x[:, :2])
        assert torch.allclose(y[:, 2:], shifted * expected[:, None, None], atol=1e-6)

    @given(st.floats(-1e4, 1e4))
    def test_bounded_scale_stays_in_its_interval(self, raw):
        scale = LOG_SCALES["bounded"](torch.tensor(raw)).exp()
        assert 0.5 - 1e-6 <= scale.item() <= 2 + 1e-6

    def test_unknown_scale(self):
        with pytest.raises(InputError, match="sigmoid, bounded, exp"):
            AffineCoupling(CouplingNetwork(1, 2, 3), "tanh")
