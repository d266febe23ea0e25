"""IDX files: the arrays of bytes that MNIST was published in."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The bytes of an IDX file: 0, 0, 8 (uint8), the number of axes, big-endian lengths, data.

    Raises:
        InputError: it is damaged, or of another type.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"Cannot read {path}: it is damaged ({error}); get it again.") from error
    if content[:3] != b"\0\0\x08" or len(content) < 4 or not 1 <= content[3] <= 4:
        raise InputError(
            f"{path} begins with {content[:4].hex(' ') or 'nothing'} and not with 00 00 08 and the "
            "number of axes: it is no IDX file of bytes, get the published one."
        )
    start = 4 + 4 * content[3]
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4))
    if len(content) != start + math.prod(shape) or 0 in shape:
        raise InputError(
            f"{path} announces {' x '.join(map(str, shape))} bytes and has "
            f"{max(0, len(content) - start)}: get it again."
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)
