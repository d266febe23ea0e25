"""Whatever is uploaded is taken, or refused in a sentence, and the studio goes on."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from .pages import noise, pixels, png


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def bomb(width, height):
    """A PNG of a few hundred bytes that says it is as large as that."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" * 100_000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def bad_uploads():
    """At least 200 of them: by what is wrong, the bytes."""
    random = np.random.default_rng(0)
    photograph = Image.fromarray(noise(1, size=40)[0].transpose(1, 2, 0))
    whole = {
        kind: saved(photograph, kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
    }
    found = {}
    for kind, data in whole.items():
        for share in (0.01, 0.1, 0.3, 0.5, 0.8, 0.95):
            found[f"{kind} cut at {share}"] = data[: int(len(data) * share)]
        for number in range(16):
            damaged = bytearray(data)
            for place in random.integers(0, min(len(data), 300), 8):
                damaged[place] = random.integers(256)
            found[f"{kind} damaged {number}"] = bytes(damaged)
    for number in range(24):
        found[f"noise {number}"] = random.bytes(int(random.integers(1, 3000)))
    found |= {
        "empty": b"",
        "text": b"This is a text.\n" * 20,
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        "svg with an entity": b'<!DOCTYPE x [<!ENTITY a "b">]><svg>&a;</svg>',
        "html": b"<!doctype html><img src=x onerror=alert(1)>",
        "pdf": b"%PDF-1.7\n1 0 obj<<>>endobj\n",
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n(x) run\n",
        "zip": b"PK\x03\x04" + bytes(100),
        "pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x8c\x06system\x93.",
        "elf": b"\x7fELF" + bytes(200),
        "npy": b"\x93NUMPY\x01\x00" + bytes(100),
        "safetensors": struct.pack("<Q", 2**60) + b"{}",
        "1x1": saved(Image.new("RGB", (1, 1)), "PNG"),
        "1x1 gif": saved(Image.new("L", (1, 1)), "GIF"),
        "20000x1": saved(Image.new("RGB", (20_000, 1)), "PNG"),
        "1x20000": saved(Image.new("RGB", (1, 20_000)), "PNG"),
        "15x400": saved(Image.new("RGB", (15, 400)), "PNG"),
        "floats": saved(Image.fromarray(np.zeros((40, 40), np.float32)), "TIFF"),
        "0x0": bomb(0, 0),
        "psd": b"8BPS\0\1" + bytes(60),
        "ico": saved(photograph, "ICO"),
    }
    for width, height in [(2**31 - 1, 2**31 - 1), (65_000, 65_000), (5_000, 5_000), (16_001, 1_000),
                          (1_000_000, 17), (100_000, 100_000), (30_000, 30_000)]:  # fmt: skip
        found[f"bomb {width}x{height}"] = bomb(width, height)
    for number in range(20):
        found[f"text named .png {number}"] = b"\x89PNG\r\n\x1a\n" + random.bytes(number * 13)
    return found


BAD = bad_uploads()
MAY_BE_TAKEN = ("damaged", "cut at 0.8", "cut at 0.95")
"""Some decoders make a picture of these: then it is one like any other."""


def test_bad_uploads_are_refused_in_a_sentence_and_the_studio_goes_on(page):
    assert len(BAD) >= 200
    taken = 0
    for what, data in BAD.items():
        answer = page.upload(data)
        if answer.status_code == 200 and any(words in what for words in MAY_BE_TAKEN):
            taken += 1
            continue
        assert answer.status_code == 400, (what, answer.status_code, answer.text[:200])
        sentence = answer.json()["error"]
        assert sentence[0].isupper() and sentence.endswith(".") and "\n" not in sentence, what
        assert "Traceback" not in sentence and "/tmp" not in sentence and "0x7f" not in sentence, (
            what
        )
    assert taken < len(BAD) / 3
    assert page.upload(png(noise(1)[0])).status_code == 200


def test_a_file_that_is_too_long_is_refused_before_it_is_read(studio_with):
    from .pages import Client

    page = Client(studio_with(upload_bytes=10_000))
    page.open()

    async def in_parts():
        for _ in range(100):
            yield b"\0" * 1000

    for content in (b"\0" * 10_001, in_parts()):
        answer = page.post("/api/pictures", content=content)
        assert answer.status_code == 413 and "less" in answer.json()["error"]
    assert page.upload(png(noise(1)[0])).status_code == 200


def kinds():
    """Files that are unusual and fine, and what is seen of them."""
    grey = np.tile(np.arange(0, 256, 16, dtype=np.uint8), (16, 1))
    colour = np.stack([grey] * 3)
    image = Image.fromarray(grey)
    turned = Image.Exif()
    turned[0x0112] = 3  # upside down
    upside_down = image.rotate(180)
    other = Image.new("L", (16, 16), 7)
    return {
        "grey": (saved(image, "PNG"), colour),
        "16 bits": (saved(Image.fromarray(grey.astype(np.uint16) * 257), "PNG"), colour),
        "palette": (saved(image.convert("P"), "PNG"), colour),
        "one bit": (saved(Image.new("1", (16, 16), 1), "PNG"), np.full((3, 16, 16), 255)),
        "cmyk": (saved(image.convert("RGB").convert("CMYK"), "TIFF"), colour),
        "animated": (
            saved(image, "GIF", save_all=True, append_images=[other, image]),
            colour,
        ),
        "turned": (saved(upside_down.convert("RGB"), "PNG", exif=turned), colour),
        "transparent": (saved(Image.new("RGBA", (16, 16), (9, 9, 9, 0)), "PNG"),
                        np.full((3, 16, 16), 255)),
        "a name that is none": (saved(image, "BMP"), colour),
    }  # fmt: skip


@pytest.mark.parametrize("what", kinds())
def test_unusual_pictures_are_taken_as_they_look(page, what):
    data, seen = kinds()[what]
    name = page.uploaded(data, name="../../etc/passwd")
    assert (pixels(page.get(f"/api/pictures/{name}/image.png").content) == seen).all()


def test_an_animation_says_that_the_first_of_it_is_taken(page):
    data, _ = kinds()["animated"]
    assert page.upload(data).json()["photograph"]["frames"] == 3
