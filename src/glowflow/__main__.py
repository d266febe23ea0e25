"""`python -m glowflow` is `glow`."""

from .cli import run_process

run_process()
