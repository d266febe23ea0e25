"""Statistics of codes a batch at a time, against those of all of them."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from glowflow import InputError
from glowflow.latents.statistics import RunningPCA, WeightedSums, discriminant


def test_weighted_sums_are_additive():
    random = torch.Generator().manual_seed(0)
    weights, rows = torch.randn(9, 2, generator=random), torch.randn(9, 5, generator=random)
    sums = WeightedSums(2, 5)
    for start in (0, 4, 8):
        sums.update(weights[start : start + 4], rows[start : start + 4])
    torch.testing.assert_close(sums.sums, weights.double().T @ rows.double())


def decaying(count=400, dims=40, seed=0):
    random = np.random.default_rng(seed)
    scale = 0.7 ** np.arange(dims)
    turn = np.linalg.qr(random.standard_normal((dims, dims)))[0]
    return (3 + random.standard_normal((count, dims)) * scale) @ turn


@pytest.mark.parametrize("batch", [400, 50, 33])
def test_running_pca_is_pca(batch):
    rows = decaying()
    pca, expected = RunningPCA(5), PCA(5).fit(rows)
    for start in range(0, len(rows), batch):
        pca.update(torch.from_numpy(rows[start : start + batch]))
    assert pca.count == len(rows)
    np.testing.assert_allclose(pca.mean.numpy(), expected.mean_, atol=1e-9)
    np.testing.assert_allclose(pca.variances.numpy(), expected.explained_variance_, rtol=1e-4)
    np.testing.assert_allclose(pca.shares.numpy(), expected.explained_variance_ratio_, rtol=1e-4)
    along = np.abs((pca.components.numpy() * expected.components_).sum(1))
    np.testing.assert_allclose(along, 1, atol=1e-4)
    assert (pca.components.gather(1, pca.components.abs().argmax(1, keepdim=True)) > 0).all()


def test_running_pca_of_fewer_rows_than_components():
    rows = torch.from_numpy(decaying(4))
    pca = RunningPCA(10)
    for one in rows:
        pca.update(one[None])
    assert pca.components.shape == (3, 40)
    assert float(pca.shares.sum()) == pytest.approx(1)
    with pytest.raises(InputError, match="components is 0"):
        RunningPCA(0)


def test_discriminant_solves_with_the_covariance():
    rows = decaying(2000, 6)
    pca = RunningPCA(6)
    for some in torch.from_numpy(rows).split(100):
        pca.update(some)
    delta = torch.arange(6.0, dtype=torch.float64)[None]
    expected = np.linalg.solve(np.cov(rows.T), delta[0].numpy())
    np.testing.assert_allclose(discriminant(delta, pca)[0].numpy(), expected, rtol=1e-6)
