"""The studio as an application: the page, the API, and the guard before both."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from ..errors import GlowflowError
from .answers import RAW
from .guard import Application, Guard
from .house import House, Offer
from .limits import Limits
from .routes import Routes
from .routes_explore import add_explore
from .routes_map import add_map
from .routes_train import add_train
from .training import Trainer
from .visitors import GoneError, UnknownError, Visitors
from .worker import BusyError, Urgency, Worker

PAGE = files("glowflow.studio") / "page"
KINDS = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
FILE: Any = {
    "requestBody": {
        "required": True,
        "content": {RAW: {"schema": {"type": "string", "format": "binary"}}},
    }
}


def make_app(
    offers: Sequence[Offer],
    *,
    limits: Limits | None = None,
    token: str | None = None,
    seed: int = 0,
    trainer: Trainer | None = None,
) -> Application:
    """The studio with these models, the first of which is opened at once.

    Args:
        offers: models.
        limits: how much can be asked for.
        token: what everybody has to know; None where only this machine can ask.
        seed: of the pictures that a page opens with.
        trainer: of the folder of runs, if there is one.

    Raises:
        GlowflowError: the first model cannot be read.
    """
    limits = limits or Limits()
    worker = Worker(limits.waiting)
    house, visitors = House(offers, worker, seed), Visitors(limits)
    worker.submit(Urgency.ASKED, house.open).result()
    routes = Routes(house, visitors, worker, limits)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        if trainer is not None:
            trainer.close()
        worker.close()

    app = FastAPI(
        title="glow studio", version="1", docs_url=None, redoc_url=None, lifespan=life,
        openapi_url="/api/openapi.json",
    )  # fmt: skip
    post: Any = {"methods": ["POST"]}
    add = app.add_api_route
    add("/api/visitors", routes.open, **post)
    add("/api/visitors/stay", routes.stay, status_code=204, **post)
    add("/api/visitors/leave", routes.leave, status_code=204, **post)
    add("/api/samples", routes.sample, **post)
    add("/api/pictures", routes.upload, openapi_extra=FILE, **post)
    add("/api/pictures/{picture}/image.png", routes.image, methods=["GET"])
    of_picture: dict[str, Callable[..., Any]] = {
        "cut": routes.cut,
        "edit": routes.edit,
        "edit/score": routes.score,
        "edit/keep": routes.keep,
        "edit/edited.png": routes.edited,
        "edit/pasted.png": routes.pasted,
        "edit/strip.png": routes.strip,
        "edit/animation.gif": routes.animation,
        "edit/recipe.json": routes.recipe,
        "levels": routes.redraw,
        "levels/keep": routes.keep_redrawn,
    }
    for name, function in of_picture.items():
        add(f"/api/pictures/{{picture}}/{name}", function, **post)
    add("/api/mix", routes.mix, **post)
    add("/api/mix/keep", routes.keep_mix, **post)
    add("/api/mix/animation.gif", routes.passage, **post)
    add("/api/score", routes.score_file, openapi_extra=FILE, **post)
    add("/api/reference", routes.reference, methods=["GET"])
    add_explore(app, routes)
    add_map(app, routes, FILE)
    add_train(app, routes, trainer)
    for page in PAGE.iterdir():
        if page.name.rpartition(".")[2] in KINDS:
            add(f"/{page.name}", _file(page), methods=["GET"], include_in_schema=False)
    add("/", _file(PAGE / "index.html"), methods=["GET"], include_in_schema=False)
    app.add_exception_handler(GlowflowError, _refused)
    app.add_exception_handler(RequestValidationError, _not_understood)
    app.add_exception_handler(HTTPException, _not_found)
    app.add_exception_handler(Exception, _failed)
    return Guard(app, limits, token)


def _file(page: Any) -> Any:
    content = page.read_bytes()
    kind = KINDS[page.name.rpartition(".")[2]]

    async def give() -> Response:
        return Response(content, media_type=kind)

    return give


def _sentence(status: int, sentence: str, **headers: str) -> Response:
    if status == 503:
        headers["Retry-After"] = "2"
    return JSONResponse({"error": sentence}, status, headers)


async def _refused(_: Request, error: Exception) -> Response:
    status = (
        503 if isinstance(error, BusyError) else 404 if isinstance(error, UnknownError) else 400
    )
    gone = {"Glow-Gone": "the page"} if isinstance(error, GoneError) else {}
    return _sentence(status, str(error), **gone)


async def _not_understood(_: Request, error: Exception) -> Response:
    problems: Any = error.errors() if isinstance(error, RequestValidationError) else []
    said = "; ".join(
        f"{'.'.join(str(part) for part in problem['loc'][1:]) or 'the body'}: {problem['msg']}"
        for problem in problems[:3]
    )
    return _sentence(422, f"The request is not understood ({said[:500]}).")


async def _not_found(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    return _sentence(status, f"There is nothing like that in the studio ({status}).")


async def _failed(_: Request, error: Exception) -> Response:
    if isinstance(error, (MemoryError, RuntimeError)) and "memory" in str(error):
        return _sentence(503, "There is not enough memory for that: try a smaller picture.")
    return _sentence(500, "It failed unexpectedly, which is a fault of glowflow.")
