"""Frozen graphs: weights are told from what follows from them, and nothing is guessed."""

import numpy as np
import pytest
import torch

from glowflow import CheckpointError, Glow
from glowflow.interop.convert import convert
from glowflow.interop.frozen_graph import read_frozen_graph
from glowflow.interop.graph_file import read_graph

from . import tensorflow_files as tf
from .official import Official, variables

SAID = {"image_size": (8, 8), "bits": 5}


def write(path, *nodes):
    path.write_bytes(b"".join(nodes) + tf.text(4, tf.number(1, 26)))
    return path


def plain_graph(made):
    """As freezing leaves a graph: a constant for each variable, and an Identity behind it."""
    for name, value in made.items():
        yield tf.constant(name, value)
        yield tf.node(f"{name}/read", "Identity")


def folded_graph(made, size=(8, 8), bits=5, encoder="model", decoder="model_1"):
    """As constant folding leaves it: exponentials and inverses, rounded to float32."""
    constants = {f"{encoder}/random_uniform/sub": np.float32(2.0**-bits)}
    for name, value in made.items():
        layer, _, kind = name.rpartition("/")
        local = layer.removeprefix("model/")
        own_step = local.count("/") == 2 and kind == "logs"
        if kind == "logs":
            scale = np.exp(3 * value.astype(np.float64))
            constants[f"{encoder}/{local}/Exp"] = scale
            constants[f"{decoder}/{local}/Exp"] = 1 / scale if own_step else scale
        elif layer.endswith("invconv"):
            constants[f"{encoder}/{local}/Reshape"] = value[None, None]
            constants[f"{decoder}/{local}/Reshape"] = np.linalg.inv(value)[None, None]
        else:
            constants[f"{name}/read"] = value
        pixels = size[0] * size[1] / 4 ** (int(local[0]) + 1) if local[0].isdigit() else 0
        if own_step:
            constants[f"{encoder}/{local}/mul_2"] = pixels * (3 * value).sum()
        elif layer.endswith("invconv"):
            constants[f"{encoder}/{local}/mul_1"] = pixels * np.linalg.slogdet(value)[1]
    rng = np.random.default_rng(0)
    for name in rng.permutation(sorted(constants)):
        value = np.asarray(constants[name])
        value = value if value.dtype == np.int32 else value.astype(np.float32)
        yield tf.constant(f"{name}/_{len(name)}__cf__{len(name)}", value)


def log_probs(model, plain, classes=False, dtype=torch.float64):
    x = np.random.default_rng(1).uniform(-0.5, 0.5, (3, *model.config.image_shape))
    y = np.array([0, 1, 1]) if classes else None
    labels = None if y is None else torch.from_numpy(y)
    ours = model.log_prob(torch.from_numpy(x).to(dtype), labels).detach().numpy()
    return ours, plain.log_prob(x.transpose(0, 2, 3, 1), y)


@pytest.mark.parametrize("architecture", [{}, {"permutation": "lu"}, {"classes": 2}])
def test_a_plain_graph(tmp_path, architecture):
    made = variables(5, **architecture)
    path = write(tmp_path / "g.pb", *plain_graph(made))
    model = Glow.from_foreign(path, dtype=torch.float64, **SAID)
    ours, theirs = log_probs(model, Official(made), classes=model.config.classes > 0)
    assert np.abs(ours - theirs).max() < 1e-9 * 192


@pytest.mark.parametrize("scopes", [("model", "model_1"), ("model_2", "model_3")])
def test_a_folded_graph_is_what_it_holds_to_1e_9(tmp_path, scopes):
    """The exponentials that are stored are the scales to the last bit of float64."""
    made = variables(6)
    held = dict(made)
    for name, value in made.items():
        if name.endswith("logs"):
            scale = np.exp(3 * value.astype(np.float64)).astype(np.float32)
            held[name] = np.log(scale.astype(np.float64)) / 3
    nodes = folded_graph(made, encoder=scopes[0], decoder=scopes[1])
    model = Glow.from_foreign(write(tmp_path / "g.pb", *nodes), dtype=torch.float64)
    assert (model.config.image_shape, model.config.bits) == ((3, 8, 8), 5)
    ours, theirs = log_probs(model, Official(held))
    assert np.abs(ours - theirs).max() < 1e-9 * 192


def test_a_graph_with_classes_that_is_folded(tmp_path):
    made = {n: v for n, v in variables(7, classes=2).items() if "classifier" not in n}
    model = Glow.from_foreign(write(tmp_path / "g.pb", *folded_graph(made)), dtype=torch.float64)
    ours, theirs = log_probs(model, Official(made), classes=True)
    assert np.abs(ours - theirs).max() < 1e-5 * 192


def test_the_part_that_encodes_is_found_whatever_it_is_called(tmp_path):
    made = variables(6)
    nodes = folded_graph(made, encoder="model_1", decoder="model")
    model = Glow.from_foreign(write(tmp_path / "g.pb", *nodes), dtype=torch.float64)
    ours, theirs = log_probs(model, Official(made))
    assert np.abs(ours - theirs).max() < 1e-5 * 192


def border(height, width, batch=1):
    mask = np.ones((batch, height + 2, width + 2, 1), dtype=np.float32)
    mask[:, 1:-1, 1:-1] = 0
    return mask


def test_what_belongs_to_the_graph_is_no_weight(tmp_path):
    """Paddings, borders, zeros, the triangles of LU, and constants without axes."""
    made = variables(8, permutation="lu")
    c = 12
    more = [
        tf.constant("model/0/0/f1/l_1/Pad/paddings", np.array([[0, 0], [1, 1]] * 2, np.int32)),
        tf.constant("model/0/0/f1/l_1/Const", border(4, 8)),
        tf.constant("model/1/0/f1/l_1/Const", border(2, 4, batch=3)),
        tf.constant("model/zeros", np.zeros((3, 2, 4, 48), np.float32), as_values=True, count=1),
        tf.constant("model/0/0/invconv/mul/y", np.tril(np.ones((c, c), np.float32), -1)),
        tf.constant("model/0/0/invconv/mul_1/y", np.triu(np.ones((c, c), np.float32), 1)),
        tf.constant("model/0/0/invconv/eye", np.eye(c, dtype=np.float32)),
        tf.constant("model/add/y", np.float32(2.0)),
        tf.constant("model/random_uniform/max", np.float32(1 / 32)),
        tf.node("label", "Const", value=tf.text(8, tf.number(1, 7) + tf.text(8, "text"))),
    ]
    read = convert(write(tmp_path / "g.pb", *plain_graph(made), *more))
    assert (read.model.config.image_shape, read.model.config.bits) == ((3, 8, 16), 5)
    (left_out,) = read.left_out
    assert left_out.startswith("10 numbers, shapes, zeros and masks (")
    assert "model/0/0/f1/l_1/Pad/paddings" in left_out and "label" in left_out


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model/0/0/f1/cond/W", np.ones((1, 1, 8, 8), np.float32)),
        ("model/0/0/f1/Conv2D_1", np.full((1, 4, 4, 8), 0.25, np.float32)),
        ("elsewhere", np.arange(4, dtype=np.float32).reshape(2, 2)),
        ("model/gather", np.arange(9, dtype=np.int32).reshape(3, 3)),
        ("model/0/0/f1/l_1/Const", border(4, 4) * 2),
        ("model_1/0/0/invconv/Reshape", np.ones((1, 1, 12, 12), np.float32)),
        ("model_1/0/0/actnorm_scale/Exp", np.ones((1, 1, 1, 12), np.float32)),
        ("model_1/0/0/actnorm_scale/Exp", np.zeros((1, 1, 1, 12), np.float32)),
    ],
)
def test_what_is_unexplained_is_named(tmp_path, name, value):
    path = write(tmp_path / "g.pb", *plain_graph(variables()), tf.constant(name, value))
    with pytest.raises(CheckpointError, match=f"has {name}, which the model does not explain"):
        Glow.from_foreign(path, **SAID)


def test_log_determinants_that_are_not_those_of_the_weights(tmp_path):
    made = variables(6)
    other = {n: v + (n == "model/0/1/actnorm_scale/logs") for n, v in made.items()}
    nodes = [n for n in folded_graph(made) if b"model/0/1/actnorm_scale/mul_2" not in n]
    lies = [n for n in folded_graph(other) if b"model/0/1/actnorm_scale/mul_2" in n]
    with pytest.raises(CheckpointError, match=r"log-determinants .* are not those"):
        Glow.from_foreign(write(tmp_path / "g.pb", *nodes, *lies))


def test_placeholders_say_the_size(tmp_path):
    nodes = [
        tf.placeholder("input/image", (-1, 8, 16, 3)),
        tf.placeholder("input/downsampled_image", (-1, 4, 8, 3)),
        *folded_graph(variables(6), size=(8, 16)),
    ]
    model = Glow.from_foreign(write(tmp_path / "g.pb", *nodes))
    assert model.config.image_shape == (3, 8, 16)
    nodes[0] = tf.placeholder("input/image", (-1, 16, 16, 3))
    with pytest.raises(CheckpointError, match="images of 16x16, and its log-determinants for 128"):
        Glow.from_foreign(write(tmp_path / "g.pb", *nodes))


def test_the_optimised_graph_is_told(tmp_path):
    nodes = [*plain_graph(variables()), tf.node("model/0/0/f1/l_1/EdgeBias", "EdgeBias")]
    with pytest.raises(CheckpointError, match=r"convert graph_unoptimized\.pb"):
        Glow.from_foreign(write(tmp_path / "g.pb", *nodes), **SAID)


@pytest.mark.parametrize(
    "array",
    [
        np.array([1.5, -2.5, -2.5], np.float32),
        np.array([1.5, -2.5, -2.5], np.float64),
        np.array([1.5, -2.5, -2.5], np.float16),
        np.array([7, -2, -2], np.int32),
        np.array([7, -(2**40), -(2**40)], np.int64),
        np.zeros((2, 2), np.float32),
    ],
    ids=lambda array: str(array.dtype),
)
def test_every_way_to_store_a_constant(tmp_path, array):
    """Its bytes, its values, or its first values of which the last one goes on; none are zeros."""
    first = 2 if array.any() else 0
    for node in (
        tf.constant("c", array),
        tf.constant("c", array, as_values=True),
        tf.constant("c", array, as_values=True, count=first),
    ):
        (found,) = read_graph(write(tmp_path / "g.pb", node)).constants.values()
        assert np.array_equal(found.read().numpy(), array)
        assert found.read().numpy().dtype == array.dtype


ONE = np.ones(3, np.float32)
DAMAGED = {
    "two of a name": (tf.constant("c", ONE) * 2, "two nodes are called c"),
    "without a name": (tf.text(1, tf.text(2, "Const")), "no name"),
    "without a value": (tf.node("c", "Const"), "c has no value"),
    "too few bytes": (tf.constant("c", ONE, sizes=(4,)), "not as many bytes as its shape"),
    "too many bytes": (tf.constant("c", ONE, sizes=(2,)), "not as many bytes as its shape"),
    "a negative size": (tf.constant("c", ONE, sizes=(-1,)), "a shape cannot be"),
    "blown up": (tf.constant("c", ONE, as_values=True, sizes=(2**16, 2**16)), "17,179,869,184"),
    "half a number": (
        tf.node("c", "Const", value=tf.text(8, tf.number(1, 1) + tf.text(5, b"123"))),
        "half a number",
    ),
    "cut off": (tf.constant("c", ONE)[:-3], "longer than its message"),
    "another message": (tf.text(1, tf.text(1, "a") + tf.text(2, "b")) + tf.text(9, b""), "field 9"),
    "no text": (tf.text(1, tf.text(1, b"\xff\xfe") + tf.text(2, "b")), "codec"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_graph(tmp_path, damage):
    content, message = DAMAGED[damage]
    (tmp_path / "g.pb").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_graph(tmp_path / "g.pb")


def test_more_values_than_the_shape_has(tmp_path):
    path = write(tmp_path / "g.pb", tf.constant("c/d", ONE, as_values=True, sizes=(2,)))
    with pytest.raises(CheckpointError, match="has 3 numbers for a shape"):
        read_graph(path).constants["c/d"].read()


def test_messages_within_messages(tmp_path):
    """The reader goes as deep as a graph does, and no deeper."""
    deep = b""
    for _ in range(5000):
        deep = tf.text(8, deep)
    write(tmp_path / "g.pb", tf.node("c", "Const", value=deep), tf.node("d", "NoOp", a=deep))
    graph = read_graph(tmp_path / "g.pb")
    assert not graph.constants["c"].is_number
    assert read_frozen_graph(tmp_path / "g.pb").tensors == {}
