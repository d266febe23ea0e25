"""Images as rows, one a pixel: 3x3 convolutions as products of matrices, and their kernel.

`gather` copies the 3x3 pixels under a kernel into a row, `scatter` adds up what a row gives to the
3x3 pixels round it. A coupling's network has few channels at both ends and many between, so it
gathers at the start, scatters at the end, and is a perceptron on rows between.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch._C._functorch import is_legacy_batchedtensor

from ..bijections.base import without_autocast
from ..bijections.exact import is_transformed

CHUNK = 2**19
"""Values of a hidden layer that a processor computes at once, so that its caches hold them."""
CHUNKED = frozenset({"cpu"})
"""Types of device to which `CHUNK` applies; a tensor without values may stand for another's."""


def gather(
    x: Float[Tensor, "batch height width channels"], periodic: bool = False
) -> Float[Tensor, "batch height width 9*channels"]:
    """The 3x3 pixels round each pixel as one row; outside the image zeros, or its other side."""
    return _windows(x, periodic).flatten(3)


def with_ends(rows: Tensor, ends: Tensor) -> Float[Tensor, "batch height width columns+ends"]:
    """The rows of `gather`, ended by `row_ends`, or by a context and these."""
    return torch.cat((rows, ends.expand(rows.shape[0], -1, -1, -1)), dim=-1)


def _windows(x: Tensor, periodic: bool) -> Float[Tensor, "batch height width 3 3 channels"]:
    """The rows of `gather`, as a view of the padded images."""
    padded = _padded(x, periodic)
    return padded.unfold(1, 3, 1).unfold(2, 3, 1).permute(0, 1, 2, 4, 5, 3)


def _padded(x: Tensor, periodic: bool) -> Float[Tensor, "batch height+2 width+2 channels"]:
    if not periodic:
        return F.pad(x, (0, 0, 1, 1, 1, 1))
    return wrapped(x, (1, 2))


def wrapped(x: Tensor, dims: tuple[int, int]) -> Tensor:
    """One more value at both ends of these axes: that of the other end."""
    for dim in dims:
        x = torch.cat((x.narrow(dim, -1, 1), x, x.narrow(dim, 0, 1)), dim)
    return x


def scatter(
    rows: Float[Tensor, "batch height width 9*channels"], periodic: bool = False
) -> Float[Tensor, "batch height width channels"]:
    """Add up what the rows give to each pixel: the transpose of `gather`.

    What `gather` takes from a pixel into a column of a row goes back there from that column. The
    sums are made in place, in the columns of a row's own pixel: `rows` is spent, the result a view.
    """
    for dim in (1, 2):
        columns, size = rows.shape[3] // 3, rows.shape[dim] - 1
        before, here, after = (rows.narrow(3, start * columns, columns) for start in range(3))
        here.narrow(dim, 0, size).add_(before.narrow(dim, 1, size))
        here.narrow(dim, 1, size).add_(after.narrow(dim, 0, size))
        if periodic:
            here.narrow(dim, size, 1).add_(before.narrow(dim, 0, 1))
            here.narrow(dim, 0, 1).add_(after.narrow(dim, size, 1))
        rows = here
    return rows


def run_network(
    x: Float[Tensor, "batch height width in"],
    ends: Float[Tensor, "1 height width ends"],
    w1: Float[Tensor, "hidden 9*in+ends"],
    w2: Float[Tensor, "hidden hidden"],
    b2: Float[Tensor, " hidden"],
    w3: Float[Tensor, "9*out hidden"],
    *,
    periodic: bool = False,
) -> Float[Tensor, "batch height width out"]:
    """scatter(h2 w3ᵀ) with h2 = relu(h1 w2ᵀ + b2), h1 = relu([gather(x), ends] w1ᵀ)."""
    if is_transformed():
        return _traced_network(periodic, x, ends, w1, w2, b2, w3)
    if torch.is_grad_enabled():
        y: Tensor = _Network.apply(  # type: ignore[no-untyped-call]
            periodic, x, ends, w1, w2, b2, w3
        )
        return y
    return _Network.run(False, periodic, x, ends, w1, w2, b2, w3)[0]


def _traced_network(
    periodic: bool, x: Tensor, ends: Tensor, w1: Tensor, w2: Tensor, b2: Tensor, w3: Tensor
) -> Tensor:
    # Slices: from the gradient of unfold, Inductor of torch 2.13 makes code that breaks the heap.
    padded, (height, width) = _padded(x, periodic), x.shape[1:3]
    pixels = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    rows = with_ends(torch.cat(pixels, dim=-1), ends)
    h = F.relu(F.linear(F.relu(rows @ w1.T), w2, b2))
    given = _padded(h @ w3.T, periodic)
    given = given.view(*given.shape[:3], 3, 3, len(w3) // 9)
    return torch.stack(
        [
            given[:, 2 - i : 2 - i + height, 2 - j : 2 - j + width, i, j]
            for i in range(3)
            for j in range(3)
        ]
    ).sum(0)


class _Network(torch.autograd.Function):
    """`_traced_network` by a schedule of its own, forward and backward.

    A processor takes some rows at a time, so that what is hidden stays in its cache; masks are
    in place, and gradients of weights add up in the products that make them. Second derivatives
    go through `_traced_network`.
    """

    @staticmethod
    def run(keep: bool, periodic: bool, *inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The output, and for each chunk of rows the rows and the hidden layers, if asked for."""
        x, ends, w1, w2, b2, w3 = inputs
        windows = _windows(x, periodic)
        rows = x.new_empty(*x.shape[:3], w1.shape[1])
        pixels = 9 * x.shape[3]
        rows[..., :pixels].view(windows.shape).copy_(windows)
        rows[..., pixels:] = ends
        products = x.new_empty(*x.shape[:3], len(w3))
        kept = []
        for chunk, product in zip(_chunks(rows, w2), _chunks(products, w2), strict=True):
            h1 = (chunk @ w1.T).relu_()
            h2 = torch.addmm(b2, h1, w2.T).relu_()
            torch.mm(h2, w3.T, out=product)
            if keep:
                kept += [chunk, h1, h2]
        return scatter(products, periodic), kept

    @staticmethod
    def forward(ctx: Any, periodic: bool, *inputs: Tensor) -> Tensor:
        y, kept = _Network.run(True, periodic, *inputs)
        ctx.periodic = periodic
        ctx.save_for_backward(*inputs, *kept)
        return y

    @staticmethod
    @without_autocast
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # once: saved-tensor hooks may answer a single time
        inputs, kept = saved[:6], saved[6:]
        if torch.is_grad_enabled() or is_transformed() or is_legacy_batchedtensor(grad):
            graph = torch.is_grad_enabled()
            return None, *_Network.traced_backward(ctx.periodic, inputs, grad, graph)
        x, ends, w1, w2, b2, w3 = inputs
        pixels = 9 * x.shape[3]
        by_w1, by_w2, by_b2, by_w3 = (torch.zeros_like(w) for w in (w1, w2, b2, w3))
        by_rows = x.new_empty(*x.shape[:3], pixels)
        row_chunks = _chunks(by_rows, w2)
        by_ends = x.new_empty(*x.shape[:3], ends.shape[3]) if ctx.needs_input_grad[2] else None
        end_chunks = () if by_ends is None else _chunks(by_ends, w2)
        for index, d3 in enumerate(_chunks(gather(grad, ctx.periodic), w2)):
            chunk, h1, h2 = kept[3 * index : 3 * index + 3]
            by_w3.addmm_(d3.T, h2)
            d2 = _mask(d3 @ w3, h2)
            by_w2.addmm_(d2.T, h1)
            by_b2 += d2.sum(0)
            d1 = _mask(d2 @ w2, h1)
            by_w1.addmm_(d1.T, chunk)
            torch.mm(d1, w1[:, :pixels], out=row_chunks[index])
            if end_chunks:
                torch.mm(d1, w1[:, pixels:], out=end_chunks[index])
        if by_ends is not None:
            by_ends = by_ends.sum_to_size(ends.shape)
        return None, scatter(by_rows, ctx.periodic), by_ends, by_w1, by_w2, by_b2, by_w3

    @staticmethod
    def traced_backward(
        periodic: bool, inputs: tuple[Tensor, ...], grad: Tensor, create_graph: bool
    ) -> tuple[Tensor | None, ...]:
        """The gradients by differentiating `_traced_network`, of which PyTorch knows all."""
        needed = [t for t in inputs if t.requires_grad]
        with torch.enable_grad():
            y = _traced_network(periodic, *inputs)
        gradients = iter(torch.autograd.grad(y, needed, grad, create_graph=create_graph))
        return tuple(next(gradients) if t.requires_grad else None for t in inputs)


def _chunks(
    rows: Float[Tensor, "batch height width columns"], w2: Float[Tensor, "hidden hidden"]
) -> tuple[Tensor, ...]:
    flat = rows.reshape(-1, rows.shape[-1])
    return torch.split(flat, max(1, CHUNK // len(w2))) if flat.device.type in CHUNKED else (flat,)


def _mask(grad: Tensor, h: Tensor) -> Tensor:
    """Zero `grad`, in place, where the rectified `h` is zero."""
    return torch.ops.aten.threshold_backward.grad_input(grad, h, 0, grad_input=grad)


def row_ends(
    height: int, width: int, dtype: torch.dtype, device: torch.device, periodic: bool = False
) -> Float[Tensor, "1 height width ends"]:
    """How each pixel's gathered row ends: which of the 9 pixels lie outside the image, then 1.

    Nothing lies outside of a periodic one.
    """
    ones = torch.ones(1, height, width, 1, dtype=dtype, device=device)
    return ones if periodic else torch.cat((1.0 - gather(ones), ones), dim=-1)
