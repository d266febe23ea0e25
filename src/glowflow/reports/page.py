"""A self-contained HTML page, and what it is made of."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files


def html_page(title: str, body: Iterable[str], more_style: str = "") -> str:
    """A page with the reports' style and everything in it."""
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{asset('page.css')}{more_style}</style></head>"
        f"<body>{''.join(body)}</body></html>\n"
    )


def asset(name: str) -> str:
    """The text of a style sheet or a script that lies beside this module."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def table(lines: Iterable[Sequence[str]], heads: Sequence[str] = ()) -> str:
    """Lines of cells of text."""
    head = f"<tr>{''.join(f'<th>{escape(cell)}</th>' for cell in heads)}</tr>" if heads else ""
    rows = (f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in line)}</tr>" for line in lines)
    return f"<table>{head}{''.join(rows)}</table>"


def bar_cell(share: float) -> str:
    """A cell with a bar over this share of it, 0 to 1."""
    return f"<td class=barcell><div class=bar style='width:{100 * share:.1f}%'></div></td>"


def picture(png: bytes, alternative: str) -> str:
    """A PNG within the page, and what it shows in words."""
    return f'<img alt="{escape(alternative)}" src="{data_uri(png, "image/png")}">'


def data_uri(data: bytes, media_type: str) -> str:
    """The data themselves as an address."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
