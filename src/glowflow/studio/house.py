"""The models that the studio has, those of them that are open, and what they are compared with."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from ..data.types import ImageData
from ..errors import GlowflowError
from ..evaluation.calibration import Calibration, calibrate
from ..models.flow import ImageFlow
from .stage import Stage
from .visitors import Picture, UnknownError
from .worker import BusyError, Urgency, Worker

OPEN = 2
"""Models that are kept open at once."""
FIRST = 8
"""Pictures that a page opens with."""
FIRST_TEMPERATURE = 0.7
COMPARED = 500
"""Held-out images that others are compared with, at most."""
AT_ONCE = 8
"""Of these, so that nobody's slider waits for long."""
QUIET = 1.0
"""Seconds in which nobody has asked for anything, before a part of that is done."""


@dataclass(frozen=True)
class Offer:
    """A model that can be chosen."""

    name: str
    open: Callable[[], Stage]
    held_out: Callable[[ImageFlow], tuple[ImageData, str] | None] = lambda model: None
    """Images that it was not trained on, and what they are in words; None where there are none."""
    data: Callable[[ImageFlow], tuple[ImageData, str] | None] | None = None
    """Images of its data, to look at; by default those that it was not trained on."""
    version: Callable[[], object] = lambda: None
    """Another one whenever the model is; None where that cannot be told."""


@dataclass
class Opened:
    """A model that is open."""

    stage: Stage
    first: list[Picture]
    """Pictures that a page opens with."""
    version: object = None
    told: str = ""
    """Why there is nothing to compare with, in a sentence."""
    thread: threading.Thread | None = field(default=None, repr=False)


class House:
    """Opens models when they are asked for.

    Args:
        offers: the models, the first of which a page opens with.
        worker: who computes.
        seed: of the pictures that a page opens with.
    """

    def __init__(self, offers: Sequence[Offer], worker: Worker, seed: int = 0) -> None:
        self.offers = {offer.name: offer for offer in offers}
        self.worker, self.seed = worker, seed
        self._opened: OrderedDict[str, Opened] = OrderedDict()

    @property
    def names(self) -> list[str]:
        """Of all models."""
        return list(self.offers)

    def open(self, name: str | None = None) -> Opened:
        """A model by its name, by default the first; in the worker's thread.

        Raises:
            UnknownError: there is no such model.
            GlowflowError: it cannot be read.
        """
        name = self.names[0] if name is None else name
        if name not in self.offers:
            raise UnknownError(f"There is no model {name!r} here: choose another one.")
        opened = self._opened.get(name)
        if opened is not None and self.is_former(name, opened.version):
            self._opened.pop(name).stage.close()
            opened = None
        if opened is None:
            while len(self._opened) >= OPEN:
                self._opened.popitem(last=False)[1].stage.close()
            opened = self._opened[name] = self._new(self.offers[name])
        self._opened.move_to_end(name)
        return opened

    def is_former(self, name: str, version: object) -> bool:
        """Whether a model has changed since it had this version."""
        now = self.offers[name].version()
        return now is not None and now != version

    def _new(self, offer: Offer) -> Opened:
        version = offer.version()
        stage = offer.open()
        stage.make_fast()
        levels = len(stage.model.latent_shapes)
        label = 0 if stage.model.config.classes else None
        temperatures = [FIRST_TEMPERATURE] * levels
        opened = Opened(
            stage,
            stage.sample(FIRST, seed=self.seed, temperatures=temperatures, label=label),
            version,
        )
        if stage.calibration is None:
            opened.thread = threading.Thread(
                target=self._compare, args=(offer, opened), name="glow-held-out", daemon=True
            )
            opened.thread.start()
        return opened

    def _compare(self, offer: Offer, opened: Opened) -> None:
        """Score held-out images, some at a time, while nobody waits for the model."""
        try:
            found = offer.held_out(opened.stage.model)
            if found is None:
                opened.told = "There are no images at hand to compare with."
                return
            data, source = found
            chosen = np.unique(np.linspace(0, len(data) - 1, COMPARED).astype(np.int64))
            parts = []
            for start in range(0, len(chosen), AT_ONCE):
                some = data.choose(chosen[start : start + AT_ONCE])
                parts.append(self._scored(opened.stage.model, some, start))
            opened.stage.calibration = _joined(parts, source)
        except GlowflowError as error:
            opened.told = str(error)
        except Exception as error:  # else the page would wait for ever
            opened.told = f"The images to compare with cannot be read ({type(error).__name__})."

    def _scored(self, model: ImageFlow, some: ImageData, seed: int) -> Calibration:
        while True:
            if self.worker.idle_seconds > QUIET:
                with suppress(BusyError):
                    return self.worker.submit(
                        Urgency.BACKGROUND, calibrate, model, some, seed=seed, progress=False
                    ).result()
            time.sleep(QUIET / 4)


def _joined(parts: Sequence[Calibration], source: str) -> Calibration:
    lengths = [part.complexity for part in parts if part.complexity is not None]
    return Calibration(
        log_prob=np.concatenate([part.log_prob for part in parts]),
        complexity=np.concatenate(lengths) if len(lengths) == len(parts) else None,
        draws=parts[0].draws,
        model=parts[0].model,
        source=source,
    )
