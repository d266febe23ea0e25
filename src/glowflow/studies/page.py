"""The page of a study: sections of words, tables and pictures, as Markdown and as HTML."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from ..reports.page import html_page, picture, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Table:
    """The first column is text, the others are figures."""

    heads: Sequence[str]
    lines: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Lines of cells."""
        rule = ["---", *["---:"] * (len(self.heads) - 1)]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in (self.heads, rule, *self.lines))

    def html(self) -> str:
        """A table that scrolls where it is too wide."""
        return f"<div class=wide>{table(self.lines, self.heads)}</div>"


@dataclass(frozen=True)
class Plot:
    """Axes, drawn when they are asked for."""

    file: str
    shows: str
    """What one sees, in words."""
    size: tuple[float, float]
    """Width and height, in inches of 110 pixels."""
    draw: "Callable[[Figure], None]"
    """Puts axes into the empty figure."""
    caption: str = ""

    def png(self) -> bytes:
        """The picture."""
        from matplotlib.figure import Figure

        from ..reports.plots import plot_png

        figure = Figure(figsize=self.size, dpi=110, layout="constrained")
        self.draw(figure)
        return plot_png(figure)


@dataclass(frozen=True)
class Sheet:
    """Rows of images."""

    file: str
    shows: str
    rows: "Sequence[tuple[str, NDArray[Any]]]"
    """The label and the images (N, C, H, W) of each row."""
    heads: Sequence[str] = ()
    """Over the columns."""
    caption: str = ""

    def png(self) -> bytes:
        """The picture."""
        from ..reports.pictures import png_bytes, rows

        return png_bytes(rows(self.rows, self.heads))


@dataclass(frozen=True)
class Section:
    """A part of a page. It reads: heading, words, pictures, table, notes."""

    title: str = ""
    """Without one, the section goes on with what is above it."""
    words: str = ""
    pictures: Sequence[Plot | Sheet] = ()
    table: Table | None = None
    notes: Sequence[Sequence[str]] = ()
    """Lists of lines."""


def markdown(title: str, paragraphs: Sequence[str], sections: Sequence[Section]) -> str:
    """The page as a file that lies beside its pictures."""
    blocks = [f"# {title}", *paragraphs]
    for section in sections:
        blocks += [f"## {section.title}" if section.title else "", section.words]
        for each in section.pictures:
            blocks += [each.caption, f"![{each.shows}]({each.file})"]
        blocks.append(section.table.markdown() if section.table else "")
        blocks += ["\n".join(f"- {line}" for line in lines) for lines in section.notes]
    return "\n\n".join(block for block in blocks if block) + "\n"


def html(
    title: str,
    paragraphs: Sequence[str],
    sections: Sequence[Section],
    pictures: Mapping[str, bytes],
) -> str:
    """The page as one file, with its pictures (PNG by file name) in it."""
    sentence, *others = paragraphs
    body = [f"<h1>{escape(title)}</h1><p><b>{escape(sentence)}</b></p>"]
    body += [f"<p class=quiet>{escape(text)}</p>" for text in others if text]
    for section in sections:
        body.append(f"<h2>{escape(section.title)}</h2>" if section.title else "")
        body.append(f"<p>{escape(section.words)}</p>" if section.words else "")
        for each in section.pictures:
            body.append(f"<p class=quiet>{escape(each.caption)}</p>" if each.caption else "")
            body.append(picture(pictures[each.file], each.shows))
        body.append(section.table.html() if section.table else "")
        for lines in section.notes:
            body.append(f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>")
    return html_page(title, body)
