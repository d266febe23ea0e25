"""`glow data`: decode a data set once, say what is in it, and check that it is whole."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from ..data.config import DataConfig
from ..data.types import Splits
from .options import CommonOptions, Outcome, check_device
from .results import new_folder, write_json


@dataclass(frozen=True, kw_only=True)
class Options(CommonOptions):
    action: Annotated[Literal["prepare", "info", "verify"], tyro.conf.Positional]
    """prepare: decode into the cached array; info: say what is in it; verify: check the array
    against its checksum, and the number of images against the published one."""
    source: Annotated[str | None, tyro.conf.Positional] = None
    """What to read; the same as --data."""
    config: DataConfig = field(default_factory=DataConfig)
    seed: int = 0
    """Nothing here is random; it is taken for the sake of scripts."""


def run(options: Options) -> Outcome:
    """Read the data, from the cache if they are there; `info` and `verify` prepare them, too."""
    from ..data.open import open_splits

    if options.device is not None:
        check_device(options.device)
    config = options.config
    if options.source is not None:
        config = replace(config, data=options.source)
    splits = open_splits(config, progress=not options.json)
    facts = describe(splits)
    code = 0
    sentence = splits.source + (f" ({splits.completeness})" if splits.completeness else "")
    if options.action == "prepare":
        sentence += f", ready in {splits.folder}."
    elif options.action == "info":
        sizes = ", ".join(f"{size:,} {part}" for part, size in facts["splits"].items())
        sentence += f": {sizes}."
        if not options.json:
            Console(stderr=True).print(_table(facts))
    else:
        facts["problems"] = problems_of(splits)
        code = 1 if facts["problems"] else 0
        sentence += f": {'; '.join(facts['problems']) or 'the array is as it was prepared'}."
    if options.out is not None:
        write_json(new_folder(options.out, "data") / "data.json", facts)
    return Outcome(sentence, facts, code)


def describe(splits: Splits) -> dict[str, Any]:
    """What is known of the data, as plain values."""
    parts = {"train": splits.train, "valid": splits.valid, "test": splits.test}
    some = splits.train
    attributes = [part.attributes.sum(0) for part in parts.values() if part.attributes is not None]
    positive = sum(attributes, np.zeros(len(some.attribute_names), dtype=np.int64)).tolist()
    return {
        "source": splits.source,
        "dataset": splits.dataset,
        "splits": {name: len(part) for name, part in parts.items()},
        "shape": list(some.image_shape),
        "dtype": str(some.images.dtype),
        "classes": list(some.class_names),
        "attributes": dict(zip(some.attribute_names, positive, strict=True)),
        "completeness": splits.completeness,
        "counts": [count._asdict() for count in splits.counts],
        "skipped": list(splits.skipped),
        "checksum": splits.checksum,
        "folder": str(splits.folder),
    }


def problems_of(splits: Splits) -> list[str]:
    """In what the array differs from what was prepared, and the data set from the published one."""
    from ..data.store import file_checksum

    problems = []
    if splits.folder is not None and file_checksum(splits.folder / "images.npy") != splits.checksum:
        problems.append(
            f"the array in {splits.folder} has changed since it was prepared: remove the folder"
        )
    if splits.completeness.startswith("incomplete"):
        problems.append("the data set is not complete: get the published files")
    if splits.skipped:
        problems.append(f"{len(splits.skipped)} images cannot be read, as {splits.skipped[0]}")
    return problems


def _table(facts: dict[str, Any]) -> Table:
    table = Table("what", "value", show_header=False)
    for name in ("source", "dataset", "completeness"):
        if facts[name]:
            table.add_row(name, facts[name])
    for part, size in facts["splits"].items():
        table.add_row(part, f"{size:,}")
    table.add_row("shape", f"{' x '.join(map(str, facts['shape']))} {facts['dtype']}")
    if facts["classes"]:
        shown = ", ".join(facts["classes"][:20]) + (", …" if len(facts["classes"]) > 20 else "")
        table.add_row("classes", f"{len(facts['classes'])}: {shown}")
    for attribute, count in facts["attributes"].items():
        table.add_row(attribute, f"{count:,} images")
    if facts["skipped"]:
        table.add_row("skipped", f"{len(facts['skipped'])}, the first: {facts['skipped'][0]}")
    table.add_row("SHA-256", facts["checksum"])
    table.add_row("folder", facts["folder"])
    return table
