"""`glow plan`: what a training run needs, before it starts."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from ..errors import InputError
from . import train
from .options import Outcome, check_device, taken
from .results import new_folder, write_json

if TYPE_CHECKING:
    from ..planning.plan import ModePlan, Plan

DATA_FIRST = True


@dataclass(frozen=True, kw_only=True)
class Options(train.ConfigOptions):
    device: str | None = None
    """What to plan for: a100, h100, rtx4090, … by their published figures, or cpu, cuda, … that
    are here, which are timed; by default an accelerator if there is one."""
    devices: int = 1
    """How many of them share each batch."""
    classes: int = 0
    """Classes of the data of a conditional run; those of the presets are known."""


def default(arguments: Sequence[str]) -> Options:
    """The options before the flags, as `glow train` on so many devices has them."""
    given = taken(list(arguments), "--devices") or ""
    return Options(train=train.default(arguments, int(given) if given.isdigit() else 1).train)


def run(options: Options) -> Outcome:
    """Plan, print the table, and write plan.json if `--out` is given."""
    from ..planning.plan import make_plan, make_target, planned_config, share_of

    config = planned_config(options.train, options.preset, options.classes)
    share = share_of(options.train, options.devices)
    name = _device(options.device)
    if options.out is not None:
        folder = new_folder(options.out, "plan")
    target = make_target(name, config, options.train, share, progress=not options.json)
    plan = make_plan(options.train, config, target, options.devices)
    facts = _facts(plan)
    if options.out is not None:
        write_json(folder / "plan.json", facts)
    if not options.json:
        console = Console(stderr=True)
        console.print(_table(plan))
        for line in _assumptions(plan):
            console.print(line, markup=False, highlight=False)
    title = options.preset or "This run"
    return Outcome(_sentence(title, plan, options.train.memory), facts)


def _device(name: str | None) -> str:
    from ..planning.devices import ACCELERATORS

    if name in ACCELERATORS:
        return str(name)
    try:
        return check_device(name)
    except InputError as error:
        raise InputError(
            f"There is no device {name!r} here, and no figures of it: leave --device out, or "
            f"choose one of {', '.join(ACCELERATORS)}."
        ) from error


def _facts(plan: "Plan") -> dict[str, Any]:
    return {
        "model": asdict(plan.config),
        "device": plan.target.name,
        "devices": plan.devices,
        "usable_memory": plan.target.memory,
        "precision": plan.target.precision,
        "flops_per_second": list(plan.target.speed.levels),
        "parameters": plan.parameters,
        "forward_flops": plan.flops,
        "batch": plan.batch,
        "images": plan.images,
        "modes": {
            mode.memory: {
                **{k: v for k, v in asdict(mode).items() if k != "memory"},
                "fits": mode.fits,
                "peak": mode.needs.peak,
            }
            for mode in plan.modes
        },
    }


ROWS: tuple[tuple[str, Callable[["ModePlan"], str]], ...] = (
    ("fits", lambda mode: "yes" if mode.fits else "no"),
    ("largest batch of a device", lambda mode: f"{mode.largest_batch:,}"),
    ("{name} of a device at once", lambda mode: f"{mode.at_once:,}"),
    ("--accumulate that fits", lambda mode: f"{mode.accumulation:,}"),
    ("memory: weights", lambda mode: _bytes(mode.needs.weights)),
    ("gradients", lambda mode: _bytes(mode.needs.gradients)),
    ("optimiser", lambda mode: _bytes(mode.needs.optimizer)),
    ("average", lambda mode: _bytes(mode.needs.average)),
    ("activations", lambda mode: _bytes(mode.needs.activations)),
    ("backward pass, above them", lambda mode: _bytes(mode.needs.temporary)),
    ("peak of the run", lambda mode: _bytes(mode.needs.peak)),
    ("training of one {one}", lambda mode: f"{_flops(mode.flops)}FLOPs"),
    ("seconds a step", lambda mode: f"{mode.seconds:.3g}"),
    ("{name}/s", lambda mode: f"{mode.images_per_second:,.4g}"),
    ("days", lambda mode: f"{mode.days:.3g}"),
)


def _table(plan: "Plan") -> Table:
    things = _name(plan)
    one = things.removesuffix("s")
    channels, *grid = plan.config.image_shape
    title = (
        f"{'x'.join(map(str, (*grid, channels)))}, {_depth(plan)}, "
        f"{plan.parameters:,} parameters, {_flops(plan.flops)}FLOPs forward of one {one}; "
        f"batches of {plan.batch:,} on {_devices(plan)}"
    )
    table = Table("", *(mode.memory for mode in plan.modes), title=title, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, cell in ROWS:
        words = name.format(name=things, one=one)
        table.add_row(words, *(cell(mode) for mode in plan.modes))
    return table


def _depth(plan: "Plan") -> str:
    from ..models.config import GlowConfig

    config = plan.config
    if isinstance(config, GlowConfig):
        return f"{config.levels} levels of {config.steps} steps"
    return f"{config.scales} scales with networks of {config.residual_blocks} blocks"


def _assumptions(plan: "Plan") -> list[str]:
    from ..planning.devices import ACCELERATORS, USABLE, UTILISATION

    if plan.target.name in ACCELERATORS:
        speed = f"{UTILISATION:.0%} of the published peak in {plan.target.precision}, not measured"
    else:
        glow = plan.config.family == "glow"
        speed = f"{'one step of flow at each level' if glow else 'each scale'}, timed here"
    return [
        f"Speed: {speed}. Memory: {USABLE:.0%} of the device's, {_bytes(plan.target.memory)}.",
        f"Days: to {plan.images:,} {_name(plan)}, the run's --images; the paper does not give its "
        "number.",
    ]


def _sentence(title: str, plan: "Plan", wanted: str) -> str:
    """The wanted memory mode if it fits, else the other one."""
    modes = sorted(plan.modes, key=lambda mode: (not mode.fits, mode.memory != wanted))
    mode, name = modes[0], _name(plan)
    if not mode.fits:
        return (
            f"{title} does not fit {_devices(plan)}: one {name.removesuffix('s')} at a time takes "
            f"{_bytes(min(m.needs.peak for m in plan.modes))} of {_bytes(plan.target.memory)}."
        )
    return (
        f"{title} on {_devices(plan)}, --memory {mode.memory} --accumulate {mode.accumulation}: "
        f"{_bytes(mode.needs.peak)} of {_bytes(plan.target.memory)}, {mode.seconds:.3g} s a step "
        f"of {plan.batch} {name}, {mode.images_per_second:,.4g} {name}/s, "
        f"{mode.days:.3g} days to {plan.images:,} {name}."
    )


def _name(plan: "Plan") -> str:
    from ..models.likelihood import name_of_data

    return name_of_data(plan.config.bits)


def _devices(plan: "Plan") -> str:
    return plan.target.name if plan.devices == 1 else f"{plan.devices} {plan.target.name}"


def _bytes(count: int) -> str:
    """MiB below a GiB, else GiB."""
    return f"{count / 2**20:,.1f} MiB" if count < 2**30 else f"{count / 2**30:,.2f} GiB"


def _flops(count: int) -> str:
    """In units of 10⁹."""
    return f"{count / 1e9:,.4g} G"
