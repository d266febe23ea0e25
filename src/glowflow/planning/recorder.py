"""What a call on tensors without values allocates and multiplies.

Such tensors have shapes, dtypes, and storages of which there is nothing but the size.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple
from weakref import finalize

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

MANY = 536_870_909
"""A batch that stands for all: a prime, above all sizes that do not grow with the batch, so that a
size is told apart into what does and what does not."""
aten = torch.ops.aten


class Line(NamedTuple):
    """constant + by_image · images."""

    constant: int
    by_image: int = 0

    def at(self, images: int) -> int:
        """The value for so many images."""
        return self.constant + self.by_image * images


class Place(NamedTuple):
    """Where in a pass something is allocated, in names that hold for any number of steps."""

    backward: bool
    level: int
    node: str
    """Of autograd's graph; empty in a forward pass."""
    operation: str


@dataclass(frozen=True)
class Trace:
    """What a call did."""

    highest: Mapping[Place, Line]
    """Bytes above those of before: the most at any one time, by the place that allocated."""
    flops: Mapping[tuple[int, torch.dtype], Line]
    """Of products of matrices and of convolutions, by level and dtype: two for each multiplication
    and addition."""
    kept: Line
    """Bytes that stay for what comes after."""


class Recorder(TorchDispatchMode):
    """Adds up the sizes of the storages that are made in this mode.

    Sums are kept in one number, constant + by_image · UNIT.

    Args:
        meta: put on the meta device whatever is made for another.
    """

    UNIT = 2**64
    _known: ClassVar[dict[Any, Any]] = {}

    def __init__(self, meta: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.meta, self.processor = meta, True
        self.new = False
        """Whether flags of what is initialised may be read: they say no."""
        self.backward, self.level = False, 0
        self._many = False
        self._live = self._before = 0
        self._highest: dict[Place, int] = {}
        self._flops: dict[tuple[int, torch.dtype], int] = {}
        self._sizes: dict[int, int] = {}

    def start(self, images: int, processor: bool, new: bool = False) -> None:
        """Begin a trace of a call on so many images.

        Args:
            images: MANY for all numbers of images at once.
            processor: whether a processor computes; an accelerator's logsigmoid keeps nothing.
            new: whether nothing is initialised.
        """
        self.processor, self.new = processor, new
        self.backward, self.level = False, 0
        self._many, self._before = images == MANY, self._live
        self._highest, self._flops = {}, {}

    @property
    def kept(self) -> Line:
        """Bytes above those of the start."""
        return self._line(self._live - self._before)

    def trace(self, kept: Line | None = None) -> Trace:
        """What there was since the start."""
        highest = {place: self._line(most) for place, most in self._highest.items()}
        flops = {place: self._line(count) for place, count in self._flops.items()}
        return Trace(highest, flops, kept or Line(0))

    def follow(self, level: nn.Module, index: int) -> None:
        """Note when a pass is in this level."""

        def enter(*_: Any) -> None:
            self.backward, self.level = False, index

        def enter_again(*_: Any) -> None:
            self.backward, self.level = True, index

        def leave(_module: Any, _inputs: Any, outputs: Any) -> None:
            onward: Tensor = tree_leaves(outputs)[0]
            if onward.requires_grad:
                onward.register_hook(enter_again)  # type: ignore[no-untyped-call]

        level.register_forward_pre_hook(enter)
        level.register_forward_hook(leave)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run one operation; what it runs inside is not noted."""
        if self.new and func is aten._local_scalar_dense.default and args[0].dtype == torch.bool:
            return False
        named = dict(kwargs or {})
        if self.meta and "device" in named:
            named["device"] = torch.device("meta")
        out = self._call(func, args, named)
        if func is aten.log_sigmoid_forward.default and not self.processor:
            out = (out[0], out[0].new_empty(0))
        if (flops := flop_registry.get(func._overloadpacket)) is not None:
            place = self.level, args[0].dtype
            products = self._sum(flops(*args, **named, out_val=out))
            self._flops[place] = self._flops.get(place, 0) + products
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor):
                self._note(tensor, func)
        return out

    def _call(self, func: Any, args: Any, named: dict[str, Any]) -> Any:
        """The result; of meta tensors, which take long to compute a size, by that of the same sizes
        before, if it was one new tensor."""
        key = (func, _sizes(args), _sizes(tuple(named.items()))) if self.meta else None
        if key in self._known:
            shape, stride, dtype = self._known[key]
            return torch.empty_strided(shape, stride, dtype=dtype, device="meta")
        out = func(*args, **named)
        if key and isinstance(out, Tensor) and out.untyped_storage()._cdata not in self._sizes:
            self._known[key] = out.shape, out.stride(), out.dtype
        return out

    def _note(self, tensor: Tensor, func: Any) -> None:
        """Add the tensor's storage, until it is freed, unless it is known."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = self._sum(storage.nbytes())
        self._live += self._sizes[key]
        finalize(storage, self._free, key)
        node = torch._C._current_autograd_node()
        place = Place(self.backward, self.level, "" if node is None else node.name(), str(func))
        above = self._live - self._before
        self._highest[place] = max(self._highest.get(place, above), above)

    def _free(self, key: int) -> None:
        self._live -= self._sizes.pop(key)

    def _sum(self, size: int) -> int:
        by_image, constant = divmod(size, MANY) if self._many else (0, size)
        return constant + by_image * self.UNIT

    def _line(self, total: int) -> Line:
        by_image = (total + self.UNIT // 2) // self.UNIT
        return Line(total - by_image * self.UNIT, by_image)


def _sizes(value: Any) -> Any:
    """What the size of a result depends on, of an argument."""
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype
    if isinstance(value, tuple | list):
        return tuple(map(_sizes, value))
    return type(value), value
