"""What the pages need beyond Markdown: the package's own source, and equations as MathML."""

import re
from functools import cache
from html import unescape
from pathlib import Path
from typing import Any

import griffe
from latex2mathml.converter import convert

ROOT = Path(__file__).parents[1]
SOURCE = re.compile(r"^::source (\S+)$", re.MULTILINE)
EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)
LIVE = re.compile(r"^::live$", re.MULTILINE)
EQUATION = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<tex>.*?)\\[)\]]</(?P=tag)>', re.DOTALL
)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the code of `::source glowflow.module.Class.method` in the place of that line, and the
    model that runs in the browser in that of `::live`."""
    markdown = LIVE.sub(lambda _: live(ROOT / "docs" / "live"), markdown)
    return SOURCE.sub(lambda found: code_block(found[1]), markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Put MathML in the place of the equations that arithmatex has found."""
    return EQUATION.sub(lambda found: mathml(found["tex"], found["tag"]), html)


def live(folder: Path) -> str:
    """The page that `make docs` exports into this folder; its picture, where it could not."""
    if (folder / "meta.json").is_file():
        return (
            f'<iframe class="live" src="{folder.name}/index.html" loading="lazy" '
            'title="demo-faces, drawing in this page"></iframe>\n\n'
            f"[demo-faces by itself]({folder.name}/index.html)"
        )
    return (
        "![demo-faces in a browser](assets/web-desktop.webp)\n\n"
        "This site was built without onnxruntime-web, so here is a picture of the page: "
        "[In the browser](export.md#in-the-browser) says how to have it."
    )


def code_block(name: str) -> str:
    """The source of an object of the package, as it is now, with its file as the title."""
    found = package()[name.removeprefix("glowflow.")]
    path = Path(found.filepath).relative_to(ROOT)
    return f'```python title="{path}"\n{found.source.rstrip()}\n```'


def mathml(tex: str, tag: str) -> str:
    """The equation in MathML, a line by itself or within one."""
    display = "block" if tag == "div" else "inline"
    equation = convert(unescape(tex).strip(), display=display)
    return f'<div class="equation">{equation}</div>' if tag == "div" else equation


class Examples(griffe.Extension):
    """Read the docstrings' `Example:` as the parser's `Examples:`, whose doctests are code."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rename the section in one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = EXAMPLE.sub("Examples:", obj.docstring.value)


@cache
def package() -> griffe.Object:
    """The package, read but not imported."""
    found = griffe.load("glowflow", search_paths=[ROOT / "src"])
    assert isinstance(found, griffe.Object)
    return found
