"""Python in a process of its own, without the seconds that it takes to load PyTorch.

Each is forked from a server that has loaded what most of them load, and has done nothing else.
"""

import atexit
import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
from pathlib import Path

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "glowflow.cli.directions",
        "glowflow.cli.evaluate",
        "glowflow.cli.train",
        "matplotlib.pyplot",
        "torch._dynamo",  # which an optimiser loads
        "torch.distributed",
    ]
)


class Child:
    """`python` with these arguments: `-c` and a program, or `-m` and a module, and theirs."""

    def __init__(self, arguments, *, env=os.environ, cwd="."):
        self._folder = tempfile.TemporaryDirectory()
        self._said = [Path(self._folder.name) / name for name in ("out", "err")]
        given = [*map(str, arguments)], dict(env), str(Path(cwd).resolve()), self._said
        self._process = SERVER.Process(target=_run, args=given)
        self._process.start()

    def send(self, signal_number):
        """A signal to it, which it takes as one that was started by a shell."""
        os.kill(self._process.pid, signal_number)

    @property
    def alive(self):
        """Whether it has not ended."""
        return self._process.is_alive()

    def answer(self, timeout=900):
        """Its exit code (of a signal: below 0), and what it wrote to stdout and to stderr."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        out, err = (path.read_text(encoding="utf-8") for path in self._said)
        self._folder.cleanup()
        return self._process.exitcode, out, err


def _run(arguments, env, cwd, said):
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, path in enumerate(said, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    kind, what, *sys.argv[1:] = arguments
    try:
        if kind == "-m":
            runpy.run_module(what, run_name="__main__", alter_sys=True)
        else:
            exec(compile(what, "child", "exec"), {"__name__": "__main__"})
    finally:
        atexit._run_exitfuncs()
