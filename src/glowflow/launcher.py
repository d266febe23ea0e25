"""What `torchrun` and `accelerate launch` tell each process that they start."""

import os


def launched_processes() -> int:
    """How many processes the launcher says that it starts; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def process_number() -> int:
    """The number of this process among all of them, from 0."""
    return int(os.environ.get("RANK", "0"))


def process_on_machine() -> int:
    """The number of this process among those of its machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0"))
