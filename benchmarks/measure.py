"""Time of a call, rounds in which every contender has its turn, peak memory of a fresh process."""

import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import torch

from .contenders import Contender, Flow, Setting, build
from .results import Timing

ROOT = Path(__file__).parents[1]
MEASURES = ("train", "train+optimizer", "forward", "sample", "sample one", "encode one")
"""In the order of a round; the last two are of one image, the others of a batch."""
ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "16384",
    "MALLOC_TRIM_THRESHOLD_": "131072",
    "MALLOC_TOP_PAD_": "0",
}
"""glibc gives what is freed back at once, so that the resident set is what is in use.

That holds for blocks of 16 KiB and more. At 128 KiB, glibc's own limit, the heap keeps 2 to 4 MiB
of the reversible mode's 36 free between objects that stay.
"""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""glibc's numbers of the two."""

Note = Callable[[str], None]


class MeasurementError(Exception):
    """A measurement in a process of its own that did not end well."""


def make_optimizer(contender: Contender) -> torch.optim.Optimizer:
    """Adamax that does all its work and leaves the weights as they are."""
    return torch.optim.Adamax(contender.parameters, lr=0.0)


def drop_gradients(contender: Contender) -> None:
    """Free the gradients; the next backward pass allocates them."""
    for parameter in contender.parameters:
        parameter.grad = None


def calls(contender: Contender, setting: Setting) -> dict[str, Callable[[], None]]:
    """What this contender can be measured in; the bare nets neither sample nor have an optimiser.

    Gradients are None before a training step of any contender.
    """
    found: dict[str, Callable[[], None]] = {"train": contender.train, "forward": contender.forward}
    if isinstance(contender, Flow):
        flow, optimizer = contender, make_optimizer(contender)

        def train_and_step() -> None:
            flow.train()
            optimizer.step()

        found["train+optimizer"] = train_and_step
        found["sample"] = lambda: flow.sample(setting.batch)
        found["sample one"] = lambda: flow.sample(1)
        found["encode one"] = flow.encode_one
    return found


def timed(call: Callable[[], None], device: torch.device) -> float:
    """Seconds of one call: the clock on a processor, events on a GPU."""
    if device.type == "cuda":
        start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        torch.cuda.synchronize(device)
        start.record()
        call()
        end.record()
        torch.cuda.synchronize(device)
        return start.elapsed_time(end) / 1000
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def time_rounds(
    contenders: Mapping[str, Contender],
    setting: Setting,
    steps: int,
    repeats: int,
    device: torch.device,
    note: Note,
) -> tuple[list[Timing], list[str]]:
    """Every measure of every contender, once a round, in `repeats` rounds after a warm-up.

    Within a round each measure goes round the contenders; who is first changes with the round.
    A contender that fails in the warm-up, for want of memory or of a compiler, is left out.

    Returns:
        the times, and a line for each contender that was left out.
    """
    able = {name: calls(contender, setting) for name, contender in contenders.items()}
    seconds: dict[tuple[str, str], list[float]] = {}
    failed: list[str] = []
    for turn in range(repeats + 1):
        for measure in MEASURES:
            names = [name for name in able if measure in able[name]]
            first = turn % len(names) if names else 0
            for name in names[first:] + names[:first]:
                contender = contenders[name]
                try:
                    contender.prepare(training=measure.startswith("train"))
                    taken = timed(able[name][measure], device)
                except RuntimeError as error:
                    if turn > 0:
                        raise
                    failed.append(f"{name} at K={steps}: {one_line(error)}")
                    note(failed[-1])
                    del able[name]
                    continue
                finally:
                    drop_gradients(contender)
                seconds.setdefault((name, measure), []).append(taken)
                which = f"round {turn}/{repeats}" if turn else "warm-up"
                note(f"K={steps} {which}: {measure}, {name}: {taken:.4g} s")
    timings = [
        Timing(name, steps, measure, tuple(taken[1:]), taken[0])
        for (name, measure), taken in seconds.items()
        if name in able
    ]
    return timings, failed


def one_line(error: BaseException | str) -> str:
    """The first line of a message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def peak_memory(name: str, setting: Setting, steps: int, device: torch.device) -> int | None:
    """Bytes that two training steps need beyond parameters, gradients and optimiser state.

    To be called once, in a process of its own. On a processor it is the peak of the resident set
    minus the resident set before; on a GPU the peak of what PyTorch has allocated. Parameters and
    gradients are there before; an optimiser's state would be too, and so is left away.

    Returns:
        None where the system does not say.
    """
    tiny = Setting(size=2 ** (setting.levels + 1), levels=setting.levels, hidden=8, batch=2)
    build(name, tiny, 1, device).train()  # libraries allocate once what they keep
    contender = build(name, setting, steps, device)
    contender.prepare(training=True)
    if contender.compiled:
        contender.train()
    for parameter in contender.parameters:
        parameter.grad = torch.zeros_like(parameter)

    def train_twice() -> None:
        for _ in range(2):
            torch._foreach_zero_([p.grad for p in contender.parameters if p.grad is not None])
            contender.train()

    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        train_twice()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    _give_back()
    resident = _start_peak()
    train_twice()
    peak = peak_resident()
    return None if resident is None or peak is None else max(0, peak - resident)


def peak_memory_in_a_process(
    name: str, setting: Setting, steps: int, device: torch.device
) -> int | None:
    """`peak_memory` of a fresh process.

    Raises:
        MeasurementError: the process failed or was killed.
    """
    order = {"name": name, "steps": steps, "device": str(device), **asdict(setting)}
    threads = ("--threads", str(torch.get_num_threads()))
    child = subprocess.run(
        [sys.executable, "-m", "benchmarks", *threads, "--memory-of", json.dumps(order)],
        cwd=ROOT,
        env={**os.environ, **ALLOCATOR},
        capture_output=True,
        text=True,
    )
    if child.returncode != 0:
        lines = child.stderr.strip().splitlines()
        reason = lines[-1] if lines else f"exit code {child.returncode}"
        raise MeasurementError(f"peak memory of {name} at K={steps}: {reason}")
    answer = json.loads(child.stdout.strip().splitlines()[-1])
    return None if answer is None else int(answer)


def answer_memory(order: str) -> str:
    """What the process of `peak_memory_in_a_process` prints."""
    fields = json.loads(order)
    name, steps, device = fields.pop("name"), fields.pop("steps"), fields.pop("device")
    return json.dumps(peak_memory(name, Setting(**fields), steps, torch.device(device)))


def keep_freed_memory() -> None:
    """Let the C library keep what is freed, where it can: what is timed is not page faults."""
    with suppress(OSError, AttributeError, TypeError):
        library = ctypes.CDLL(None)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        library.mallopt(M_MMAP_THRESHOLD, 2**25)


def _give_back() -> None:
    """Let the C library return free memory to the system, where it can."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _start_peak() -> int | None:
    """Set the peak of the resident set back to its present size, which is returned in bytes."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status("VmRSS") or _largest_so_far()


def peak_resident() -> int | None:
    """Largest resident set of the process since it began, or since `_start_peak`, in bytes."""
    return _status("VmHWM") or _largest_so_far()


def _status(field: str) -> int | None:
    """Bytes of a field of /proc/self/status; None where there is no such file."""
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return None
    lines = [line for line in text.splitlines() if line.startswith(field + ":")]
    return int(lines[0].split()[1]) * 1024 if lines else None


def _largest_so_far() -> int | None:
    """Peak of the resident set since the process began, in bytes."""
    try:
        import resource
    except ImportError:
        return None
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024
