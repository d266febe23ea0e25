"""Damaged arrays, archives, lists, records, and files of a run."""

import io
import json
import random
import shutil
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np

from .images import damaged

SHAPES = [(20, 8, 8), (20, 8, 8, 3), (20, 3, 8, 8), (8, 8), (), (0,), (0, 8, 8, 3), (20, 8, 8, 7)]
TYPES = ["u1", "u1", "i1", "<u2", ">u2", "<f4", ">f8", "f2", "?", "c8", "S4", "U3", "i8", "O"]
HEADERS = ["(-1, 8, 8)", "(99999999999, 8, 8, 3)", "(2**62, 8, 8)", "8", "(8.5,)", "None"]
VALUES = [None, True, -1, 0, 2**70, 1.5, float("nan"), "", "é", [], {}, [[1, 2]], "9" * 50]
TEXTS = ["", "[]", "null", "{", "a: b: c", "\t", "&a [*a]", "\0", "!!python/object:os.system {}"]


def npy(draw: random.Random) -> bytes:
    shape, file = draw.choice(SHAPES), io.BytesIO()
    values = np.frombuffer(draw.randbytes(int(np.prod(shape))), np.uint8)
    np.save(file, values.reshape(shape).astype(draw.choice(TYPES)), allow_pickle=True)
    content = file.getvalue()
    if draw.random() < 0.3:  # another header, of the same length
        length = struct.unpack("<H", content[8:10])[0]
        facts = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {draw.choice(HEADERS)}}}"
        content = content[:10] + facts.encode().ljust(length)[:length] + content[10 + length :]
    return damaged(content, draw) if draw.random() < 0.3 else content


def zipped(draw: random.Random, members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", draw.choice([0, 8, 12, 14])) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def tarred(members: dict[str, bytes], draw: random.Random) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            if draw.random() < 0.2:
                member.type, member.size, member.linkname = tarfile.SYMTYPE, 0, "/etc/passwd"
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def odd_data(folder: Path, draw: random.Random, photo: bytes) -> Path:
    """Write a damaged data file and return the path to give."""
    kind = draw.choice(["npy", "npz", "zip", "tar", "idx", "tfrecords", "list", "csv"])
    names = draw.sample(["a/0.png", "a/1.png", "b/2.png", "../x.png", "/abs.png", "é.png", "x"], 4)
    members = dict.fromkeys(names, photo)
    if kind == "npy":
        content = npy(draw)
    elif kind == "npz":
        keys = draw.sample(["x_train", "x_test", "images", "labels", "arr_0", "é"], 2)
        content = zipped(draw, {f"{key}.npy": npy(draw) for key in keys})
    elif kind == "zip":
        content = zipped(draw, members)
    elif kind == "tar":
        content = tarred(members, draw)
    elif kind == "idx":
        content = struct.pack(">4B3I", 0, 0, 8, 3, draw.choice([9, 2**31]), 8, 8) + bytes(576)
    elif kind == "tfrecords":
        content = struct.pack("<QI", draw.choice([8, 2**62]), 0) + bytes(24)
    else:
        content = "\n".join(["path,label", *names, "\0", "a,b,c"]).encode()
    if draw.random() < 0.4:
        content = damaged(content, draw)
    endings = {"idx": "x-images-idx3-ubyte", "list": "x.txt"}
    path = folder / endings.get(kind, f"x.{kind}")
    path.write_bytes(content)
    return path


def odd_run(folder: Path, draw: random.Random, sound: Path) -> Path:
    """Copy a run and damage one of its files, or put a folder or nothing in its place."""
    copy = folder / "run"
    shutil.copytree(sound, copy)
    endings = (".pt", ".jsonl", ".safetensors", ".yaml", ".json")
    files = sorted(path for path in copy.rglob("*") if path.suffix in endings)
    path, kind = draw.choice(files), draw.random()
    if kind < 0.3 and path.suffix == ".json":
        facts = json.loads(path.read_text())
        facts[draw.choice([*facts, "more"])] = draw.choice(VALUES)
        path.write_text(json.dumps(facts))
    elif kind < 0.5 and path.suffix != ".pt":
        path.write_text(draw.choice(TEXTS))
    elif kind < 0.85:
        path.write_bytes(damaged(path.read_bytes(), draw))
    else:
        path.unlink()
        draw.choice([lambda: None, path.mkdir, lambda: path.symlink_to("nothing")])()
    return copy
