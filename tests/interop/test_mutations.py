"""Mutated files: each is a model, or ends in a sentence; nothing crashes, nothing swells."""

import random
import resource
import sys

import numpy as np
import pytest

from glowflow import Glow, GlowflowError
from glowflow.interop.published_directions import read_published_directions

from . import tensorflow_files as tf
from .official import variables
from .test_frozen_graph import folded_graph, plain_graph

CASES = 35
"""Of each kind of file; a longer run has had ten thousand of all."""
EDGES = (0, 1, 127, 128, 255)
MADE = variables(0, channels=1, levels=2, steps=1, width=3)


def mutated(rng, content):
    """A few bytes changed, taken away, put in, repeated, or the end cut off."""
    content = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        if not content:
            break
        at, size = rng.randrange(len(content)), rng.randrange(1, 12)
        other = rng.randrange(len(content))
        match rng.randrange(6):
            case 0:
                content[at] ^= 1 << rng.randrange(8)
            case 1:
                content[at] = rng.choice(EDGES)
            case 2:
                del content[at : at + (size if rng.random() < 0.7 else len(content))]
            case 3:
                content[at:at] = rng.randbytes(size)
            case 4:
                content[at : at + 5 * size] = content[other : other + 5 * size]
            case 5:
                content[at : at + size] = b"\xff" * size
    return bytes(content)


def entries():
    """Those of the index, to change them before the checksums are made."""
    rows, offset = [(b"", tf.number(1, 1))], 0
    for name in sorted(MADE):
        content = MADE[name].tobytes()
        entry = {
            "dtype": 1,
            "shape": MADE[name].shape,
            "shard": 0,
            "offset": offset,
            "size": len(content),
            "crc": tf.masked(tf.crc32c(content)),
        }
        rows.append((name.encode(), tf.describe(entry)))
        offset += len(content)
    return rows


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mutations")
    tf.write_checkpoint(folder / "m", MADE)
    (folder / "checkpoint").write_text('model_checkpoint_path: "/a/m"\n')
    (folder / "train.txt").write_text('{"n_levels": 2, "n_bits_x": 8, "image_size": 8}\n')
    (folder / "plain.pb").write_bytes(b"".join(plain_graph(MADE)))
    (folder / "folded.pb").write_bytes(b"".join(folded_graph(MADE)))
    np.savez(folder / "dump.npz", **MADE)
    np.savez_compressed(folder / "packed.npz", **MADE)
    return folder


def attempt(path, said):
    """Whether it was read; a refusal is one line."""
    try:
        Glow.from_foreign(path, **said)
    except GlowflowError as refusal:
        assert "\n" not in str(refusal)
        return False
    return True


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("m.index", "m"),
        ("m.data-00000-of-00001", "m"),
        ("checkpoint", ""),
        ("train.txt", ""),
        ("plain.pb", "plain.pb"),
        ("folded.pb", "folded.pb"),
        ("dump.npz", "dump.npz"),
        ("packed.npz", "packed.npz"),
    ],
)
def test_a_mutated_file(files, name, path):
    rng = random.Random(name)
    whole = (files / name).read_bytes()
    said = {} if path in ("", "m", "folded.pb") else {"image_size": (8, 8), "bits": 8}
    before = {file.name for file in files.iterdir()}
    read = 0
    try:
        assert attempt(files / path, said)
        for _ in range(CASES):
            (files / name).write_bytes(mutated(rng, whole))
            read += attempt(files / path, said)
    finally:
        (files / name).write_bytes(whole)
    assert read < CASES  # some of it must be refused
    assert {file.name for file in files.iterdir()} == before


def test_an_index_that_is_mutated_before_its_checksums_are_made(files):
    rng = random.Random(7)
    path = files / "m.index"
    whole, rows = path.read_bytes(), entries()
    refused = 0
    try:
        path.write_bytes(tf.table(rows, 9))
        assert attempt(files / "m", {})
        for _ in range(3 * CASES):
            some = list(rows)
            place = rng.randrange(len(some))
            key, value = some[place]
            if rng.random() < 0.2:
                key = mutated(rng, key)
            else:
                value = mutated(rng, value)
            some[place] = (key, value)
            path.write_bytes(tf.table(some, 9))
            refused += not attempt(files / "m", {})
    finally:
        path.write_bytes(whole)
    assert refused > CASES


def test_mutated_directions(files):
    model = Glow.from_foreign(files / "folded.pb")
    np.save(files / "z.npy", np.ones((40, 64), np.float32))
    whole, rng = (files / "z.npy").read_bytes(), random.Random(3)
    assert len(read_published_directions(files / "z.npy", model).latents) == 40
    refused = 0
    for _ in range(CASES):
        (files / "z.npy").write_bytes(mutated(rng, whole[:200]) + whole[200:])
        try:
            read_published_directions(files / "z.npy", model)
        except GlowflowError:
            refused += 1
    assert refused > CASES // 2


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such figure")
def test_a_header_allocates_nothing(files, tmp_path):
    """Sizes that only a header says take no memory: of 8 GiB that are claimed none is touched."""
    huge = (2**16, 2**15)
    claims = {
        "m": lambda: tf.write_checkpoint(
            tmp_path / "m", MADE, change=lambda _, e: e | {"shape": huge, "size": 2**33}
        ),
        "g.pb": lambda: (tmp_path / "g.pb").write_bytes(
            b"".join(
                tf.constant(name, value.ravel()[:1], as_values=True, sizes=huge)
                for name, value in MADE.items()
            )
        ),
        "z.npz": lambda: np.savez_compressed(tmp_path / "z.npz", **{"model/0/0/f1/W": ZEROS}),
    }
    for name, write in claims.items():
        write()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert not attempt(tmp_path / name, {"image_size": (8, 8), "bits": 8})
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 64 * 1024  # KiB


ZEROS = np.zeros((64, 2**18), np.float32)
