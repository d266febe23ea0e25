"""Numbers as they are typed: one, or START:STOP:STEP."""

import math

from ..errors import InputError

MOST = 1000


def numbers(text: str, flag: str) -> list[float]:
    """0.7 → [0.7]; -1:1:0.5 → [-1, -0.5, 0, 0.5, 1]; both ends are in it.

    Raises:
        InputError: the text is something else, or more than 1000 numbers.
    """
    try:
        values = [float(part) for part in text.split(":")]
    except ValueError:
        values = []
    if not all(map(math.isfinite, values)) or len(values) not in (1, 3):
        raise InputError(f"{flag} is {text!r}: give a number, or START:STOP:STEP as in -1:1:0.25.")
    if len(values) == 1:
        return values
    start, stop, step = values
    if step == 0 or (stop - start) / step < 0 or (stop - start) / step >= MOST:
        raise InputError(
            f"{flag} is {text!r}: the step must lead from {start:g} to {stop:g} in fewer than "
            f"{MOST} steps."
        )
    # Rounding takes the dust of the steps away, so that 0 is 0.
    return [round(start + i * step, 9) for i in range(int((stop - start) / step + 1e-6) + 1)]
