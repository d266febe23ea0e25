"""`glow data`: decode a data set once, say what is in it, and check that it is whole."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..data.config import DataConfig
from ..errors import InputError
from .options import CommonOptions, Outcome, check_device
from .results import new_folder, write_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..data.description import Description
    from ..data.types import Images, Splits

ROW = 12
"""Images of a row of the contact sheet."""
CLASSES = 20
"""Classes that are shown."""
SHEET = "sheet.png"
RULES = {
    "published": "the source's own",
    "hash": "by the name of each image",
    "shuffle": "a random choice by number",
}


@dataclass(frozen=True, kw_only=True)
class Options(CommonOptions):
    action: Annotated[Literal["prepare", "info", "verify"], tyro.conf.Positional]
    """prepare: decode into the cached array; info: say what is in it; verify: check the array
    against its checksum, and the number of images against the published one."""
    source: Annotated[str | None, tyro.conf.Positional] = None
    """What to read; the same as --data."""
    config: DataConfig = field(default_factory=DataConfig)
    sheet: tuple[Path, ...] | None = None
    """Also draw a contact sheet of what a model would see: into this PNG file, or, without a name,
    sheet.png in `--out`."""
    seed: int = 0
    """Nothing here is random; it is taken for the sake of scripts."""


def run(options: Options) -> Outcome:
    """Read the data, from the cache if they are there; `info` and `verify` prepare them, too."""
    from ..data.description import Description

    if options.device is not None:
        check_device(options.device)
    config = options.config
    if options.source is not None:
        config = replace(config, data=options.source)
    sheet = _sheet_path(options)
    data, why_not = _open(config, options)
    description = Description.of(data, why_not)
    facts = {**description.to_dict(), "folder": str(getattr(data, "folder", ""))}
    code = 0
    complete = facts["completeness"]
    sentence = facts["source"] + (f" ({complete})" if complete else "")
    if options.action == "prepare":
        sentence += f", ready in {facts['folder']}."
    elif options.action == "info":
        sizes = ", ".join(f"{size:,} {part}" for part, size in facts["splits"].items())
        sentence += f": {sizes}."
        if not options.json:
            Console(stderr=True).print(_table(facts))
    else:
        facts["problems"] = problems_of(data, facts)
        code = 1 if facts["problems"] else 0
        sentence += f": {'; '.join(facts['problems']) or 'the array is as it was prepared'}."
    folder = None
    unnamed = options.sheet == ()
    if options.out is not None or unnamed:
        folder = new_folder(options.out, "data")
        sheet = folder / SHEET if unnamed else sheet
    if sheet is not None:
        _draw(sheet, description)
        facts["sheet"] = str(sheet)
        sentence += f" Contact sheet: {sheet}."
    if folder is not None:
        write_json(folder / "data.json", facts)
    return Outcome(sentence, facts, code)


def problems_of(data: "Splits | Images", facts: dict[str, Any]) -> list[str]:
    """In what the array differs from what was prepared, and the data set from the published one."""
    from ..data.store import array_checksum

    problems = []
    folder = getattr(data, "folder", None)
    if folder is not None and array_checksum(folder) != data.checksum:
        problems.append(
            f"the array in {folder} has changed since it was prepared: remove the folder"
        )
    if facts["completeness"].startswith("incomplete"):
        problems.append("the data set is not complete: get the published files")
    if data.skipped:
        problems.append(f"{len(data.skipped)} images cannot be read, as {data.skipped[0]}")
    return problems


def _open(config: DataConfig, options: Options) -> "tuple[Splits | Images, str]":
    """The parts; or, of images that cannot be trained on, all of them, and why."""
    from ..data.open import open_images, open_splits

    try:
        return open_splits(config, progress=not options.json), ""
    except InputError as error:
        if options.action != "info":
            raise
        try:
            return open_images(config, progress=not options.json), str(error)
        except InputError:
            raise error from None


def _sheet_path(options: Options) -> Path | None:
    """The file that is named for the contact sheet, if one is."""
    if not options.sheet:
        return None
    if len(options.sheet) > 1:
        raise InputError(f"--sheet has {len(options.sheet)} names: give one PNG file.")
    (path,) = options.sheet
    if path.suffix.lower() != ".png":
        raise InputError(f"--sheet is {path}: give a file that ends in .png.")
    if path.exists():
        raise InputError(f"{path} exists: choose another --sheet.")
    return path


def _draw(path: Path, description: "Description") -> None:
    from ..reports.pictures import rows, save_png

    save_png(path, rows(list(_rows(description))))


def _rows(description: "Description") -> "Iterator[tuple[str, NDArray[Any]]]":
    """A row for each part, and for each class of the first part."""
    import numpy as np

    from ..data.partition import evenly

    def some(part: str, indices: "NDArray[np.int64]") -> "NDArray[Any]":
        return description.parts[part].images[indices[evenly(len(indices), ROW)]]

    for part, data in description.parts.items():
        if len(data):
            yield part, some(part, np.arange(len(data)))
    first = next(iter(description.parts))
    labels = description.parts[first].labels
    if labels is not None:
        for number, name in enumerate(description.some.class_names[:CLASSES]):
            theirs = np.flatnonzero(labels == number)
            if len(theirs):
                yield f"{first}: {name[:24]}", some(first, theirs)


def _table(facts: dict[str, Any]) -> Table:
    from ..progress import printable

    table = Table("what", "value", show_header=False)

    def row(name: str, value: object) -> None:
        table.add_row(escape(printable(name)), escape(printable(str(value))))

    for name in ("source", "layout", "dataset", "completeness"):
        if facts[name]:
            row(name, facts[name])
    if facts["untrainable"]:
        row("cannot be trained on", facts["untrainable"])
    for part, size in facts["splits"].items():
        row(part, f"{size:,}")
    if not facts["untrainable"]:
        rule = RULES[facts["split"]]
        row("split", rule if facts["dtype"] == "uint8" else rule.replace("image", "sample"))
    row("shape", f"{' x '.join(map(str, facts['shape']))} {facts['dtype']}")
    low, high = facts["value_range"]
    row("values", f"{low:g} to {high:g}")
    if facts["margins"] is not None:
        row("margins", f"{facts['margins']:.1%} of the values are the black of --fit pad")
    if facts["classes"]:
        row("classes", len(facts["classes"]))
        for name, counts in list(facts["class_counts"].items())[:CLASSES]:
            row(f"  {name}", ", ".join(f"{count:,} {part}" for part, count in counts.items()))
        if len(facts["classes"]) > CLASSES:
            row("  …", f"and {len(facts['classes']) - CLASSES} more")
    for attribute, count in facts["attributes"].items():
        row(attribute, f"{count:,} images")
    duplicates = facts["duplicates"]
    if duplicates["across_parts"]:
        pairs = "; ".join(f"{a} = {b}" for a, b in duplicates["examples"])
        row("copies across parts", f"{duplicates['across_parts']:,}: {pairs}")
    if duplicates["inside_train"]:
        row("copies in training", f"{duplicates['inside_train']:,}")
    if facts["one_colour"]["count"]:
        shown = ", ".join(facts["one_colour"]["examples"])
        row("of one colour", f"{facts['one_colour']['count']:,}: {shown}")
    for each in facts["left_out"]:
        row("left out", f"{each['files']:,}: {each['reason']}, as {each['example']}")
    for note in facts["notes"]:
        row("note", note)
    if facts["skipped"]:
        row("skipped", f"{len(facts['skipped'])}, the first: {facts['skipped'][0]}")
    row("SHA-256", facts["checksum"])
    if facts["folder"]:
        row("folder", facts["folder"])
    return table
