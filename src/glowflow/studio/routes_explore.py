"""Explore, as routes: where the model's data lie, and walks along their axes."""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import FastAPI, Response
from pydantic import Field

from ..errors import InputError
from ..latents.chart import Chart
from ..latents.codes import flatten
from ..reports.levels import SPRITE_COLUMNS, sprite
from .answers import raw_of
from .asked import Name
from .explore import Explored, Explorer, attributes_of, of_pictures
from .routes import Routes, Who
from .stage import Frame, Stage
from .visitors import Picture, UnknownError, Visitor
from .worker import Urgency

NOT_YET = "The images of the data are not encoded yet: wait a moment."
Amount = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]


@dataclass(frozen=True, kw_only=True)
class Taking:
    """One of the images that are shown."""

    index: Annotated[int, Field(ge=0, lt=2**31)]


@dataclass(frozen=True, kw_only=True)
class Walking:
    """A place on the way along an axis."""

    picture: Name | None = None
    """Where the way begins; by default the mean code."""
    part: Annotated[int, Field(ge=0, le=64)] = 0
    """0 for the whole code, else a level."""
    axis: Annotated[int, Field(ge=0, le=1000)] = 0
    """The first is 0."""
    amount: Amount = 0.0
    """In standard deviations of the images along the axis."""
    label: Annotated[int, Field(ge=0)] | None = None
    """Class of the mean code, of a class-conditional model."""


class Explore:
    """What the tab asks for.

    Args:
        routes: the studio's abilities.
    """

    def __init__(self, routes: Routes) -> None:
        self.routes = routes
        self.explorer = Explorer(routes.house, routes.worker)

    async def look(self, who: Who) -> dict[str, Any]:
        """Images of the model's data along the principal axes of their codes, as far as they are.

        `state` is `reading`, `encoding` or `ready`; where there are no data, `told` says why, and
        the points are the visitor's own `pictures`.
        """
        visitor = self.routes.visitors.find(who)
        known = self.explorer.of_model(visitor.model)
        if known.found is not None:
            return {"state": "ready", "told": "", "pictures": None, **_of_data(known.found)}
        if not known.told:
            state = "encoding" if known.total else "reading"
            return {"state": state, "done": known.done, "total": known.total}
        made = await self._worked(lambda: of_pictures(visitor, self._stage(visitor)))
        names = visitor.charted[1] if visitor.charted is not None else ()
        points = {"source": "", "attributes": [], "cell": [0, 0], "columns": 1, **_points(made)}
        return {"state": "ready", "told": known.told, "pictures": list(names), **points}

    async def sheet(self, who: Who) -> Response:
        """The images of the data, small, in one WebP: row by row, `columns` in each."""
        found = self._found(self.routes.visitors.find(who))
        data, _ = await asyncio.to_thread(sprite, found.data.images)
        return Response(data, media_type="image/webp")

    async def take(self, asked: Taking, who: Who) -> dict[str, Any]:
        """An image of the data as a picture of the visitor's."""
        visitor = self.routes.visitors.find(who)
        data = self._found(visitor).data
        if asked.index >= len(data):
            raise InputError(f"There is no image {asked.index}: there are {len(data)}.")
        name = data.names[asked.index] if data.names else f"image {asked.index + 1} of the data"

        def keep() -> dict[str, Any]:
            stage = self._stage(visitor)
            known = data.labels if stage.model.config.classes else None
            label = None if known is None else int(known[asked.index])
            (picture,) = stage.take(data.images[asked.index][None], label, None, [name])
            return self.routes._shown(visitor, picture)

        shown: dict[str, Any] = await self._worked(keep)
        return shown

    async def place(self, picture: Name, who: Who) -> dict[str, Any]:
        """Where a picture lies, in standard deviations along the axes of each part."""
        visitor = self.routes.visitors.find(who)
        wanted = visitor.picture(picture)

        def where() -> dict[str, Any]:
            stage = self._stage(visitor)
            rows = flatten(stage.code(wanted)).cpu()
            parts = self._chart(visitor, stage).parts
            return {"parts": [part.coordinates(rows)[0].tolist() for part in parts]}

        found: dict[str, Any] = await self._worked(where)
        return found

    async def walk(self, asked: Walking, who: Who) -> Response:
        """The picture moved along an axis: bytes, as of an edit."""
        return raw_of(await self._walked(asked, self.routes.visitors.find(who)))

    async def keep(self, asked: Walking, who: Who) -> dict[str, Any]:
        """The picture moved along an axis, as a picture of its own."""
        visitor = self.routes.visitors.find(who)
        begin = self._begin(asked, visitor)
        frame = await self._walked(asked, visitor)
        name = f"axis {asked.axis + 1}, {asked.amount:+.2f}"
        label = asked.label if begin is None else begin.label
        return await self.routes._taken(visitor, frame.image, label, name)

    async def _walked(self, asked: Walking, visitor: Visitor) -> Frame:
        begin = self._begin(asked, visitor)

        def go() -> Frame:
            stage = self._stage(visitor)
            known = self._chart(visitor, stage)
            code = known.middle() if begin is None else stage.code(begin)
            label = asked.label if begin is None else begin.label
            moved = known.moved(code, asked.part, asked.axis, asked.amount)
            return stage.decode(moved, stage._labels(label, 1))[0]

        return await self.routes.worker.run(Urgency.DRAGGED, go)

    def _begin(self, asked: Walking, visitor: Visitor) -> Picture | None:
        return None if asked.picture is None else visitor.picture(asked.picture)

    def _chart(self, visitor: Visitor, stage: Stage) -> Chart:
        known = self.explorer.of_model(visitor.model)
        if known.found is None and not known.told:
            raise InputError(NOT_YET)
        return self.explorer.chart_for(visitor, stage)

    def _found(self, visitor: Visitor) -> Explored:
        found = self.explorer.of_model(visitor.model).found
        if found is None:
            raise UnknownError(NOT_YET)
        return found

    def _stage(self, visitor: Visitor) -> Stage:
        return self.routes.house.open(visitor.model).stage

    async def _worked(self, job: Any) -> Any:
        return await self.routes.worker.run(Urgency.ASKED, job)


def _of_data(found: Explored) -> dict[str, Any]:
    _, cell = sprite(found.data.images[:1])
    return {
        "source": found.source,
        "attributes": [
            {"name": name, "true": "".join("01"[int(value)] for value in values)}
            for name, values in attributes_of(found.data)
        ],
        "cell": list(cell),
        "columns": min(SPRITE_COLUMNS, len(found.data)),
        **_points(found.chart),
    }


def _points(known: Chart) -> dict[str, Any]:
    return {
        "parts": [
            {"shares": part.shares.tolist(), "points": along.double().numpy().round(3).tolist()}
            for part, along in zip(known.parts, known.coordinates, strict=True)
        ]
    }


def add_explore(app: FastAPI, routes: Routes) -> None:
    """The routes of the tab."""
    tab = Explore(routes)
    post: Any = {"methods": ["POST"]}
    app.add_api_route("/api/explore", tab.look, methods=["GET"])
    app.add_api_route("/api/explore/sheet.webp", tab.sheet, methods=["GET"])
    app.add_api_route("/api/explore/take", tab.take, **post)
    app.add_api_route("/api/explore/walk", tab.walk, **post)
    app.add_api_route("/api/explore/walk/keep", tab.keep, **post)
    app.add_api_route("/api/pictures/{picture}/place", tab.place, methods=["GET"])
