"""Train, as routes: runs of a folder, their curves, and one that is started and stopped here."""

import asyncio
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import FastAPI, Path, Response
from pydantic import Field, StringConstraints

from ..errors import InputError
from .form import STARTS, filled, form, starting_point
from .routes import Routes, Who
from .training import Trainer
from .visitors import UnknownError

NONE = "This studio has no folder of runs: start it with glow studio RUNS."
Option = Annotated[str, StringConstraints(max_length=64)]
Written = Annotated[str, StringConstraints(max_length=4096)]
Run = Annotated[str, Path(max_length=100)]


@dataclass(frozen=True, kw_only=True)
class Starting:
    """A run to begin."""

    start: Annotated[str, Field(max_length=64)] = "glow"
    """Family or preset whose options it has where none is given."""
    name: Annotated[str, Field(max_length=80)] = ""
    """Of its folder; by default the images and the time."""
    options: Annotated[dict[Option, bool | Written], Field(max_length=200)] = field(
        default_factory=dict
    )
    """Those that differ, by the names of the form, as they are written."""


class Train:
    """What the tab asks for; what reads files does so in another thread than the server's.

    Args:
        routes: the studio's abilities.
        trainer: of the folder; None where there is none.
    """

    def __init__(self, routes: Routes, trainer: Trainer | None) -> None:
        self.routes, self.given = routes, trainer

    async def form(self, who: Who, start: str = "glow") -> dict[str, Any]:
        """The options of a run, those that matter most first, as a family or a preset has them."""
        self.routes.visitors.find(who)
        return {"starts": STARTS, "start": start, "fields": form(starting_point(start))}

    async def runs(self, who: Who) -> dict[str, Any]:
        """The runs of the folder, the newest first, and what became of the one started here."""
        self.routes.visitors.find(who)
        if self.given is None:
            return {"folder": None, "runs": [], "child": None}
        child = self.given.child
        return {
            "folder": str(self.given.runs.folder),
            "runs": await asyncio.to_thread(self.given.summaries, self.routes.house),
            "child": child and {"run": child.run, "state": child.state, "told": child.told},
        }

    async def look(self, run: Run, who: Who) -> dict[str, Any]:
        """Curves of a run (images, bits/dim), its newest health, and what to say of that."""
        self.routes.visitors.find(who)
        return await asyncio.to_thread(self.trainer.runs.look, run)

    async def sheet(self, run: Run, who: Who) -> Response:
        """The newest samples of a run, as a PNG: a row a temperature."""
        self.routes.visitors.find(who)
        path = await asyncio.to_thread(self.trainer.runs.sheet, run)
        if path is None:
            raise UnknownError("This run has no samples yet.")
        return Response(await asyncio.to_thread(path.read_bytes), media_type="image/png")

    async def start(self, asked: Starting, who: Who) -> dict[str, str]:
        """Begin a run, as `glow train` does; it goes on when the page is closed."""
        self.routes.visitors.find(who)
        config = filled(starting_point(asked.start), asked.options)
        return {"run": await asyncio.to_thread(self.trainer.start, config, asked.name)}

    async def resume(self, run: Run, who: Who) -> dict[str, str]:
        """Go on with a run, as `glow train --resume` does."""
        self.routes.visitors.find(who)
        await asyncio.to_thread(self.trainer.resume, run)
        return {"run": run}

    async def stop(self, who: Who) -> Response:
        """Let the run end after its step, with a checkpoint, as Ctrl-C does."""
        self.routes.visitors.find(who)
        self.trainer.stop()
        return Response(status_code=204)

    @property
    def trainer(self) -> Trainer:
        """The folder's.

        Raises:
            InputError: there is none.
        """
        if self.given is None:
            raise InputError(NONE)
        return self.given


def add_train(app: FastAPI, routes: Routes, trainer: Trainer | None) -> None:
    """The routes of the tab."""
    tab = Train(routes, trainer)
    get: Any = {"methods": ["GET"]}
    post: Any = {"methods": ["POST"]}
    app.add_api_route("/api/training/form", tab.form, **get)
    app.add_api_route("/api/training/stop", tab.stop, status_code=204, **post)
    app.add_api_route("/api/runs", tab.runs, **get)
    app.add_api_route("/api/runs", tab.start, **post)
    app.add_api_route("/api/runs/{run}", tab.look, **get)
    app.add_api_route("/api/runs/{run}/resume", tab.resume, **post)
    app.add_api_route("/api/runs/{run}/samples.png", tab.sheet, **get)
