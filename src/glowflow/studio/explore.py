"""The latents of the models' data on their principal axes: encoded once, while nobody waits."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.inputs import evenly, require_fit, require_kind
from ..data.types import ImageData
from ..errors import GlowflowError
from ..latents.chart import Chart, chart
from ..latents.codes import encoded, flatten
from ..models.flow import ImageFlow
from .house import OPEN, House
from .stage import Stage
from .visitors import Visitor
from .worker import BusyError, Result, Urgency, Worker

MOST = 400
"""Images of the data, at most."""
FEWEST = 24
VALUES = 2**24
"""Of all codes together; large images are fewer."""
AT_ONCE = 8
"""Images that are encoded before somebody's slider has its turn."""
COMPONENTS = 8
"""Axes of each part."""
FAILED = "The images of this model's data could not be read"
NONE = "The images of this model's data are not at hand"


@dataclass(frozen=True)
class Explored:
    """Images of a model's data and where they lie."""

    data: ImageData
    chart: Chart
    source: str


@dataclass
class Exploration:
    """How far that is."""

    version: object = None
    """Of the model."""
    done: int = 0
    total: int = 0
    """0 while the images are being read."""
    told: str = ""
    """Why it will come to nothing, in a sentence."""
    found: Explored | None = None
    thread: threading.Thread | None = field(default=None, repr=False)

    @property
    def ended(self) -> bool:
        """Whether no thread is at it."""
        return self.thread is not None and not self.thread.is_alive()


class Explorer:
    """Encodes the data of each model that somebody explores, and keeps that of the newest.

    Args:
        house: the models.
        worker: who computes.
    """

    def __init__(self, house: House, worker: Worker) -> None:
        self.house, self.worker = house, worker
        self._known: OrderedDict[str, Exploration] = OrderedDict()

    def of_model(self, name: str) -> Exploration:
        """How far the model's data are; begun if nobody has asked before."""
        known = self._known.get(name)
        if known is not None and self.house.is_former(name, known.version):
            self._known.pop(name, None)
            known = None
        if known is None:
            ended = [n for n, each in list(self._known.items()) if each.ended]
            for other in ended[: max(0, len(self._known) + 1 - OPEN)]:
                self._known.pop(other, None)
            known = self._known[name] = Exploration(self.house.offers[name].version())
            known.thread = threading.Thread(
                target=self._explore, args=(name, known), name="glow-explore", daemon=True
            )
            known.thread.start()
        self._known.move_to_end(name)
        return known

    def chart_for(self, visitor: Visitor, stage: Stage) -> Chart:
        """That of the model's data; of the visitor's pictures where there are none. In the worker's
        thread.

        Raises:
            InputError: there are fewer than 3 pictures.
        """
        known = self.of_model(visitor.model)
        return known.found.chart if known.found is not None else of_pictures(visitor, stage)

    def _explore(self, name: str, known: Exploration) -> None:
        try:
            offer = self.house.offers[name]
            stage = self._done(lambda: self.house.open(name).stage)
            found = (offer.data or offer.held_out)(stage.model)
            if found is None:
                known.told = f"{NONE}."
                return
            data, source = found
            require_kind(stage.model, data)
            require_fit(stage.model, data)
            count = max(FEWEST, min(MOST, VALUES // stage.dims))
            data = data.choose(evenly(len(data), count))
            known.total = len(data)
            parts = []
            for start in range(0, len(data), AT_ONCE):
                if self._known.get(name) is not known:
                    return  # the model has changed
                some = data.part(start, start + AT_ONCE)
                parts.append(self._done(partial(_codes, stage.model, some)))
                known.done += len(some)
            made = chart(torch.cat(parts), stage.model.latent_shapes, COMPONENTS)
            known.found = Explored(data, made, source.split(", SHA")[0])
        except GlowflowError as error:
            known.told = f"{FAILED}: {error}"
        except Exception as error:  # else the page would wait for ever
            known.told = f"{FAILED} ({type(error).__name__})."

    def _done(self, job: Callable[[], Result]) -> Result:
        """What the worker makes of a job, when it has a place for it."""
        while True:
            try:
                return self.worker.submit(Urgency.ASKED, job).result()
            except BusyError:
                time.sleep(0.2)


def _codes(model: ImageFlow, some: ImageData) -> Tensor:
    every = np.arange(len(some))
    return torch.cat([r.float() for _, r in encoded(model, some, every, progress=False)])


def of_pictures(visitor: Visitor, stage: Stage) -> Chart:
    """A chart of what is on the visitor's page.

    Raises:
        InputError: that is fewer than 3 pictures.
    """
    pictures = list(visitor.pictures.items())  # which may change meanwhile
    names = tuple(name for name, _ in pictures)
    if visitor.charted is None or visitor.charted[:2] != (stage.identity, names):
        codes = [flatten(stage.code(picture)) for _, picture in pictures]
        rows = torch.cat(codes).cpu().double() if codes else torch.zeros(0, stage.dims)
        made = chart(rows, stage.model.latent_shapes, COMPONENTS)
        visitor.charted = (stage.identity, names, made)
    return visitor.charted[2]


def attributes_of(data: ImageData) -> list[tuple[str, NDArray[np.bool_]]]:
    """What can be told of each image: its attributes, else its classes."""
    if data.attributes is not None:
        truth = np.asarray(data.attributes)
        return [(name, truth[:, a]) for a, name in enumerate(data.attribute_names)]
    if data.labels is None or not 2 <= len(data.class_names) <= 40:
        return []
    return [(name, data.labels == label) for label, name in enumerate(data.class_names)]
