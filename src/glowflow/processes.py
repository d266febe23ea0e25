"""Several processes: which part is whose, and how they agree.

A launcher (`torchrun`, `accelerate launch`) starts one command several times. Process 0, the main
one, alone writes and prints. What follows is called by all processes at the same place; where
there is one process, each function is the plain thing.
"""

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
from .launcher import launched_processes, process_on_machine, require_whole_launch

Value = TypeVar("Value")
TIMEOUT = timedelta(hours=24)
"""How long a process waits for another one, which may be decoding ImageNet."""
RAISED_BY_ALL = "Every process has stopped with this error; process 0 reports it."
SHARED_ERRORS: dict[str, type[GlowflowError]] = {
    kind.__name__: kind for kind in (InputError, CheckpointError, TrainingError)
}


def join_process_group(device: str | None) -> None:
    """Become one of the processes that a launcher started: nccl on CUDA, gloo on the CPU.

    Raises:
        InputError: `device` has a number, and there are several processes; or what a launcher
            sets is there in part.
    """
    count = launched_processes()
    if count > 1 and device is not None and ":" in device:
        raise InputError(
            f"device is {device!r} and there are {count} processes: leave the number out, "
            "each process takes a device of its own."
        )
    require_whole_launch()
    name = device or str(torch.accelerator.current_accelerator(check_available=True) or "cpu")
    PartialState(cpu=name == "cpu", timeout=TIMEOUT)


@contextmanager
def process_group(device: str | None) -> Iterator[None]:
    """`join_process_group`, and leave it at the end."""
    join_process_group(device)
    try:
        with explain_lost_process():
            yield
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def process_count() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def process_index() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def shard(items: Any) -> Any:
    """Items k, k + n, k + 2n, … for process k of n: a part of a sequence, an array or a tensor."""
    return items[process_index() :: process_count()]


def gather_in_order(mine: Tensor, count: int) -> Tensor:
    """What `shard` of (count, …) came to in each process, put together again, on the CPU.

    Args:
        mine: this process's rows.
        count: number of rows of all processes.
    """
    if process_count() == 1:
        return mine.cpu()
    padded = mine.new_zeros(-(-count // process_count()), *mine.shape[1:])
    padded[: len(mine)] = mine
    shares = [torch.empty_like(padded, device=_device()) for _ in range(process_count())]
    dist.all_gather(shares, padded.to(_device()))
    return torch.stack(shares, dim=1).flatten(0, 1)[:count].cpu()


def sum_over_processes(mine: Tensor) -> Tensor:
    """The sum over the processes."""
    if process_count() == 1:
        return mine
    total = mine.to(_device(), copy=True)
    dist.all_reduce(total)
    return total.to(mine.device)


def mean_over_processes(mine: float) -> float:
    """The mean over the processes."""
    return float(sum_over_processes(torch.tensor(mine, dtype=torch.float64))) / process_count()


def max_over_processes(*mine: float) -> tuple[float, ...]:
    """The largest of each over the processes."""
    if process_count() == 1:
        return mine
    values = torch.tensor(mine, dtype=torch.float64, device=_device())
    dist.all_reduce(values, dist.ReduceOp.MAX)
    return tuple(values.tolist())


def broadcast(tensors: Iterable[Tensor]) -> None:
    """Overwrite each tensor with that of process 0."""
    if process_count() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, 0)


def on_main_process(call: Callable[[], Value]) -> Value:
    """`call()` in process 0 alone; every process returns its result, or raises its error."""
    result = on_every_process(call if process_index() == 0 else lambda: None)
    return broadcast_object_list([result])[0] if process_count() > 1 else result  # type: ignore[return-value]


def local_main_process_first(call: Callable[[], Value]) -> Value:
    """`call()` in one process of each machine, then in its others, which find what it has made."""
    leads = process_on_machine() == 0
    if process_count() == 1:
        return call()
    made = on_every_process(call if leads else lambda: None)
    others = on_every_process(call if not leads else lambda: None)
    return made if leads else others  # type: ignore[return-value]


def on_every_process(call: Callable[[], Value]) -> Value:
    """`call()` in every process; if it raises in one of them, every process raises that error."""
    if process_count() == 1:
        return call()
    result: Any = None
    caught: Exception | None = None
    try:
        result = call()
    except Exception as error:  # whatever it is, the others wait to hear of it
        caught = error
    said = None if caught is None else (type(caught).__name__, str(caught))
    failures = [each for each in gather_object([said]) if each is not None]
    if not failures:
        return result
    if caught is not None and not isinstance(caught, GlowflowError):
        raise caught
    kind, message = failures[0]
    if kind not in SHARED_ERRORS:
        raise TrainingError(f"Another process of this run failed: {kind}: {message}")
    shared = SHARED_ERRORS[kind](message)
    shared.add_note(RAISED_BY_ALL)
    raise shared from caught


def raised_on_every_process(error: BaseException) -> bool:
    """Whether `error` is one that all processes raise, so that process 0 reports it."""
    return RAISED_BY_ALL in getattr(error, "__notes__", ())


@contextmanager
def explain_lost_process() -> Iterator[None]:
    """Turn a lost connection into a sentence.

    Raises:
        TrainingError: another process has ended.
    """
    try:
        yield
    except RuntimeError as error:
        if process_count() > 1 and (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise TrainingError(
                "Training stopped: another process of this run has ended, and its own message "
                "says why; start all of them again with --resume."
            ) from error
        raise


def _device() -> torch.device:
    return PartialState().device
