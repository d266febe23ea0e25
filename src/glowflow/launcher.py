"""What `torchrun` and `accelerate launch` tell each process that they start."""

import os

from .errors import InputError


def require_whole_launch() -> None:
    """Refuse what is left of a launcher: some of its variables without the others.

    Raises:
        InputError: they are not whole.
    """
    given = [name for name in ("WORLD_SIZE", "LOCAL_RANK") if os.environ.get(name)]
    started = "LOCAL_RANK" in given or launched_processes() > 1
    wanted = ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE")
    missing = [name for name in wanted if not os.environ.get(name)]
    odd = [name for name in given if not os.environ[name].isdigit()]
    if odd or (started and missing):
        wrong = f"{odd[0]} is {os.environ[odd[0]]!r}" if odd else f"{missing[0]} is not set"
        raise InputError(
            f"{' and '.join(given)} {'are' if len(given) > 1 else 'is'} set, as a launcher sets "
            f"them, and {wrong}: start with torchrun or accelerate launch, or unset them for one "
            "process."
        )


def launched_processes() -> int:
    """How many processes the launcher says that it starts; 1 without one."""
    return _number("WORLD_SIZE", 1)


def process_number() -> int:
    """The number of this process among all of them, from 0."""
    return _number("RANK", 0)


def process_on_machine() -> int:
    """The number of this process among those of its machine, from 0."""
    return _number("LOCAL_RANK", 0)


def _number(name: str, default: int) -> int:
    """What a launcher has set; what is no number is not a launcher's."""
    text = os.environ.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else default
