"""What a study is: a claim that one command measures, and what it says of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .page import Section, html, markdown


@dataclass(frozen=True)
class Findings:
    """What a study says."""

    title: str
    sentence: str
    """The result in one line."""
    sections: tuple[Section, ...]
    """Words, tables and pictures."""
    summary: Mapping[str, Any]
    """Means, standard errors and what they are of, as JSON can hold them."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What is too long for a summary: curves, and figures that a mean is of."""
    about: str = ""
    """What was measured on what: data, model, machine."""

    @property
    def facts(self) -> dict[str, Any]:
        """Every figure."""
        return {**self.summary, **self.details}

    def files(self, name: str) -> dict[str, bytes]:
        """NAME.md, index.html, and the pictures."""
        pictures = {p.file: p.png() for section in self.sections for p in section.pictures}
        paragraphs = self.sentence, self.about
        return {
            f"{name}.md": markdown(self.title, paragraphs, self.sections).encode(),
            "index.html": html(self.title, paragraphs, self.sections, pictures).encode(),
            **pictures,
        }


@dataclass(frozen=True, kw_only=True)
class Study:
    """A claim that one command measures.

    A subclass is a frozen dataclass: its fields are the settings, and the options of its command,
    and the first line of its docstring is what `glow study --help` says of it. Its module is read
    for that help, so it imports what is heavy within its methods.
    """

    seed: int = 0
    """Of everything that is random."""
