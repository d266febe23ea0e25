"""y0ast/Glow-PyTorch."""

import re
from collections.abc import Mapping

from torch import Tensor

from .checkpoint import find
from .flownet import Names, read_flownet
from .foreign import Foreign, Given

TITLE = "y0ast/Glow-PyTorch"
NAMES = re.compile(r"(?<![^.])(?:flow\.layers\.\d+\.(?:block|conv\.conv)\.|learn_top_fn\.)")
PARTS = Names("block", "conv.", "linear.", "learn_top_fn", "lower", "upper")


def recognises(names: Mapping[str, Tensor]) -> bool:
    """Whether these are names of its layers."""
    return any(map(NAMES.search, names))


def read(tensors: Mapping[str, Tensor], given: Given, source: str) -> Foreign:
    """Its model in the official form. Images are of 8 bits, which its code has fixed.

    Args, errors: as of `Format`.

    Source: its model.py and modules.py.
    """
    checkpoint = find(tensors, NAMES, TITLE, source)
    return read_flownet(checkpoint, PARTS, given, bits=8, black=-0.5)
