"""Saved models that somebody has damaged or made up: weights, configurations, companions.

Each is refused in a sentence, or loads and works. `python -m tests.fuzzing.saved 20000 7` tries so
many from a seed.
"""

import json
import random
import resource
import struct
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from glowflow import Glow, GlowConfig, GlowflowError, RealNVP, RealNVPConfig, load_model
from glowflow.data.record import SplitRecord
from glowflow.evaluation.calibration import Calibration, load_calibration, save_calibration
from glowflow.latents.directions import Directions, load_directions, save_directions
from glowflow.latents.edits import edit
from glowflow.models.companions import identity
from glowflow.models.training_data import TrainingData

VALUES = [
    None, True, False, "", "x", "lu", "affine", "glow", "realnvp", "os.system", "builtins:exec",
    "tests.fuzzing.saved:main", "\ud800", "🦉" * 50, "a\nb", -1, 0, 1, 2, 3, 7, 64, 1000, 10**6,
    2**31, 2**63, 10**9, 10**12, 10**40, -(10**12), 0.5, -0.0, 1e308, 1e-320, float("nan"),
    float("inf"), [], [1], [1, 2], [1, 2, 3], [3, 8, 8], [3, 65536, 65536], [3, 16, 8], [1e9] * 3,
    [-3, 8, 8], [[3], 8, 8], ["3", 8, 8], [None] * 3, [0.5, 1], {}, {"a": 1}, [{}], [[[[]]]],
]  # fmt: skip
DTYPES = ["F32", "F16", "BF16", "F64", "I8", "I64", "U8", "BOOL", "F8_E4M3", "F4", "C64", "?", 3]
KINDS = [
    torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.int64, torch.bool,
    torch.complex64, torch.float8_e4m3fn, torch.uint8,
]  # fmt: skip
MOST = 300 * 2**20
"""Bytes that the whole of it may add to the memory of the process."""


RARE = 0.9
"""RealNVP takes ten times as long to make, and is tried less often."""


USED = 0.4
"""Share of the models that load which are also used."""


class World:
    """Sound models, whose files are damaged one at a time."""

    def __init__(self, folder):
        self.folder = folder
        self.sound = []
        torch.manual_seed(0)
        data = TrainingData(source="photos", size=(4, 4), channels=3, images=(8, 1, 1),
                            class_names=("a", "b"), held_out=0.1)  # fmt: skip
        shape = {"image_shape": (3, 4, 4)}
        small = {**shape, "levels": 1, "steps": 1, "hidden_channels": 2}
        models = [
            Glow(GlowConfig(**small)),
            Glow(GlowConfig(**small, permutation="plain", coupling="additive", classes=2)),
            Glow(GlowConfig(**small, permutation="shuffle", first_map="marginals")),
            Glow(GlowConfig(**small, first_map="whitening", rank=4, dense_steps=1, dense_channels=2,
                            dequantization="variational", dequantization_channels=2)),
            Glow(GlowConfig(**small, first_map="interlaced", interlaced_channels=2)),
            RealNVP(RealNVPConfig(**shape, scales=1, residual_blocks=1, hidden_channels=2)),
        ]  # fmt: skip
        for number, model in enumerate(models):
            model.initialize(torch.randint(0, 256, (16, 3, 4, 4), dtype=torch.uint8))
            model.trained_on = data
            own = folder / f"sound-{number}"
            model.eval().save_pretrained(own)
            text = (own / "config.json").read_text()
            self.sound.append((own, text, dict(model.state_dict())))
        self.weights = [1, 1, 1, 1, 1, 1 - RARE]
        self.model = models[0]
        mine = identity(self.model)
        latents = tuple(torch.randn(shape) for shape in self.model.latent_shapes)
        directions = Directions({"A": latents}, "mean", mine, {"A": (3, 4)}, {"B": "few"},
                                {"A": ("B",)}, {"A": 0.5}, "faces")  # fmt: skip
        save_directions(folder / "directions.safetensors", directions)
        scores = np.linspace(-9.0, -7.0, 5)
        save_calibration(folder / "calibration.safetensors", Calibration(scores, scores, 1, mine))
        SplitRecord(*(np.arange(4).astype(t) for t in (np.uint64, np.uint64, np.uint8)),
                    np.ones(4, bool)).save(folder)  # fmt: skip
        self.damaged = folder / "damaged"
        self.damaged.mkdir()


def fault(world, seed, number):
    """What went wrong with a case; None if nothing did."""
    choice = random.Random(f"{seed}-{number}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            what = choice.choice([_config, _config, _weights, _weights, _both, _companion])
            what(world, choice)
    except GlowflowError as error:
        said = str(error)
        if "\n" in said or not said.endswith(".") or len(said) > 1500:
            return f"{number}: no sentence: {said[:300]!r}"
    except Exception as error:
        return f"{number}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return None


def _config(world, choice):
    own, text, _ = choice.choices(world.sound, world.weights)[0]
    (own / "config.json").write_bytes(_text_of(json.loads(text), choice))
    _load(own, choice)


def _weights(world, choice):
    _, text, state = choice.choices(world.sound, world.weights)[0]
    (world.damaged / "config.json").write_text(text)
    (world.damaged / "model.safetensors").write_bytes(_bytes_of(dict(state), choice))
    _load(world.damaged, choice)


def _both(world, choice):
    _, text, _ = choice.choices(world.sound, world.weights)[0]
    _, _, state = choice.choices(world.sound, world.weights)[0]
    (world.damaged / "config.json").write_bytes(_text_of(json.loads(text), choice))
    (world.damaged / "model.safetensors").write_bytes(_bytes_of(dict(state), choice))
    _load(world.damaged, choice)


def _text_of(config, choice):
    """A configuration that is damaged as JSON, or in its fields."""
    for _ in range(choice.choice([1, 1, 1, 2, 5])):
        section = config
        if isinstance(config.get("data"), dict) and choice.random() < 0.3:
            section = config["data"]
        name = choice.choice([*section, "unknown", "__class__", "network"])
        match choice.randrange(8):
            case 0:
                section.pop(name, None)
            case 1 if isinstance(section.get(name), int):
                section[name] += choice.choice([-1, 1])
            case 2 if isinstance(section.get(name), int):
                section[name] *= choice.choice([2, 1000])
            case _:
                section[name] = choice.choice(VALUES)
    text = json.dumps(config)
    match choice.randrange(20):
        case 0:
            text = text[: choice.randrange(len(text))]
        case 1:
            text = choice.choice(
                ["", "[]", "null", "3", "[" * 100_000, '{"a":' * 5_000, "1" * 9000]
            )
        case 2:
            text = text[:-1] + f', "levels": {choice.choice(["1", "2", "-1", "1e9", "{}"])}}}'
        case 3:
            return text.encode(choice.choice(["utf-16", "utf-32", "utf-8-sig"]))
        case 4:
            return _flipped(text.encode(), choice)
    return text.encode()


def _bytes_of(state, choice):
    """Weights that are damaged as tensors, as a header, or as bytes."""
    name = choice.choice(list(state))
    weight = state[name].clone()
    match choice.randrange(14):
        case 0 if weight.numel():
            weight.reshape(-1)[choice.randrange(weight.numel())] = choice.choice([7, -3])
            state[name] = weight
        case 1 if weight.is_floating_point():
            bad = choice.choice([float("nan"), float("inf"), -float("inf"), 1e38, 1e-44, 0.0])
            state[name] = torch.full_like(weight, bad)
        case 2:
            state[name] = weight.to(choice.choice(KINDS))
        case 3:
            kind = choice.choice(KINDS[:3])
            state = {n: w.to(kind) if w.is_floating_point() else w for n, w in state.items()}
        case 4:
            state[name] = weight.reshape(-1, *([1] * choice.randrange(5)))
        case 5:
            state[name] = weight[:0] if weight.dim() else weight[None]
        case 6:
            del state[name]
        case 7:
            state[choice.choice(["x", "", name + ".", "top.mean", "splits.0.x"])] = weight
        case 8:
            state = {n: 1e3 * w if w.is_floating_point() else w for n, w in state.items()}
        case 9:
            state = {n: torch.zeros_like(w) for n, w in state.items()}
        case 10:
            return choice.choice(
                [b"", b"\x80\x04cos\nsystem\n(S'touch hacked'\ntR.", b"PK\x03\x04"]
            )
        case 11:
            content = save(state)
            return content[: choice.randrange(len(content))]
        case 12:
            return _flipped(save(state), choice)
        case _:
            return _with_header(save(state), choice)
    return save(state)


def _with_header(content, choice):
    """A safetensors file with another header."""
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    names = [name for name in header if name != "__metadata__"]
    name = choice.choice(names)
    entry = header[name]
    numbers = [-1, 0, 1, 8, len(data), len(data) + 1, 2**31, 2**40, 2**63, 2**64, 1.5, "1", None]
    match choice.randrange(9):
        case 0:
            entry["dtype"] = choice.choice(DTYPES)
        case 1:
            entry["shape"] = choice.choice([[], [2**62, 4], [10**12], [-1], "1", [0], [1.5], None])
        case 2:
            entry["data_offsets"] = [choice.choice(numbers), choice.choice(numbers)]
        case 3:
            entry["data_offsets"] = header[choice.choice(names)]["data_offsets"]
        case 4:
            header[name] = choice.choice([None, 3, [], {}, "x", {"dtype": "F32"}])
        case 5:
            header["__metadata__"] = choice.choice([None, 3, [], {"a": 1}, {"a": "b"}, "x"])
        case 6:
            text = json.dumps(header)[:-1] + f', "{name}": {json.dumps(entry)}}}'
            return struct.pack("<Q", len(text)) + text.encode() + data
        case 7:
            text = json.dumps(header).encode()
            longer = choice.choice([0, 1, 7, len(text) + 1, 2**20, 2**40, 2**63, 2**64 - 1])
            return struct.pack("<Q", longer) + text + data
        case _:
            big = {f"w{i}": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}
                   for i in range(3)}  # fmt: skip
            header = {**header, **big}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def _flipped(content, choice):
    changed = bytearray(content)
    for _ in range(choice.choice([1, 3, 20])):
        changed[choice.randrange(min(len(changed), 4000))] = choice.randrange(256)
    return bytes(changed)


def _load(folder, choice):
    model = load_model(folder)
    if np.prod(model.config.image_shape, dtype=float) > 1e5 or choice.random() > USED:
        return
    labels = torch.zeros(1, dtype=torch.int64) if model.config.classes else None
    drawn = model.draw(1, seed=choice.randrange(100), labels=labels)
    if model.config.bits is not None and model.dtype in (torch.float32, torch.float64):
        model.bits_per_dim(drawn.images, labels)
    identity(model)
    if choice.random() < 0.1:
        model.save_pretrained(folder / "again")
        load_model(folder / "again")


def _companion(world, choice):
    name = choice.choice(["directions", "calibration", "split"])
    content = (world.folder / f"{name}.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    match choice.randrange(5):
        case 0:
            content = _with_header(content, choice)
        case 1:
            content = _flipped(content, choice)
        case 2:
            content = content[: choice.randrange(len(content))]
        case 3:
            tensor = choice.choice([n for n in header if n != "__metadata__"])
            first, last = header[tensor]["data_offsets"]
            bad = struct.pack("<f", choice.choice([float("nan"), float("inf"), -1e30, 0.0]))
            data = data[:first] + bad * ((last - first) // 4) + data[last:]
            kept = header[tensor]["dtype"], choice.choice(DTYPES)
            if choice.random() < 0.5 and not (last - first) % 8:
                header[tensor] = {**header[tensor], "dtype": choice.choice(kept)}
            text = json.dumps(header).encode()
            content = struct.pack("<Q", len(text)) + text + data
        case _:
            facts = header["__metadata__"]
            fact = choice.choice([f for f in facts if f != "model"])
            facts[fact] = choice.choice(
                ["", "x", "-1", "0", "1e9", "9" * 5000, "[" * 50_000, "null", "[]", "{}", "[1]",
                 '["A", "A"]', '["A", "B"]', '{"A": 3}', '{"A": [1]}', '{"A": ["x", null]}', "NaN",
                 '{"A": [[1], {}]}', '"A"', "\ud800".encode("utf-8", "replace").decode()]
            )  # fmt: skip
            text = json.dumps(header).encode()
            content = struct.pack("<Q", len(text)) + text + data
    path = world.damaged / f"{name}.safetensors"
    path.write_bytes(content)
    if name == "split":
        record = SplitRecord.load(world.damaged)
        assert record is not None
        record.with_former(record)
        record.of_weights()
    elif name == "calibration":
        found = load_calibration(path, world.model)
        assert np.isfinite(found.log_prob).all() and found.draws >= 1
    else:
        found = load_directions(path, world.model)
        latents = world.model.encode(torch.zeros(1, 3, 4, 4))
        for direction in found.latents.values():
            moved = edit(latents, [direction], [0.5])
            assert all(torch.isfinite(eps).all() for eps in moved)
            world.model.decode(moved)
        assert all(isinstance(a + b, int) for a, b in found.counts.values())


def memory():
    """Bytes that this process has had at most."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(count, seed):
    with tempfile.TemporaryDirectory() as name:
        world = World(Path(name))
        before = memory()
        found = [each for n in range(count) if (each := fault(world, seed, n)) is not None]
        print(*found, sep="\n")
        print(f"{count:,} cases, {len(found)} faults, {(memory() - before) / 2**20:.0f} MiB more")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:3])))
