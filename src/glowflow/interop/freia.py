"""FrEIA: its blocks are recognised, and have no exact form here."""

import re
from collections.abc import Mapping

from torch import Tensor

from ..errors import CheckpointError
from .foreign import Foreign, Given

TITLE = "FrEIA"
NAMES = re.compile(r"(?<![^.])module_list\.\d+\.(subnet\w*|global_scale|w_perm|w_0|F|G)\b")
BLOCKS = {
    "subnet1": "GLOWCouplingBlock scales both halves by exp(clamp·f(s)) and shifts them afterwards",
    "subnet_s1": "RNVPCouplingBlock scales both halves by exp(clamp·f(s)) and shifts them "
    "afterwards, by networks of their own",
    "global_scale": "AllInOneBlock scales by exp(clamp·tanh(s/10)), shifts afterwards, and mixes "
    "the channels last",
    "F": "NICECouplingBlock adds to both halves in turn",
    "subnet": "its coupling block scales by exp(clamp·f(s)) and shifts afterwards",
}
"""What the blocks that have a part of this name do."""


def recognises(names: Mapping[str, Tensor]) -> bool:
    """Whether these are names of its coupling blocks."""
    return any(map(NAMES.search, names))


def read(tensors: Mapping[str, Tensor], given: Given, source: str) -> Foreign:
    """Nothing: the message says why not.

    y = exp(s)·x + t is (x + t')·exp(s) with t' = t·exp(−s), which no convolution gives, and the
    clamp, its function f, the order of the blocks and what is between them are not in the file.

    Args: as of `Format`.

    Raises:
        CheckpointError: always.

    Source: FrEIA 0.2, modules/coupling_layers.py and modules/all_in_one_block.py.
    """
    parts = {match[1] for name in tensors if (match := NAMES.search(name))}
    what = next((said for part, said in BLOCKS.items() if part in parts), BLOCKS["subnet"])
    raise CheckpointError(
        f"{source} is a model of {TITLE}, which has no exact form here: {what}, and the file says "
        "neither the clamp, nor f, nor how its blocks are put together; keep it in FrEIA, or train "
        "a model with `glow train`."
    )
