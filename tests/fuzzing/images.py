"""Odd image files, each drawn from a seeded generator."""

import io
import random
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

MODES = ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I", "F", "LA", "I;16"]
SIZES = [(8, 8), (8, 8), (1, 1), (20_000, 1), (1, 500), (7, 9), (64, 48)]
SUFFIXES = {"PNG": ".png", "TIFF": ".tif", "GIF": ".gif", "WEBP": ".webp", "JPEG": ".jpg"}
STEMS = ["x", "x", "a b", "é", "日本", "-x", "n" * 200, "%d", "\udcff", "a\nb", "[0]", "{x}"]


def odd_image(folder: Path, draw: random.Random) -> Path:
    """Write an odd image, or what is called one, and return its path."""
    content, suffix = picture(draw)
    path = folder / (draw.choice(STEMS) + suffix)
    kind = draw.random()
    if kind < 0.05:
        path.mkdir()
    elif kind < 0.1:
        path.symlink_to("nothing")
    elif kind < 0.15:
        path.symlink_to(path.name)
    else:
        path.write_bytes(content)
    return path


def picture(draw: random.Random) -> tuple[bytes, str]:
    """Bytes of a picture, damaged or not, and a suffix that may be another format's."""
    kind = draw.random()
    if kind < 0.08:
        return bomb(draw), ".png"
    if kind < 0.13:
        return "no picture".encode(draw.choice(["utf-8", "utf-16"])), ".png"
    content, suffix = saved(draw)
    if draw.random() < 0.4:
        content = damaged(content, draw)
    if draw.random() < 0.2:
        suffix = draw.choice([".png", ".jpg", "", ".npy", ".txt", ".zip", ".PNG", ".mp4"])
    return content, suffix


def bomb(draw: random.Random) -> bytes:
    """A PNG of a few bytes whose header promises a picture of many gigabytes, or of none."""
    size = draw.choice([(100_000, 100_000), (0, 0), (2**31 - 1, 1), (12_000, 12_000)])
    chunk = b"IHDR" + struct.pack(">II5B", *size, draw.choice([8, 16, 3]), 2, 0, 0, 0)
    checked = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + checked + b"\0\0\0\0IEND\xaeB`\x82"


def saved(draw: random.Random) -> tuple[bytes, str]:
    """A whole picture of some mode, size and format: animated, turned, with damaged EXIF."""
    while True:
        kind, size, mode = draw.choice([*SUFFIXES]), draw.choice(SIZES), draw.choice(MODES)
        image = Image.frombytes("L", size, draw.randbytes(size[0] * size[1]))
        if mode == "F":
            value = draw.choice([np.nan, np.inf, 1e38, 0.5])
            image = Image.fromarray(np.full(size[::-1], value, np.float32))
        else:
            image = Image.new(mode, size) if mode == "I;16" else convert(image, mode)
        more: dict[str, object] = {}
        if draw.random() < 0.2:
            more |= {"save_all": True, "append_images": [image.copy(), image.copy()]}
        if draw.random() < 0.2:
            more["exif"] = b"Exif\0\0" + draw.randbytes(60)
        elif draw.random() < 0.2:
            exif = Image.Exif()
            exif[0x0112] = draw.choice([0, 3, 6, 8, 99])
            more["exif"] = exif.tobytes()
        file = io.BytesIO()
        try:
            image.save(file, kind, **more)
        except Exception:  # the format has no such mode
            continue
        return file.getvalue(), SUFFIXES[kind]


def convert(image: Image.Image, mode: str) -> Image.Image:
    if mode == "LAB":
        return Image.merge("LAB", [image] * 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return image.convert(mode)


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Nothing, shorter, longer, or with other bytes; the beginning is hit more often."""
    kind = draw.random()
    if kind < 0.1:
        return b""
    if kind < 0.4:
        return content[: draw.randrange(len(content) + 1)]
    if kind < 0.5:
        return content + draw.randbytes(100)
    changed = bytearray(content or b"\0")
    for _ in range(draw.choice([1, 1, 3, 20])):
        end = min(draw.choice([64, 512, len(changed)]), len(changed))
        changed[draw.randrange(end)] = draw.choice([0, 255, 0x2D, 0x39, 0x80, 1])
    return bytes(changed)
