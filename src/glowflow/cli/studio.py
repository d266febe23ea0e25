"""`glow studio`: a page in the browser where one plays with a model."""

import secrets
import socket
import sys
import webbrowser
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import tyro

from ..errors import CheckpointError, InputError
from .options import CommonOptions, Outcome, check_device

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..data.types import ImageData
    from ..models.flow import ImageFlow
    from ..studio.house import Offer
    from ..studio.stage import Stage

Found = TypeVar("Found")

DEMO = "demo-faces"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
SHORTEST = 8
"""Characters of a token."""


@dataclass(frozen=True, kw_only=True)
class Options(CommonOptions):
    model: Annotated[str, tyro.conf.Positional] = DEMO
    """Folder of a run or of a saved model, a folder of such folders, a Hugging Face hub id, or
    demo-faces, which is shipped."""
    host: str = "127.0.0.1"
    """Address to listen on; another than this machine's own wants a token."""
    port: int = 7860
    """Port to listen on; 0 for any that is free."""
    token: str | None = None
    """What everybody who opens the page has to know; by default none on this machine's own
    address, and a new one on others."""
    open: bool = True
    """Open the page in the browser."""
    seed: int = 0
    """Of the pictures that the page opens with."""
    runs: Path | None = None
    """Folder whose runs the page shows, and where those go that it starts; by default the folder of
    runs that is given, else runs/."""
    out: Path | None = None
    """Taken for the sake of scripts: the studio writes nothing."""


def run(options: Options) -> Outcome:
    """Serve the page until Ctrl-C."""
    _require_server()
    device = check_device(options.device)
    token = _token(options)
    offers = [_offer(source, name, device) for source, name in _models(options.model)]
    with _listening(options.host, options.port) as listening:
        from ..studio.app import make_app
        from ..studio.training import Trainer

        port = listening.getsockname()[1]
        trainer = Trainer(
            _runs(options), anywhere=options.host in LOOPBACK, offer=partial(_offer, device=device)
        )
        app = make_app(offers, token=token, seed=options.seed, trainer=trainer)
        address = _address(options.host, port, token)
        where = sys.stderr if options.json else sys.stdout
        print(f"The studio is at {address} (Ctrl-C ends it).", file=where, flush=True)
        if options.open:
            webbrowser.open(address)
        _serve(app, listening)
    return Outcome(
        "The studio is closed.", {"address": address, "models": [o.name for o in offers]}
    )


def _require_server() -> None:
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise InputError("The studio needs FastAPI: pip install 'glowflow[studio]'.") from error


def _serve(app: Any, listening: socket.socket) -> None:
    """Until Ctrl-C."""
    import uvicorn

    config = uvicorn.Config(
        app, log_level="error", access_log=False, server_header=False, ws="none",
        limit_concurrency=512, timeout_keep_alive=75, timeout_graceful_shutdown=3,
    )  # fmt: skip
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])


def _token(options: Options) -> str | None:
    """The token to ask for."""
    if options.token is not None and len(options.token) < SHORTEST:
        raise InputError(f"The token has {len(options.token)} characters: give {SHORTEST} or more.")
    if options.token is None and options.host not in LOOPBACK:
        return secrets.token_urlsafe(16)
    return options.token


def _listening(host: str, port: int) -> socket.socket:
    if not 0 <= port < 2**16:
        raise InputError(f"--port is {port}: give 0 to 65535.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise InputError(
            f"Cannot listen on {host}, port {port} ({error.strerror or error}): give "
            "another --port or --host."
        ) from error
    # Else the second half of each answer waits 40 ms for the first to be acknowledged.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _address(host: str, port: int, token: str | None) -> str:
    name = f"[{host}]" if ":" in host else host
    name = socket.gethostname() if host in ("0.0.0.0", "::") else name
    return f"http://{name}:{port}/" + ("" if token is None else f"#token={token}")


def _models(source: str) -> list[tuple[str, str]]:
    """The model, or each in a folder of them, the newest first: where it is, and its name."""
    from ..files import path_of
    from ..models.pretrained import CONFIG_FILE, WEIGHTS_FILE
    from ..training.config import CONFIG_FILE as RUN_FILE

    folder = path_of(source)
    if not folder.is_dir() or (folder / CONFIG_FILE).is_file():
        return [(source, folder.resolve().name if folder.is_dir() else source)]
    found = [
        each
        for each in folder.iterdir()
        if (each / CONFIG_FILE).is_file() and (each / WEIGHTS_FILE).is_file()
    ]
    if not found and any((each / RUN_FILE).is_file() for each in folder.iterdir()):
        return [(DEMO, DEMO)]  # until one of the runs has a model
    if not found:
        raise InputError(
            f"{folder} is neither a model nor a folder of models: give the folder of a run, or the "
            "folder that runs are in."
        )
    found.sort(key=lambda each: (each / WEIGHTS_FILE).stat().st_mtime, reverse=True)
    return [(str(each), each.name) for each in found]


def _offer(source: str, name: str, device: str) -> "Offer":
    from ..studio.house import Offer

    return Offer(
        name,
        partial(_stage, source, name, device),
        partial(_held_out, source),
        partial(_data, source),
        partial(_version, source),
    )


def _version(source: str) -> tuple[int, ...] | None:
    """When the model's files were written, and those beside it; None of one that is no folder."""
    from ..files import path_of
    from ..latents.leakage import LEAKAGE_FILE
    from ..models.companions import CALIBRATION_FILE, DIRECTIONS_FILE
    from ..models.pretrained import CONFIG_FILE, WEIGHTS_FILE

    names = (WEIGHTS_FILE, CONFIG_FILE, DIRECTIONS_FILE, CALIBRATION_FILE, LEAKAGE_FILE)
    written = tuple(_written(path_of(source) / name) for name in names)
    return written if written[0] else None


def _written(path: Path) -> int:
    """When a file was, in nanoseconds; 0 where it is not there."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _runs(options: Options) -> Path:
    """The folder of runs."""
    from ..files import path_of
    from ..models.pretrained import CONFIG_FILE

    if options.runs is not None:
        return path_of(options.runs)
    folder = path_of(options.model)
    return folder if folder.is_dir() and not (folder / CONFIG_FILE).is_file() else Path("runs")


def _stage(source: str, name: str, device: str) -> "Stage":
    """The model with what lies beside it."""
    from ..evaluation.calibration import load_calibration
    from ..latents.directions import load_directions
    from ..latents.leakage import LEAKAGE_FILE, read_leakage
    from ..models.companions import CALIBRATION_FILE, DIRECTIONS_FILE
    from ..studio.stage import Stage
    from .model_data import load_model_for

    model = load_model_for(source, device)
    known = _own(source, DIRECTIONS_FILE, model, load_directions)
    stage = Stage(model, name, known)
    leakage = _beside(source, LEAKAGE_FILE)
    if known is not None and leakage is not None:
        stage.leakage.update(read_leakage(leakage, stage.identity, known.estimator))
    calibration = _own(source, CALIBRATION_FILE, model, load_calibration)
    if calibration is not None and calibration.draws == 1:  # as the studio scores
        stage.calibration = calibration
    return stage


def _own(
    source: str, name: str, model: "ImageFlow", load: "Callable[[Path, ImageFlow], Found]"
) -> "Found | None":
    """What lies beside the model; None, and a remark, where it is of other weights."""
    from ..progress import remark

    path = _beside(source, name)
    if path is None:
        return None
    try:
        return load(path, model)
    except InputError as error:
        remark(str(error))
        return None


def _beside(source: str, name: str) -> Path | None:
    from ..models.pretrained import locate

    try:
        return locate(source, name)
    except CheckpointError:
        return None


def _held_out(source: str, model: "ImageFlow") -> "tuple[ImageData, str] | None":
    """Validation images of the model's own data, if it says what these are."""
    from .model_data import choose, run_folder

    if run_folder(source) is None:
        return None
    chosen = choose(model, source, None, part="valid", progress=False)
    return chosen.data, f"{chosen.source}, {chosen.part}"


def _data(source: str, model: "ImageFlow") -> "tuple[ImageData, str] | None":
    """Images of the model's own data to look at; of drawn faces some are drawn, not all."""
    from dataclasses import replace

    from ..data.open import open_images
    from ..studio.explore import MOST
    from .model_data import run_config

    config = run_config(source)
    if config is None or config.data.data != "faces":
        return _held_out(source, model)
    images = open_images(replace(config.data, faces=MOST), progress=False)
    return images.data, "drawn faces"
