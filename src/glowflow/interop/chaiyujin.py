"""chaiyujin/glow-pytorch."""

import re
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from .checkpoint import find
from .flownet import Names, read_flownet
from .foreign import Foreign, Given

TITLE = "chaiyujin/glow-pytorch"
NAMES = re.compile(r"(?<![^.])(?:flow\.layers\.\d+\.(?:f|conv\.(?:weight|bias))|learn_top)\b")
PARTS = Names("f", "", "", "learn_top", "l", "u")
INPUTS = (
    "Its images ran from 0 to 1: the first actnorm has the 1/2 by which they differ from "
    "-1/2 to 1/2.",
    "It was trained on bytes/255 with normal noise of deviation 1/256; here a byte is "
    "(byte + u)/256, at most 1/256 from it.",
)


def recognises(names: Mapping[str, Tensor]) -> bool:
    """Whether these are names of its layers."""
    return any(map(NAMES.search, names))


def read(tensors: Mapping[str, Tensor], given: Given, source: str) -> Foreign:
    """Its model in the official form, p(x) its density of x + ½. Images are of 8 bits, which its
    code has fixed.

    Args, errors: as of `Format`.

    Source: its glow/models.py, glow/modules.py and vision/datasets/celeba.py.
    """
    checkpoint = find(tensors, NAMES, TITLE, source)
    foreign = read_flownet(checkpoint, PARTS, given, bits=8, black=0.0)
    return replace(foreign, notes=INPUTS) if given.black in (None, 0.0) else foreign
