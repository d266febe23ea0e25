"""What `torchrun` and `accelerate launch` tell each process that they start."""

import os


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
