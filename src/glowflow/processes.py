"""Several processes: which part is whose, and how they agree.

A launcher (`torchrun`, `accelerate launch`) starts one command several times. Process 0 alone
writes and prints. What follows is called by all processes at the same place; where there is one
process, each function is the plain thing.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor

from .errors import CheckpointError, GlowflowError, InputError, TrainingError

Value = TypeVar("Value")
PATIENCE = timedelta(hours=24)
"""How long a process waits for another one, which may be decoding ImageNet."""
TOLD = "Every process has stopped with this error; process 0 reports it."
KINDS: dict[str, type[GlowflowError]] = {
    kind.__name__: kind for kind in (InputError, CheckpointError, TrainingError)
}


def launched() -> int:
    """How many processes the launcher says that it starts; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def join(device: str | None) -> None:
    """Become one of the processes that a launcher started: nccl on CUDA, gloo on the CPU.

    Raises:
        InputError: `device` has a number, and there are several processes.
    """
    if launched() > 1 and device is not None and ":" in device:
        raise InputError(
            f"device is {device!r} and there are {launched()} processes: leave the number out, "
            "each process takes a device of its own."
        )
    name = device or str(torch.accelerator.current_accelerator(check_available=True) or "cpu")
    PartialState(cpu=name == "cpu", timeout=PATIENCE)


@contextmanager
def joined(device: str | None) -> Iterator[None]:
    """`join`, and leave the others at the end."""
    join(device)
    try:
        with no_survivors():
            yield
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def processes() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def process() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def my_share(items: Any) -> Any:
    """Items k, k + n, k + 2n, … for process k of n: a part of a sequence, an array or a tensor."""
    return items[process() :: processes()]


def gather_in_order(mine: Tensor, count: int) -> Tensor:
    """What `my_share` of (count, …) came to in each process, put together again, on the CPU.

    Args:
        mine: this process's rows.
        count: number of rows of all processes.
    """
    if processes() == 1:
        return mine.cpu()
    padded = mine.new_zeros(-(-count // processes()), *mine.shape[1:])
    padded[: len(mine)] = mine
    shares = [torch.empty_like(padded, device=_device()) for _ in range(processes())]
    dist.all_gather(shares, padded.to(_device()))
    return torch.stack(shares, dim=1).flatten(0, 1)[:count].cpu()


def add_up(mine: Tensor) -> Tensor:
    """The sum over the processes."""
    if processes() == 1:
        return mine
    total = mine.to(_device(), copy=True)
    dist.all_reduce(total)
    return total.to(mine.device)


def mean(mine: float) -> float:
    """The mean over the processes."""
    return float(add_up(torch.tensor(mine, dtype=torch.float64))) / processes()


def largest(*mine: float) -> tuple[float, ...]:
    """The largest of each over the processes."""
    if processes() == 1:
        return mine
    values = torch.tensor(mine, dtype=torch.float64, device=_device())
    dist.all_reduce(values, dist.ReduceOp.MAX)
    return tuple(values.tolist())


def copy_from_first(tensors: Iterable[Tensor]) -> None:
    """Overwrite each tensor with that of process 0."""
    if processes() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, 0)


def first(call: Callable[[], Value]) -> Value:
    """`call()` in process 0 alone; every process returns its result, or raises its error."""
    result = together(call if process() == 0 else lambda: None)
    return broadcast_object_list([result])[0] if processes() > 1 else result  # type: ignore[return-value]


def once_a_machine(call: Callable[[], Value]) -> Value:
    """`call()` in one process of each machine, then in its others, which find what it has made."""
    leads = int(os.environ.get("LOCAL_RANK", "0")) == 0
    if processes() == 1:
        return call()
    made = together(call if leads else lambda: None)
    later = together(call if not leads else lambda: None)
    return made if leads else later  # type: ignore[return-value]


def together(call: Callable[[], Value]) -> Value:
    """`call()` in every process; if it raises in one of them, every process raises that error."""
    if processes() == 1:
        return call()
    result: Any = None
    caught: Exception | None = None
    try:
        result = call()
    except Exception as error:  # whatever it is, the others wait to hear of it
        caught = error
    said = None if caught is None else (type(caught).__name__, str(caught))
    found = [each for each in gather_object([said]) if each is not None]
    if not found:
        return result
    if caught is not None and not isinstance(caught, GlowflowError):
        raise caught
    kind, message = found[0]
    if kind not in KINDS:
        raise TrainingError(f"Another process of this run failed: {kind}: {message}")
    told_to_all = KINDS[kind](message)
    told_to_all.add_note(TOLD)
    raise told_to_all from caught


def told(error: BaseException) -> bool:
    """Whether process 0 raises this error too."""
    return TOLD in getattr(error, "__notes__", ())


@contextmanager
def no_survivors() -> Iterator[None]:
    """Turn a lost connection into a sentence.

    Raises:
        TrainingError: another process has ended.
    """
    try:
        yield
    except RuntimeError as error:
        if processes() > 1 and (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise TrainingError(
                "Training stopped: another process of this run has ended, and its own message "
                "says why; start all of them again with --resume."
            ) from error
        raise


def _device() -> torch.device:
    return PartialState().device
