"""The REST API: each route takes what is asked, has the worker do it, and answers."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from fastapi import Header, Query, Request, Response
from numpy.typing import NDArray

from ..errors import InputError
from .answers import facts_of, gif_of, png_of, raw_of, reference_of, strip_of, told_of, uri
from .asked import Cutting, Editing, Mixing, Name, Opening, Passage, Redrawing, Sampling
from .house import House
from .limits import Limits
from .pictures import Framing, checked, framed
from .stage import Frame, Stage, png
from .visitors import Picture, Visitor, Visitors
from .worker import BusyError, Urgency, Worker, give_back

Who = Annotated[str, Header(alias="Glow-Visitor", max_length=64)]
Side = Annotated[float, Query(ge=-1e5, le=1e5, allow_inf_nan=False)]
PASTED = "Only an uploaded photograph can have the edit put back into it: upload one."


class Routes:
    """The studio's abilities.

    Args:
        house: the models.
        visitors: who is here.
        worker: who computes.
        limits: how much can be asked for.
    """

    def __init__(self, house: House, visitors: Visitors, worker: Worker, limits: Limits) -> None:
        self.house, self.visitors, self.worker, self.limits = house, visitors, worker, limits

    async def open(self, asked: Opening) -> dict[str, Any]:
        """A new visitor, what its model is, and pictures to begin with."""
        name = self.house.names[0] if asked.model is None else asked.model
        opened = await self._run(Urgency.ASKED, self.house.open, name)
        who = self.visitors.admit(name)
        visitor = self.visitors.find(who)
        return {
            "visitor": who,
            "models": self.house.names,
            "model": facts_of(opened),
            "pictures": [self._shown(visitor, p) for p in opened.first[::-1]][::-1],
            "limits": {
                "upload_bytes": self.limits.upload_bytes,
                "upload_pixels": self.limits.upload_pixels,
                "pictures": self.limits.pictures,
            },
        }

    async def stay(self, who: Who) -> Response:
        """Say that the page is still open."""
        self.visitors.find(who)
        return Response(status_code=204)

    async def leave(self, who: Who) -> Response:
        """Forget the visitor, with all pictures."""
        self.visitors.leave(who)
        with suppress(BusyError):  # then somebody else's job will give it back
            self.worker.submit(Urgency.BACKGROUND, give_back)
        return Response(status_code=204)

    async def sample(self, asked: Sampling, who: Who) -> dict[str, Any]:
        """Draw pictures."""
        if asked.count > self.limits.samples:
            raise InputError(f"{asked.count} are too many: at most {self.limits.samples} at once.")
        visitor = self.visitors.find(who)

        def draw() -> list[dict[str, Any]]:
            stage = self._stage(visitor)
            levels = len(stage.model.latent_shapes)
            given = list(asked.temperatures)
            temperatures = given * levels if len(given) == 1 else given
            drawn = stage.sample(
                asked.count, seed=asked.seed, temperatures=temperatures, label=asked.label
            )
            return [self._shown(visitor, picture, drawn=True) for picture in drawn]

        return {"pictures": await self._run(Urgency.ASKED, draw)}

    async def upload(
        self,
        request: Request,
        who: Who,
        framing: Framing = "whole",
        left: Side = 0.0,
        top: Side = 0.0,
        width: Side = 0.0,
        label: Annotated[int | None, Query(ge=0)] = None,
        name: Annotated[str, Query(max_length=200)] = "",
    ) -> dict[str, Any]:
        """Take a picture file, the body of the request."""
        visitor, data = self.visitors.find(who), await request.body()

        def take() -> dict[str, Any]:
            stage = self._stage(visitor)
            photograph = checked(data, self.limits)
            photograph, image = framed(photograph, stage.model, framing, (left, top, width))
            (picture,) = stage.take(image[None], label, photograph, [name])
            return self._shown(visitor, picture)

        return await self._run(Urgency.ASKED, take)

    async def cut(self, picture: Name, asked: Cutting, who: Who) -> dict[str, Any]:
        """Take another part of an uploaded photograph: a new picture."""
        visitor = self.visitors.find(who)
        whole = visitor.picture(picture)
        if whole.photograph is None:
            raise InputError("Only of an uploaded photograph can another part be taken.")
        photograph = whole.photograph

        def take() -> dict[str, Any]:
            stage = self._stage(visitor)
            place = (asked.left, asked.top, asked.width)
            part, image = framed(photograph, stage.model, asked.framing, place)
            (new,) = stage.take(image[None], whole.label, part, [whole.name])
            return self._shown(visitor, new)

        return await self._run(Urgency.ASKED, take)

    async def image(self, picture: Name, who: Who) -> Response:
        """The picture as the model sees it, as a PNG."""
        return png_of(self.visitors.find(who).picture(picture).image)

    async def edit(self, picture: Name, asked: Editing, who: Who) -> Response:
        """The edited picture: its bytes row by row; `Glow-Concern` says what is wrong with it."""
        visitor = self.visitors.find(who)
        original, change = visitor.picture(picture), asked.change()
        return raw_of(
            await self._run(Urgency.DRAGGED, lambda: self._stage(visitor).edit(original, change))
        )

    async def edited(self, picture: Name, asked: Editing, who: Who) -> Response:
        """The edited picture as a PNG, as `glow edit --recipe` writes it."""
        image, _ = await self._exactly(picture, asked, who)
        return png_of(image)

    async def recipe(self, picture: Name, asked: Editing, who: Who) -> Response:
        """The edit as a file that `glow edit --recipe` does again."""
        _, recipe = await self._exactly(picture, asked, who)
        return Response(recipe.to_json(), media_type="application/json")

    async def pasted(self, picture: Name, asked: Editing, who: Who) -> Response:
        """The original photograph with the edit in it, as a PNG."""
        visitor = self.visitors.find(who)
        original, change = visitor.picture(picture), asked.change()
        photograph = original.photograph
        if photograph is None:
            raise InputError(PASTED)

        def put_back() -> Response:
            stage = self._stage(visitor)
            image, _ = stage.edit_exactly(original, change)
            return png_of(photograph.with_change(stage.model, original.image, image))

        return await self._run(Urgency.ASKED, put_back)

    async def strip(self, picture: Name, asked: Editing, who: Who) -> Response:
        """From the picture to the edited one in nine steps, side by side, as a PNG."""
        images = await self._path(picture, asked, who, 9)
        return strip_of(images)

    async def animation(self, picture: Name, asked: Editing, who: Who) -> Response:
        """From the picture to the edited one and back, as a GIF."""
        return gif_of(await self._path(picture, asked, who, self.limits.frames))

    async def keep(self, picture: Name, asked: Editing, who: Who) -> dict[str, Any]:
        """The edited picture as a picture of its own."""
        image, _ = await self._exactly(picture, asked, who)
        visitor = self.visitors.find(who)
        original = visitor.picture(picture)
        label = original.label if asked.target is None else asked.target
        return await self._taken(visitor, image, label, f"{original.name} edited")

    async def score(self, picture: Name, asked: Editing, who: Who) -> dict[str, Any]:
        """The likelihood of the edited picture, as `glow score` gives it."""
        visitor = self.visitors.find(who)
        original, change = visitor.picture(picture), asked.change()

        def judge() -> dict[str, Any]:
            stage = self._stage(visitor)
            return stage.likelihood(stage.edit(original, change).image)

        return await self._run(Urgency.ASKED, judge)

    async def mix(self, asked: Mixing, who: Who) -> Response:
        """A picture between two to four others: bytes, as of an edit."""
        return raw_of(await self._mixed(asked, self.visitors.find(who)))

    async def keep_mix(self, asked: Mixing, who: Who) -> dict[str, Any]:
        """A picture between others as one of its own."""
        visitor = self.visitors.find(who)
        frame = await self._mixed(asked, visitor)
        label = visitor.picture(asked.pictures[0]).label
        return await self._taken(visitor, frame.image, label, "a mix")

    async def passage(self, asked: Passage, who: Who) -> Response:
        """The way from place to place and back, as a GIF."""
        visitor = self.visitors.find(who)
        corners = [visitor.picture(name) for name in asked.pictures]

        def walk() -> NDArray[np.uint8]:
            stage = self._stage(visitor)
            places = np.array(asked.places)
            steps = np.linspace(0, len(places) - 1, self.limits.frames)
            along = [np.interp(steps, range(len(places)), axis) for axis in places.T]
            frames = [stage.mix(corners, u, v, asked.curve) for u, v in zip(*along, strict=True)]
            return np.stack([frame.image for frame in frames])

        return gif_of(await self._run(Urgency.ASKED, walk))

    async def redraw(self, picture: Name, asked: Redrawing, who: Who) -> dict[str, Any]:
        """The picture with one level drawn anew, several times."""
        if asked.count > self.limits.samples:
            raise InputError(f"{asked.count} are too many: at most {self.limits.samples} at once.")
        visitor = self.visitors.find(who)
        original = visitor.picture(picture)

        images = await self._redrawn(original, asked, visitor)
        return {"pngs": [uri(png(image)) for image in images]}

    async def keep_redrawn(self, picture: Name, asked: Redrawing, who: Who) -> dict[str, Any]:
        """The picture with one level drawn anew, once, as a picture of its own."""
        visitor = self.visitors.find(who)
        original = visitor.picture(picture)
        (image,) = await self._redrawn(original, replace(asked, count=1), visitor)
        name = f"level {asked.level} anew"
        return await self._taken(visitor, image, original.label, name)

    async def score_file(
        self,
        request: Request,
        who: Who,
        name: Annotated[str, Query(max_length=200)] = "",
    ) -> dict[str, Any]:
        """Score a picture file, the body of the request, without keeping it."""
        visitor, data = self.visitors.find(who), await request.body()

        def judge() -> dict[str, Any]:
            stage = self._stage(visitor)
            _, image = framed(checked(data, self.limits), stage.model, "whole")
            return {"name": name, "png": uri(png(image)), **stage.score(image)}

        return await self._run(Urgency.ASKED, judge)

    async def reference(self, who: Who) -> dict[str, Any]:
        """How likely held-out images are: a histogram of their bits/dim."""
        visitor = self.visitors.find(who)
        # A page asks again and again: no quiet would ever come in which these images are scored.
        opened = await self._run(Urgency.BACKGROUND, self.house.open, visitor.model)
        return reference_of(opened)

    def _stage(self, visitor: Visitor) -> Stage:
        return self.house.open(visitor.model).stage

    def _shown(self, visitor: Visitor, picture: Picture, *, drawn: bool = False) -> dict[str, Any]:
        name = self.visitors.keep(visitor, picture, drawn=drawn)
        return {"picture": name, **told_of(picture)}

    async def _taken(
        self, visitor: Visitor, image: NDArray[np.uint8], label: int | None, name: str
    ) -> dict[str, Any]:
        def take() -> dict[str, Any]:
            stage = self._stage(visitor)
            (picture,) = stage.take(image[None], label, None, [name])
            return self._shown(visitor, picture)

        return await self._run(Urgency.ASKED, take)

    async def _exactly(
        self, picture: str, asked: Editing, who: str
    ) -> tuple[NDArray[np.uint8], Any]:
        visitor = self.visitors.find(who)
        original, change = visitor.picture(picture), asked.change()
        return await self._run(
            Urgency.ASKED, lambda: self._stage(visitor).edit_exactly(original, change)
        )

    async def _path(self, picture: str, asked: Editing, who: str, count: int) -> NDArray[np.uint8]:
        visitor = self.visitors.find(who)
        original, change = visitor.picture(picture), asked.change()
        return await self._run(
            Urgency.ASKED, lambda: self._stage(visitor).path(original, change, count)
        )

    async def _mixed(self, asked: Mixing, visitor: Visitor) -> Frame:
        corners = [visitor.picture(name) for name in asked.pictures]
        return await self._run(
            Urgency.DRAGGED,
            lambda: self._stage(visitor).mix(corners, asked.across, asked.down, asked.curve),
        )

    async def _redrawn(
        self, original: Picture, asked: Redrawing, visitor: Visitor
    ) -> NDArray[np.uint8]:
        return await self._run(
            Urgency.ASKED,
            lambda: self._stage(visitor).redraw(
                original, asked.level, asked.count, seed=asked.seed, temperature=asked.temperature
            ),
        )

    async def _run(self, urgency: Urgency, function: Callable[..., Any], *arguments: Any) -> Any:
        return await self.worker.run(urgency, function, *arguments)
