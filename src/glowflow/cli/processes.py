"""Commands that a launcher may start several times."""

from collections.abc import Callable

from ..errors import GlowflowError
from ..processes import process_group, process_index, raised_on_every_process
from .options import Outcome


def by_all(device: str, run: Callable[[], Outcome]) -> Outcome:
    """`run()` in every process; all but process 0 end here, with its exit code."""
    with process_group(device):
        try:
            outcome = run()
        except GlowflowError as error:
            if process_index() and raised_on_every_process(error):
                raise SystemExit(2) from error
            raise
        if process_index():
            raise SystemExit(outcome.code)
        return outcome
