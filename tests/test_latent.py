"""Editing in latent space, against closed forms on codes whose answer is known."""

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.decomposition import PCA

from glowflow import Glow, GlowConfig, InputError
from glowflow.data.inputs import evenly
from glowflow.data.types import ImageData, Splits
from glowflow.latents.codes import flatten, unflatten
from glowflow.latents.directions import load_directions, save_directions
from glowflow.latents.edits import edit, interpolate, resample_level
from glowflow.latents.estimation import FULL_AMOUNT, estimate_directions
from glowflow.latents.levels import along_axis, latent_pca
from glowflow.latents.matching import held_attributes, match
from glowflow.latents.readouts import best_threshold
from glowflow.latents.statistics import RunningPCA, WeightedSums, discriminant
from glowflow.models.companions import identity
from tests.conftest import perturb

SHAPE = (1, 4, 4)
D = 16
U, V = np.eye(D)[0] * 4, np.eye(D)[5] * 4
"""What having A, and having B, adds to a code."""


class Identity(Glow):
    """A model whose codes are the images, in two levels: float data, ε = x."""

    def __init__(self):
        super().__init__(GlowConfig(image_shape=SHAPE, levels=1, steps=1, hidden_channels=2,
                                    bits=None))  # fmt: skip

    @property
    def latent_shapes(self):
        return ((2, 2, 2), (2, 2, 2))

    def encode(self, x, labels=None):
        return unflatten(x.flatten(1), self.latent_shapes)

    def decode(self, latents, labels=None):
        return flatten(latents).reshape(-1, *SHAPE)


def confounded(count=4000, agree=0.85, seed=0):
    """Codes a·U + b·V + noise, where b is a with probability `agree`, and c is neither's."""
    random = np.random.default_rng(seed)
    a = random.random(count) < 0.5
    b = np.where(random.random(count) < agree, a, ~a)
    c = random.random(count) < 0.3
    codes = a[:, None] * U + b[:, None] * V + random.standard_normal((count, D))
    images = codes.reshape(-1, *SHAPE).astype(np.float32)
    return ImageData(images, attributes=np.stack([a, b, c], 1), attribute_names=("A", "B", "C"))


def found(data, model=None, **options):
    options = {"progress": False, "minimum": 5, **options}
    return estimate_directions(model or Identity(), data, **options)


def row(directions, name):
    return torch.cat([eps.flatten() for eps in directions.latents[name]]).double().numpy()


def test_mean_is_the_published_direction():
    data = confounded(500)
    a = data.attributes[:, 0]
    flat = data.images.reshape(500, -1).astype(np.float64)
    expected = 1.6 * (flat[a].mean(0) - flat[~a].mean(0))
    directions = found(data, batch_size=64)
    np.testing.assert_allclose(row(directions, "A"), expected, atol=1e-5)
    assert directions.counts["A"] == (int(a.sum()), int((~a).sum()))
    assert [tuple(eps.shape) for eps in directions.latents["A"]] == [(2, 2, 2), (2, 2, 2)]


def test_mean_leaks_what_goes_with_the_attribute_and_the_others_do_not():
    data = confounded()
    a, b = data.attributes[:, 0], data.attributes[:, 1]
    leak = b[a].mean() - b[~a].mean()
    assert leak > 0.6
    part_of_b = {}
    for estimator in ("mean", "matched", "linear"):
        direction = row(found(data, estimator=estimator), "A")
        part_of_b[estimator] = direction @ V / (FULL_AMOUNT * V @ V)
        assert direction @ U / (FULL_AMOUNT * U @ U) > 0.95, estimator
    assert part_of_b["mean"] == pytest.approx(leak, abs=0.05)
    assert abs(part_of_b["matched"]) < 0.03
    assert abs(part_of_b["linear"]) < 0.03


def test_matched_is_the_effect_of_the_attribute_alone():
    direction = row(found(confounded(), estimator="matched"), "A")
    np.testing.assert_allclose(direction, FULL_AMOUNT * U, atol=0.35)


def test_linear_moves_the_classifier_as_far_as_the_means_are_apart():
    data = confounded()
    flat = torch.from_numpy(data.images.reshape(len(data), -1)).double()
    a = torch.from_numpy(data.attributes[:, 0])
    difference = flat[a].mean(0) - flat[~a].mean(0)
    pca = RunningPCA(32)
    pca.update(flat)
    normal = discriminant(difference[None], pca)[0]
    direction = torch.from_numpy(row(found(data, estimator="linear"), "A"))
    assert float(normal @ direction) == pytest.approx(
        float(FULL_AMOUNT * normal @ difference), rel=1e-4
    )


@pytest.mark.parametrize("estimator", ["mean", "matched", "linear"])
def test_streaming_equals_one_batch(estimator):
    data = confounded(300)
    whole, parts = (found(data, estimator=estimator, batch_size=n) for n in (300, 7))
    for name in "ABC":
        np.testing.assert_allclose(row(parts, name), row(whole, name), atol=1e-5)


def test_too_few_is_refused_with_the_count():
    data = confounded(200)
    rare = np.arange(200) < 3
    data = ImageData(
        data.images,
        attributes=np.column_stack([data.attributes, rare]),
        attribute_names=("A", "B", "C", "Rare"),
    )
    directions = found(data)
    assert list(directions.latents) == ["A", "B", "C"]
    assert "Rare is true of 3 and false of 197 images" in directions.refused["Rare"]
    assert list(found(data, names=["B"]).latents) == ["B"]
    with pytest.raises(InputError, match="Rare is true of 3 and false of 197"):
        found(data, names=["Rare"])
    with pytest.raises(InputError, match="No attribute can be used: A is true of"):
        found(data, minimum=150)
    with pytest.raises(InputError, match="no attribute 'D': choose among A, B, C"):
        found(data, names=["D"])
    with pytest.raises(InputError, match="have no attributes"):
        found(ImageData(data.images))


def test_an_attribute_that_is_another_one_is_not_told_apart():
    data = confounded(400)
    a, c = data.attributes[:, 0], data.attributes[:, 2]
    images = (a[:, None] * U + c[:, None] * U).reshape(-1, *SHAPE)
    data = ImageData(images.astype(np.float32), attributes=np.stack([a, c], 1),
                     attribute_names=("A", "C"))  # fmt: skip
    with pytest.raises(InputError, match="cannot be told from the attributes that are held"):
        found(data, estimator="linear", names=["A"])


def test_held_are_those_of_which_all_combinations_occur():
    a = np.array([1, 1, 1, 1, 0, 0, 0, 0], bool)
    free = np.array([1, 0, 1, 0, 1, 0, 1, 0], bool)
    never_both = np.array([0, 0, 0, 0, 1, 0, 1, 0], bool)
    held = held_attributes(np.stack([a, free, never_both], 1), [0, 1, 2], 2)
    assert held == {0: [1], 1: [0], 2: []}


def test_pairs_take_the_most_alike_and_share_equals():
    side = np.array([1, 1, 0, 0, 0, 0], bool)
    others = np.array([[0, 0, 0], [1, 1, 1], [0, 0, 0], [0, 0, 0], [1, 1, 0], [0, 1, 0]], bool)
    pairs = match(side, others)
    np.testing.assert_allclose(pairs.weights, [0.5, 0.5, -0.25, -0.25, -0.5, 0])
    assert pairs.imbalance == pytest.approx(0.5)
    np.testing.assert_allclose(match(~side, others).weights, -pairs.weights)


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
    pca.update(torch.from_numpy(rows))
    delta = torch.arange(6.0, dtype=torch.float64)[None]
    expected = np.linalg.solve(np.cov(rows.T), delta[0].numpy())
    np.testing.assert_allclose(discriminant(delta, pca)[0].numpy(), expected, rtol=1e-6)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = GlowConfig(image_shape=(3, 8, 8), levels=2, steps=2, hidden_channels=6)
    model = Glow(config)
    model.initialize(images(64))
    return perturb(model, 0.02).eval()


def images(count, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (count, 3, 8, 8), dtype=np.uint8)
    return torch.from_numpy(values)


def codes(model, count=2, seed=1):
    return model.encode(model.to_float(images(count, seed), noise="center"))


def some_direction(model, seed=0, size=0.5):
    random = torch.Generator().manual_seed(seed)
    return tuple(size * torch.randn(shape, generator=random) for shape in model.latent_shapes)


@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_an_amount_of_0_returns_the_bytes(model, temperature):
    latents = codes(model)
    moved = edit(latents, [some_direction(model)], [0.0], temperature=temperature)
    assert torch.equal(model.to_images(model.decode(moved)), images(2, 1))


def test_an_edit_adds_and_its_opposite_takes_away(model):
    latents, first, second = codes(model), some_direction(model, 0), some_direction(model, 1)
    moved = edit(latents, [first, second], [0.5, -2.0])
    for new, old, a, b in zip(moved, latents, first, second, strict=True):
        torch.testing.assert_close(new, old + 0.5 * a - 2 * b)
    back = edit(moved, [first, second], [-0.5, 2.0])
    assert torch.equal(model.to_images(model.decode(back)), images(2, 1))


def test_temperature_is_of_the_part_along_the_directions(model):
    directions = [some_direction(model, 0), some_direction(model, 1)]
    axes = torch.stack([torch.cat([eps.flatten() for eps in d]) for d in directions]).double()
    basis = torch.linalg.qr(axes.T)[0]
    latents = codes(model)
    rows, half, none = (
        flatten(code).double()
        for code in (
            latents,
            edit(latents, directions, [0.5, 1.0], temperature=0.5),
            edit(latents, directions, [0.5, 1.0], temperature=0.0),
        )
    )
    shift = 0.5 * axes[0] + axes[1]
    torch.testing.assert_close(half @ basis, (0.5 * rows + shift) @ basis, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close((none[0] - none[1]) @ basis, torch.zeros(2).double(), atol=1e-4,
                               rtol=0)  # fmt: skip
    outside = torch.eye(len(basis)).double() - basis @ basis.T
    torch.testing.assert_close(none @ outside, rows @ outside, atol=1e-4, rtol=1e-4)


def test_edit_refuses_what_does_not_fit(model):
    latents, direction = codes(model), some_direction(model)
    with pytest.raises(InputError, match="1 attributes and 2 amounts"):
        edit(latents, [direction], [1.0, 2.0])
    for amount, temperature in ((1.0, -1.0), (math.nan, 1.0), (1.0, math.nan)):
        with pytest.raises(InputError, match="temperature of 0 or more, and finite amounts"):
            edit(latents, [direction], [amount], temperature=temperature)


def test_linear_path_and_its_ends(model):
    a, b = codes(model, 1, 1), codes(model, 1, 2)
    for curve in ("linear", "spherical"):
        assert all(map(torch.equal, interpolate(a, b, 0.0, curve), a))
        assert all(map(torch.equal, interpolate(a, b, 1.0, curve), b))
    for x, p, q in zip(interpolate(a, b, 0.25), a, b, strict=True):
        torch.testing.assert_close(x, 0.75 * p + 0.25 * q)
    with pytest.raises(InputError, match="curve is 'round'"):
        interpolate(a, b, 0.5, "round")


def test_spherical_path_keeps_the_length_and_turns_evenly():
    random = torch.Generator().manual_seed(0)
    a, b = (tuple(torch.randn(2, 5, s, s, generator=random) for s in (4, 2)) for _ in range(2))
    b = tuple(
        q * (p.flatten(1).norm(dim=1) / q.flatten(1).norm(dim=1))[:, None, None, None]
        for p, q in zip(a, b, strict=True)
    )
    for t in (0.1, 0.5, 0.8):
        for x, p, q in zip(interpolate(a, b, t, "spherical"), a, b, strict=True):
            x, p, q = (eps.flatten(1) for eps in (x, p, q))
            torch.testing.assert_close(x.norm(dim=1), p.norm(dim=1))
            angle = torch.cosine_similarity(p, q).arccos()
            torch.testing.assert_close(
                torch.cosine_similarity(p, x).arccos(), t * angle, atol=1e-3, rtol=0
            )


def test_spherical_path_on_one_line_is_linear():
    a = (torch.ones(1, 2, 1, 1),)
    for b in ((3 * a[0],), (-2 * a[0],), (0 * a[0],)):
        (x,) = interpolate(a, b, 0.25, "spherical")
        torch.testing.assert_close(x, 0.75 * a[0] + 0.25 * b[0])


def test_resampling_leaves_the_other_levels_alone(model):
    latents = codes(model)
    new = resample_level(latents, 2, seed=3, temperature=0.5)
    assert torch.equal(new[0], latents[0])
    assert not torch.equal(new[1], latents[1])
    assert all(map(torch.equal, new, resample_level(latents, 2, seed=3, temperature=0.5)))
    assert not torch.equal(new[1], resample_level(latents, 2, seed=4, temperature=0.5)[1])
    assert float(resample_level(latents, 1, seed=0, temperature=0.0)[0].abs().max()) == 0
    for level in (0, 3):
        with pytest.raises(InputError, match=f"level is {level}: this model has the levels 1 to 2"):
            resample_level(latents, level, seed=0)
    with pytest.raises(InputError, match="temperature is -1"):
        resample_level(latents, 1, seed=0, temperature=-1)


def of_bytes(count=60):
    truth = np.random.default_rng(5).random((count, 2)) < 0.5
    pixels = images(count).numpy().copy()
    pixels[truth[:, 0], 0] //= 2
    return ImageData(pixels, attributes=truth, attribute_names=("Dark", "Other"))


def test_directions_file_round_trip_and_refusal(model, tmp_path):
    directions = found(of_bytes(), model, estimator="matched", source="here")
    path = tmp_path / "directions.safetensors"
    save_directions(path, directions)
    again = load_directions(path, model)
    assert again.latents.keys() == directions.latents.keys()
    for name, latents in directions.latents.items():
        assert all(map(torch.equal, again.latents[name], latents))
    for what in ("estimator", "model", "counts", "refused", "held", "imbalance", "source"):
        assert getattr(again, what) == getattr(directions, what), what
    other = perturb(Glow(model.config)).eval()
    with pytest.raises(InputError, match="are of another model"):
        load_directions(path, other)
    with pytest.raises(InputError, match="There is no file"):
        load_directions(tmp_path / "none.safetensors", model)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(InputError, match="damaged or not safetensors"):
        load_directions(path, model)
    save_file({"a": torch.ones(1)}, path)
    assert load_file(path)
    with pytest.raises(InputError, match="does not hold directions"):
        load_directions(path, model)


def test_identity_changes_with_every_weight(model):
    before = identity(model)
    assert identity(model) == before
    with torch.no_grad():
        weight = next(model.parameters()).reshape(-1)
        weight[0] += 1e-6
        changed = identity(model)
        weight[0] -= 1e-6
    assert changed != before


def test_evenly():
    assert evenly(5, None).tolist() == [0, 1, 2, 3, 4]
    assert evenly(5, 9).tolist() == [0, 1, 2, 3, 4]
    assert evenly(9, 3).tolist() == [0, 4, 8]
    with pytest.raises(InputError, match="number of images is 0"):
        evenly(5, 0)


def test_threshold_with_the_fewest_errors():
    scores = np.array([0.0, 1.0, 2.0, 3.0])
    assert best_threshold(scores, np.array([0, 0, 1, 1], bool)) == 1.5
    assert best_threshold(scores, np.array([0, 0, 0, 0], bool)) == np.inf
    assert best_threshold(scores, np.array([1, 1, 1, 1], bool)) == -np.inf
    tied = np.array([1.0, 1.0, 1.0, 2.0])
    assert best_threshold(tied, np.array([0, 1, 0, 1], bool)) == 1.5


def test_readout_finds_the_level_that_has_the_attribute():
    a, b, c = (confounded(n, agree=0.5, seed=s) for n, s in ((800, 1), (300, 2), (300, 3)))
    splits = Splits(train=a, valid=b, test=c, source="", checksum="")
    result = latent_pca(Identity(), splits, components=3, progress=False)
    by_name = {readout.name: readout for readout in result.readouts}
    assert U.nonzero()[0] < 8 and V.nonzero()[0] < 8
    for name in "AB":
        first, second, both = by_name[name].accuracy
        assert first > 0.93
        assert both > 0.9
        assert second < 0.65
    for accuracy in by_name["C"].accuracy:
        assert abs(accuracy - by_name["C"].majority) < 0.1
    explained = result.levels[0].shares
    assert float(explained[:2].sum()) > 0.4 > float(result.levels[1].shares[:2].sum())
    assert [x.shape for x in result.coordinates] == [(300, 3), (300, 3)]


def test_pictures_along_an_axis_start_from_the_mean(model):
    data = of_bytes()
    splits = Splits(train=data, valid=data, test=data, source="", checksum="")
    result = latent_pca(model, splits, components=2, progress=False)
    pictures = along_axis(model, result, 1, 0, (-1.0, 0.0, 1.0))
    mean = unflatten(torch.cat([level.mean for level in result.levels])[None], model.latent_shapes)
    expected = model.to_images(model.decode(tuple(eps.float() for eps in mean)))[0].numpy()
    assert np.array_equal(pictures[1], expected)
    assert not np.array_equal(pictures[0], pictures[2])


def test_classes_stand_in_for_attributes(model):
    pixels = images(40).numpy()
    labels = np.arange(40) % 2
    data = ImageData(pixels, labels=labels, class_names=("even", "odd"))
    splits = Splits(train=data, valid=data, test=data, source="", checksum="")
    result = latent_pca(model, splits, components=2, progress=False)
    assert [readout.name for readout in result.readouts] == ["even", "odd"]
