"""The run that the studio has started: a child, which it also stops."""

import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import has_holder, path_of, write_text
from ..progress import remark
from ..training.as_yaml import to_yaml
from ..training.config import TrainConfig
from .house import House, Offer
from .runs import NAME, Runs, has_model

COMMAND = (sys.executable, "-m", "glowflow", "train")
PATIENCE = 120.0
"""Seconds that a run has for its last checkpoint when the studio ends."""
BUILT_IN = ("faces", "digits")
INTERRUPTED = 130
HUB = re.compile(r"hub:(?P<name>\w[\w.-]*/\w[\w.-]*)([:@].*)?")
"""Data of the hub, whose names may be those of folders too."""


@dataclass
class Child:
    """A run that was started here."""

    run: str
    process: "subprocess.Popen[bytes]"
    folder: "tempfile.TemporaryDirectory[str]"
    """With its configuration and what it says."""
    stopping: bool = False

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    @property
    def state(self) -> str:
        """`training`, `stopping` or `ended`."""
        return "ended" if not self.alive else "stopping" if self.stopping else "training"

    @property
    def told(self) -> str:
        """Why it has ended, in a sentence; empty where it came to its end or was stopped."""
        code = self.process.poll()
        if code in (None, 0, INTERRUPTED) or (self.stopping and code == -signal.SIGTERM):
            return ""
        said = Path(self.folder.name, "err").read_text(encoding="utf-8", errors="replace")
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        last = lines[-1] if lines else f"glow train: it has ended with code {code}."
        return last.removeprefix("glow train: ")[:1000]


class Trainer:
    """What the studio knows of the runs in a folder, and one run of its own at a time.

    Args:
        folder: where runs are and new ones go.
        anywhere: whether images may be read from wherever somebody says: for who sits at this
            machine.
        offer: makes a model of a run's folder, to play with.
        command: what trains.
    """

    def __init__(
        self,
        folder: Path,
        *,
        anywhere: bool = False,
        offer: Callable[[str, str], Offer] | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.runs, self.anywhere, self.offer, self.command = Runs(folder), anywhere, offer, command
        self.child: Child | None = None
        self._lock = threading.Lock()

    def start(self, config: TrainConfig, name: str = "") -> str:
        """Begin a run; its name.

        Raises:
            InputError: one is under way, the name cannot be or is taken, or the images are not for
                who is not at this machine.
        """
        self._require_allowed(config)
        name = name or _dated(config)
        if not NAME.fullmatch(name):
            raise InputError(
                f"The run cannot be called {name[:80]!r}: give letters, digits, dots and dashes."
            )
        if (self.runs.folder / name).exists():
            raise InputError(f"There is a run {name} already: give another name.")
        said = tempfile.TemporaryDirectory(prefix="glow-studio-")
        asked = Path(said.name, "train.yaml")
        write_text(asked, to_yaml(config))
        self._begin(name, said, ["--config", str(asked), "--out", str(self.runs.folder / name)])
        return name

    def resume(self, name: str) -> None:
        """Go on with a run that was stopped.

        Raises:
            UnknownError: there is no such run.
            InputError: one is under way.
        """
        folder = self.runs.run(name)
        said = tempfile.TemporaryDirectory(prefix="glow-studio-")
        self._begin(name, said, ["--resume", str(folder)])

    def _begin(
        self, name: str, said: "tempfile.TemporaryDirectory[str]", arguments: list[str]
    ) -> None:
        with self._lock:
            if self.child is not None:
                if self.child.alive:
                    said.cleanup()
                    raise InputError(
                        f"{self.child.run} is under way: stop it, or wait until it has ended."
                    )
                self.child.folder.cleanup()
            with Path(said.name, "err").open("wb") as errors:
                process = subprocess.Popen(
                    [*self.command, *arguments, "--json"],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    start_new_session=True,  # else Ctrl-C reaches it beside the studio's signal
                )
            self.child = Child(name, process, said)

    def stop(self) -> None:
        """Let the run finish its step and leave a checkpoint.

        Raises:
            InputError: none is under way here.
        """
        child = self.child
        if child is None or not child.alive:
            raise InputError("No run is under way that was started here.")
        if not child.stopping:  # a second signal would not wait for the checkpoint
            child.stopping = True
            child.process.send_signal(signal.SIGTERM)

    def close(self, patience: float = PATIENCE) -> None:
        """Stop the run, if there is one, and wait for its checkpoint."""
        if self.child is None:
            return
        if self.child.alive:
            with suppress(InputError):
                self.stop()
            remark(f"{self.child.run} finishes its step and leaves a checkpoint.")
        try:
            self.child.process.wait(patience)
        except subprocess.TimeoutExpired:  # its newest checkpoint stays
            self.child.process.kill()
            self.child.process.wait()
        self.child.folder.cleanup()

    def summaries(self, house: House) -> list[dict[str, Any]]:
        """All runs of the folder, the newest first; those that have ended become models."""
        found = []
        for folder in self.runs.folders():
            state = self._state(folder)
            model = self._model(folder, house) if state == "ended" else None
            found.append({**self.runs.summary(folder), "state": state, "model": model})
        return found

    def _model(self, folder: Path, house: House) -> str | None:
        """The name of the model that the run has left, which can be played with."""
        name = folder.name
        if name not in house.offers and self.offer is not None and has_model(folder):
            house.offers[name] = self.offer(str(folder), name)
        return name if name in house.offers else None

    def _state(self, folder: Path) -> str:
        child = self.child
        if child is not None and child.run == folder.name and child.alive:
            return child.state
        return "elsewhere" if has_holder(folder) else "ended"

    def _require_allowed(self, config: TrainConfig) -> None:
        """Paths of this machine are for who sits at it."""
        if self.anywhere:
            return
        data, folders = config.data.data, self.runs.folders()
        of_hub = HUB.fullmatch(data)
        ours = {self.runs.summary(folder).get("data") for folder in folders}
        if (of_hub is None or path_of(of_hub["name"]).exists()) and data not in {*BUILT_IN, *ours}:
            raise InputError(
                "From another machine a run can be started on faces, digits, hub:organisation/name "
                "and the data of the runs that are here."
            )
        if config.started_from is not None and config.started_from not in [
            str(each) for each in folders
        ]:
            raise InputError("From another machine a run can start from the runs that are here.")


def _dated(config: TrainConfig) -> str:
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", path_of(config.data.data).stem).strip("-._")[:40]
    return f"{stem or 'run'}-{datetime.now():%Y%m%d-%H%M%S}"
