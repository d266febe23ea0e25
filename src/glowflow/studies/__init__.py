"""The paper's experiments and this project's targets, each measured by one command.

A study is a file here with a frozen dataclass of settings and a function that returns `Findings`,
and one entry in `cli/study.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Findings:
    """What a study found."""

    sentence: str
    """The result in one line."""
    facts: Mapping[str, Any]
    """Every figure, as JSON can hold it."""
    files: Mapping[str, bytes]
    """Tables and pictures: name and content."""


@dataclass(frozen=True)
class Figure:
    """A mean over images, and its standard error; None for one image."""

    mean: float
    standard_error: float | None

    def __str__(self) -> str:
        error = "" if self.standard_error is None else f" ± {self.standard_error:.3f}"
        return f"{self.mean:.3f}{error}"


def markdown_table(heads: list[str], lines: list[list[str]]) -> str:
    """A Markdown table: the first column is text, the others are figures."""
    rule = ["---", *["---:"] * (len(heads) - 1)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (heads, rule, *lines))
