"""Which images, and how they become one array."""

from dataclasses import dataclass
from typing import Literal

from ..checks import require, require_choice
from ..models.conditions import Missing
from ..photos.fit import Fit as Fit

Split = Literal["hash", "shuffle"]
Layout = Literal["folder", "classes", "NHW", "NCHW", "NHWC"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the images come from and how they become one array."""

    data: str = "faces"
    """`faces`, `digits`, a folder of images or of a published data set, an .npy / .npz array, or
    `hub:org/name`; also a zip or tar file of images, a text file that lists them, one image, and
    arrays of an HDF5 or Zarr file, by --target."""
    size: tuple[int, int] | None = None
    """Height and width in pixels; by default the source's own (a folder: 64 64)."""
    channels: Literal[1, 3, 4] | None = None
    """1 grey, 3 RGB, 4 RGBA; by default the source's own (a folder: 3)."""
    fit: Fit = "crop"
    """How an image becomes `size`: by a centre crop; stretched; padded with black, which keeps
    the pixels of images that are not larger; or cut into patches at its own resolution."""
    patches: int | None = None
    """Cut large images into squares of so many pixels a side, at their own resolution: in short for
    --fit patches --size N N. Training sees them at random places; an image is held out whole."""
    layout: Layout | None = None
    """What the data are, where that cannot be told: `folder` takes every image below it and neither
    parts nor classes, `classes` takes every folder for a class; NHW, NCHW and NHWC are the axes of
    an array."""
    array: str | None = None
    """Which array of an .npz file has the images."""
    target: str | None = None
    """Which array of an .npz, HDF5 or Zarr file the model is for: (N, H, W) or (N, C, H, W); or
    floats (N, L), (N, C, L) with --grid 1, (N, D, H, W) with --grid 3, (N, C, D, H, W)."""
    grid: Literal[1, 2, 3] | None = None
    """Axes of the grid that samples of an array are on; the axis before them, where there is one,
    is that of the channels. By default 2, images, but 1 of (N, L) and 3 of (N, C, D, H, W)."""
    condition: str | None = None
    """Arrays of the same file that the model is given, NAME or NAME,NAME: fields on the same or a
    coarser grid, vectors (N, V), numbers (N,), or classes (N,) as whole numbers from 0."""
    missing: Missing = "refuse"
    """What becomes of NaN in a condition: `mask` takes it for the mean, and says where it was."""
    dtype: Literal["float32", "float64"] = "float32"
    """What float data are kept in, and a model that is trained on the data computes in."""
    frames: Literal["first", "all"] = "first"
    """Of animations and files of several pages: the first frame, or each as an image."""
    source_range: tuple[float, float] | None = None
    """Values that become 0 and 255, of images and integer arrays with more than 8 bits; by default
    0 65535, or what the file says."""
    upscale: bool = False
    """Accept images smaller than `size` and enlarge them."""
    held_out: float = 0.1
    """Share of the images kept for validation, and as much again for the test, where the source
    has no split of its own; of the training images for validation, where it has a test only."""
    split_by: Split = "hash"
    """Who is held out, where the source has no split of its own. `hash`: the image's name decides
    (of an array, its index), so that another image moves nobody; `shuffle`: a random choice that
    moves with the number of images, as versions before 0.2 made it."""
    limit: int | None = None
    """Use so many images at most, validation and test included; by default all. A hub data set is
    read no further."""
    image_column: str | None = None
    """Which column of a hub data set has the images; by default the only one that has."""
    label_column: str | None = None
    """Which column of a hub data set has the classes; by default the only one that has, if any."""
    faces: int = 10_000
    """How many `faces` to draw."""
    skip_small: bool = False
    """Leave out images that are smaller than `size`, instead of naming them and stopping."""
    strict: bool = False
    """Stop at the first image that cannot be read, instead of naming and skipping it."""

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if self.patches is not None:
            square = (self.patches, self.patches)
            require(
                self.size in (None, square) and self.fit in ("crop", "patches"),
                f"patches is {self.patches}, size {self.size} and fit {self.fit}: leave the other "
                "two out.",
            )
            object.__setattr__(self, "size", square)
            object.__setattr__(self, "fit", "patches")
        require(
            self.fit != "patches" or (self.size is not None and self.size[0] == self.size[1]),
            f"fit is patches and size {self.size}: give the side of a square with --patches.",
        )
        require(
            self.fit != "patches" or not self.upscale,
            "upscale enlarges small images, and patches are cut at their own resolution: leave "
            "upscale out.",
        )
        require(
            self.size is None or min(self.size) >= 1,
            f"size is {self.size}: give a height and a width of at least 1 pixel.",
        )
        require(
            0.0 < self.held_out < 0.5,
            f"held_out is {self.held_out}: give a share between 0 and 0.5.",
        )
        require_choice("fit", self.fit, Fit)
        require_choice("split_by", self.split_by, Split)
        for name in ("target", "condition"):
            value = getattr(self, name)
            require(
                value is None or bool(value.strip(" ,")),
                f"{name} is {value!r}: name an array, or leave it out.",
            )
        require_choice("missing", self.missing, Missing)
        require_choice("dtype", self.dtype, Literal["float32", "float64"])
        require(
            self.grid in (None, 1, 2, 3), f"grid is {self.grid}: give 1, 2 or 3, or leave it out."
        )
        require_choice("frames", self.frames, Literal["first", "all"])
        if self.layout is not None:
            require_choice("layout", self.layout, Layout)
        require(
            self.source_range is None or self.source_range[0] < self.source_range[1],
            f"source_range is {self.source_range}: give a lower and a higher value.",
        )
        require(
            self.limit is None or self.limit >= 3,
            f"limit is {self.limit}: give at least 3, one image for each part.",
        )
        require(self.faces >= 10, f"faces is {self.faces}: draw at least 10.")
