"""A self-contained HTML page."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files


def html_page(title: str, body: Sequence[str], more_style: str = "") -> str:
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
