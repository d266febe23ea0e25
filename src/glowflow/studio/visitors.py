"""Visitors of the studio and their pictures, in memory: each has its own, gone when it leaves."""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..latents.chart import Chart
from ..models.flow import Latents
from .limits import Limits
from .pictures import Photograph
from .worker import BusyError


class UnknownError(InputError):
    """There is no such visitor or picture, or no longer."""


class GoneError(UnknownError):
    """There is no such visitor, or no longer: the page has to be loaded again."""


@dataclass
class Picture:
    """A picture of a visitor."""

    image: NDArray[np.uint8]
    """(C, H, W) as the model sees it."""
    bits_per_dim: float
    """As `glow score` gives it for one image, with one draw of noise."""
    name: str = ""
    label: int | None = None
    """Its class, of a class-conditional model."""
    photograph: Photograph | None = None
    """What it is from, if it was uploaded."""
    latents: Latents | None = None
    """Its code, once it is needed."""
    encoded_by: str = ""
    """`identity` of the model."""

    @property
    def kept_bytes(self) -> int:
        """Memory that it takes."""
        codes = 4 * self.image.size
        return self.image.nbytes + codes + (len(self.photograph.data) if self.photograph else 0)


@dataclass
class Visitor:
    """An open page, and the pictures on it."""

    model: str
    """Name of the model it plays with."""
    seen: float
    """When it was last heard of."""
    pictures: "OrderedDict[str, Picture]" = field(default_factory=OrderedDict)
    drawn: "OrderedDict[str, Picture]" = field(default_factory=OrderedDict)
    """Samples of which nothing was asked yet: new ones take their place, and no picture's."""
    charted: tuple[str, tuple[str, ...], Chart] | None = None
    """The `identity` of the model, names of its pictures, and a chart of them."""

    def picture(self, name: str) -> Picture:
        """A picture of this visitor's.

        Raises:
            UnknownError: it has no such picture.
        """
        if name in self.drawn:
            self.pictures[name] = self.drawn.pop(name)
        if name not in self.pictures:
            raise UnknownError("That picture is no longer here: choose or upload another one.")
        return self.pictures[name]

    @property
    def kept_bytes(self) -> int:
        """Memory that its pictures take."""
        every = (*self.pictures.values(), *self.drawn.values())
        return sum(picture.kept_bytes for picture in every)


class Visitors:
    """Everybody who has the page open.

    Args:
        limits: how many, how long.
        clock: seconds.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits, self.clock = limits, clock
        self._visitors: dict[str, Visitor] = {}

    def __len__(self) -> int:
        self._forget_the_idle()
        return len(self._visitors)

    def admit(self, model: str) -> str:
        """The secret name of a new visitor.

        Raises:
            BusyError: as many as can be are here.
        """
        if len(self) >= self.limits.visitors:
            raise BusyError(
                f"The studio is busy: {self.limits.visitors} pages are open. Try again later."
            )
        name = secrets.token_urlsafe(24)
        self._visitors[name] = Visitor(model, self.clock())
        return name

    def find(self, name: str) -> Visitor:
        """The visitor of this name, who is now heard of.

        Raises:
            GoneError: there is none.
        """
        self._forget_the_idle()
        visitor = self._visitors.get(name)
        if visitor is None:
            raise GoneError(
                "The studio does not know this page any more, which was idle for long or is older "
                "than the studio: load it again."
            )
        visitor.seen = self.clock()
        return visitor

    def leave(self, name: str) -> None:
        """Forget a visitor with all pictures."""
        self._visitors.pop(name, None)

    def keep(self, visitor: Visitor, picture: Picture, *, drawn: bool = False) -> str:
        """The name of a new picture of a visitor, whose oldest goes if there are too many.

        Raises:
            BusyError: all visitors together keep too much.
        """
        kept = sum(each.kept_bytes for each in list(self._visitors.values()))
        if kept + picture.kept_bytes > self.limits.kept_bytes:
            raise BusyError("The studio's memory for pictures is full: try again later.")
        into, most = visitor.pictures, self.limits.pictures
        if drawn:  # two lots: while one is on the screen the next is on its way
            into, most = visitor.drawn, 2 * self.limits.samples
        name = secrets.token_urlsafe(9)
        into[name] = picture
        while len(into) > most:
            into.popitem(last=False)
        while len(visitor.pictures) > self.limits.pictures:  # samples that were asked for again
            visitor.pictures.popitem(last=False)
        return name

    def _forget_the_idle(self) -> None:
        oldest = self.clock() - self.limits.idle_seconds
        for name in [name for name, v in self._visitors.items() if v.seen < oldest]:
            del self._visitors[name]
