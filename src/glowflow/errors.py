"""The errors a user can meet. Each message is one sentence: what was wrong, where, what to do."""

import re

OBJECT = re.compile(r"<\S+ object at 0x[0-9a-fA-F]+>")
"""As Python shows what has no words of its own: an address, another one in each process."""


def in_one_line(error: BaseException) -> str:
    """What another library's error says, in one line; its type, where it says nothing."""
    said = OBJECT.sub("it", str(error))
    return " ".join(said.split()) or type(error).__name__


class GlowflowError(Exception):
    """Base of every error raised on purpose; the command line prints it and exits with 2."""


class InputError(GlowflowError):
    """An argument, a configuration, a file or an array that cannot be used."""


class CheckpointError(GlowflowError):
    """Saved weights that are missing, damaged, or belong to another architecture."""


class NotFiniteWarning(UserWarning):
    """Samples or edits are not finite, or far outside of the range of images."""


class TrainingError(GlowflowError):
    """Training cannot go on, for example because a value became NaN or infinite."""
