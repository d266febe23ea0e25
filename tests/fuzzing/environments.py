"""Odd consoles, homes, disks and launchers: each runs a command in a process of its own."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

SECONDS = 120


@dataclass(frozen=True)
class Environment:
    """What is odd round a command."""

    variables: dict[str, str | None] = field(default_factory=dict)
    """Set, or with None taken away."""
    prepare: Callable[[], None] | None = None
    """Called in the new process."""
    stdout: str | None = None
    """A file that takes what is printed."""
    out: str | None = None
    """The value of `--out`."""
    codes: tuple[int, ...] = (0,)
    """Exit codes that are right."""


def _small_files() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))


def _deleted_folder() -> None:
    Path("gone").mkdir()
    os.chdir("gone")
    Path("../gone").rmdir()


NOWHERE = "/proc/nowhere"
"""Where nobody can write, not even root."""
ENVIRONMENTS = {
    "ascii": Environment({"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}),
    "cp1252": Environment({"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}),
    "no locale": Environment({"LC_ALL": "C", "LANG": "C", "PYTHONCOERCECLOCALE": "0"}),
    "no home": Environment({"HOME": None, "XDG_CACHE_HOME": None}, codes=(0, 2)),
    "a home that is not writable": Environment({"HOME": NOWHERE, "MPLCONFIGDIR": None}),
    "a cache that is not writable": Environment({"GLOWFLOW_CACHE": NOWHERE}, codes=(0, 2)),
    "no folder for temporary files": Environment({"TMPDIR": NOWHERE}),
    "a full output": Environment(stdout="/dev/full", codes=(1,)),
    "a full disk": Environment(prepare=_small_files, codes=(2,)),
    "a folder that is not writable": Environment(out=NOWHERE, codes=(2,)),
    "a device": Environment(out="/dev/full", codes=(2,)),
    "a folder that was deleted": Environment(prepare=_deleted_folder, codes=(0, 2)),
    "a narrow dumb console": Environment({"COLUMNS": "1", "TERM": "dumb"}),
    "no width": Environment({"COLUMNS": "0", "LINES": "-3"}),
    "an unknown backend": Environment({"MPLBACKEND": "no-such-backend"}),
    "no threads": Environment({"OMP_NUM_THREADS": "none"}),
    "half a launcher": Environment({"WORLD_SIZE": "2", "RANK": "0"}, codes=(0, 2)),
    "Turkish letters": Environment({"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8"}),
    "no colours": Environment({"NO_COLOR": "1", "FORCE_COLOR": "1"}),
    "closed output": Environment(prepare=lambda: os.close(1), codes=(0, 1)),
    "closed input": Environment(prepare=lambda: os.close(0)),
}


def run_in(environment: Environment, arguments: list[str], here: Path) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `glow` in an odd environment."""
    variables = dict(os.environ)
    variables.setdefault("HF_HUB_OFFLINE", "1")
    for name, value in environment.variables.items():
        variables.pop(name, None)
        if value is not None:
            variables[name] = value
    if environment.out is not None:
        arguments = [*arguments[: arguments.index("--out") + 1], environment.out]
    with ExitStack() as stack:
        stdout: int | IO[str] = subprocess.PIPE
        if environment.stdout is not None:
            stdout = stack.enter_context(Path(environment.stdout).open("w"))
        done = subprocess.run(
            [sys.executable, "-m", "glowflow", *arguments],
            cwd=here,
            env=variables,
            preexec_fn=environment.prepare,
            stdout=stdout,
            stderr=subprocess.PIPE,
            timeout=SECONDS,
            check=False,
        )
    shown, said = ((part or b"").decode("utf-8", "replace") for part in (done.stdout, done.stderr))
    return done.returncode, shown, said


def faults_of(name: str, world: Path, here: Path) -> tuple[str, ...]:
    """What must not be when a photograph whose name is not ASCII goes there and back."""
    photo = world / "photos" / "a" / "é日本.png"
    if not photo.exists():
        photo.write_bytes((world / "photos" / "a" / "00.png").read_bytes())
    environment = ENVIRONMENTS[name]
    arguments = ["reconstruct", str(photo), "--model", str(world / "run"), "--out", "back"]
    code, shown, said = run_in(environment, arguments, here)
    signs = {
        f"exit code {code}: {said[-300:]}": code not in environment.codes,
        "a traceback": "Traceback" in said + shown,
        "refused without a word": code == 2 and not said.strip(),
        "refused, and left files": code == 2 and any(here.iterdir()),
    }
    return tuple(sign for sign, there in signs.items() if there)
