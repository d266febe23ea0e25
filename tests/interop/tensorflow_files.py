"""Checkpoints and graphs as TensorFlow writes them, by a writer of our own that can also lie."""

import struct

import numpy as np

DTYPES = {"float32": 1, "float64": 2, "int32": 3, "int64": 9, "float16": 19}
MAGIC = 0xDB4775248B80FB57


def crc32c(content):
    """Bit by bit, as the standard has it, for what is short."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(crc):
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field, value):
    return varint(field << 3) + varint(value)


def text(field, value):
    content = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(content)) + content


def shape(sizes):
    return b"".join(text(2, number(1, size)) for size in sizes)


def block(entries):
    """Entries of a block with their common beginnings left out, and its trailer."""
    out, before = bytearray(), b""
    for key, value in entries:
        shared = 0
        while shared < min(len(key), len(before)) and key[shared] == before[shared]:
            shared += 1
        out += varint(shared) + varint(len(key) - shared) + varint(len(value))
        out += key[shared:] + value
        before = key
    out += struct.pack("<II", 0, 1)
    return bytes(out) + b"\0" + struct.pack("<I", masked(crc32c(bytes(out) + b"\0")))


def table(entries, per_block=50):
    """A table of LevelDB."""
    out, handles = bytearray(), []
    for start in range(0, len(entries), per_block):
        some = entries[start : start + per_block]
        content = block(some)
        handles.append((some[-1][0], varint(len(out)) + varint(len(content) - 5)))
        out += content
    places = []
    for content in (block([]), block(handles)):
        places.append(varint(len(out)) + varint(len(content) - 5))
        out += content
    return bytes(out) + b"".join(places).ljust(40, b"\0") + struct.pack("<Q", MAGIC)


def write_checkpoint(prefix, tensors, *, shards=1, per_block=50, change=lambda name, entry: entry):
    """`prefix.index` and its data files; `change` is given each tensor's entry to lie in it."""
    data = [bytearray() for _ in range(shards)]
    entries = [(b"", number(1, shards) + number(2, 0) + text(3, number(1, 1)))]
    for place, name in enumerate(sorted(tensors)):
        array = np.asarray(tensors[name])
        content = array.tobytes()
        entry = {
            "dtype": DTYPES[array.dtype.name],
            "shape": array.shape,
            "shard": place % shards,
            "offset": len(data[place % shards]),
            "size": len(content),
            "crc": masked(crc32c(content)),
        }
        data[place % shards] += content
        entries.append((name.encode(), describe(change(name, entry))))
    prefix.with_name(prefix.name + ".index").write_bytes(table(entries, per_block))
    for shard, content in enumerate(data):
        path = prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}")
        path.write_bytes(bytes(content))


def describe(entry):
    return (
        number(1, entry["dtype"])
        + text(2, shape(entry["shape"]))
        + number(3, entry["shard"])
        + number(4, entry["offset"])
        + number(5, entry["size"])
        + varint(6 << 3 | 5)
        + struct.pack("<I", entry["crc"])
    )


def node(name, op, **attributes):
    parts = [text(1, name), text(2, op)]
    parts += [text(5, text(1, key) + text(2, value)) for key, value in attributes.items()]
    return text(1, b"".join(parts))


def constant(name, array, *, as_values=False, count=None, sizes=None):
    """A node that holds an array: its bytes, or its first `count` values, of which the last goes
    on; `sizes` to say another shape."""
    array = np.asarray(array)
    sizes = array.shape if sizes is None else sizes
    head = number(1, DTYPES[array.dtype.name]) + text(2, shape(sizes))
    values = array.ravel()[:count]
    if not as_values:
        body = text(4, array.tobytes())
    elif array.dtype in (np.float32, np.float64):
        body = text(5 if array.dtype == np.float32 else 6, values.tobytes())
    elif array.dtype == np.float16:
        body = text(13, b"".join(map(varint, values.view(np.uint16).tolist())))
    else:
        field = 7 if array.dtype == np.int32 else 10
        body = text(field, b"".join(map(varint, values.tolist())))
    return node(name, "Const", value=text(8, head + body))


def placeholder(name, sizes):
    return node(name, "Placeholder", shape=text(7, shape(sizes)))
