"""Commands that a launcher may start several times."""

from collections.abc import Callable

from ..errors import GlowflowError
from ..processes import joined, process, told
from .options import Outcome


def by_all(device: str, run: Callable[[], Outcome]) -> Outcome:
    """`run()` in every process; all but process 0 end here, with its exit code."""
    with joined(device):
        try:
            outcome = run()
        except GlowflowError as error:
            if process() and told(error):
                raise SystemExit(2) from error
            raise
        if process():
            raise SystemExit(outcome.code)
        return outcome
