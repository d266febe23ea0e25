"""Pictures of the studio's tabs, as the pages show them.

`python -m benchmarks.studio_pictures` opens the shipped model, explores its data, maps the bits of
some faces and trains for a minute, and writes `docs/assets/studio-explore.webp`, `-map.webp` and
`-train.webp`; `--every FOLDER` writes each tab on a desktop and on a telephone, light and dark.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from .studio import chromium, served

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
SHOWN = {"explore": "explore", "score": "map", "train": "train"}
RUN = {"data.size": "32 32", "data.faces": "1000", "minutes": "4", "batch_size": "8",
       "model.hidden_channels": "16", "model.steps": "2", "log_every": "4", "validate_every": "8",
       "validation_images": "50"}  # fmt: skip


def explore(page: Any) -> None:
    """The data, a face taken, and a step along the first axis."""
    page.locator("#tab-explore").click()
    page.locator("#plot circle.dot").nth(100).wait_for()
    page.locator("#explore-part").select_option("3")
    page.locator("#explore-colour").select_option(label="Long Hair")
    if page.locator("#tray [role=option]").count() == 8:
        page.locator("#plot").focus()
        for key in ("ArrowRight", "ArrowUp", "ArrowRight", "Enter"):
            page.keyboard.press(key)
        page.locator("#tray [role=option]").nth(8).wait_for()
    slider(page, "walk", 1.6)
    page.locator("#plot").focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)


def slider(page: Any, name: str, value: float) -> None:
    """Put it somewhere."""
    page.evaluate(
        """([name, value]) => {
          const input = document.getElementById(name);
          input.value = value;
          input.dispatchEvent(new Event("input", { bubbles: true }));
        }""",
        [name, value],
    )
    page.wait_for_timeout(600)


def score(page: Any) -> None:
    """The faces of the page, and the map of one of the data."""
    explore(page)
    page.locator("#tab-score").click()
    if not page.locator("#scores tbody tr").count():
        page.locator("#score-tray").click()
        page.locator("#scores tbody tr").nth(7).wait_for()
    page.wait_for_timeout(1500)
    page.locator("#map").scroll_into_view_if_needed()


def starter(page: Any) -> None:
    """The form of a run."""
    page.locator("#tab-train").click()
    page.locator("#train-new:enabled").click()
    page.locator("#starter .option").nth(5).wait_for()
    page.locator("#starter details summary").click()
    for name, value in RUN.items():
        page.locator(f"[id='option-{name}']").fill(value)
    page.locator("#starter-name").fill("faces-32")
    page.evaluate("() => document.getElementById('starter').scrollTo(0, 0)")


def train(page: Any) -> None:
    """A run, from its start on."""
    page.locator("#tab-train").click()
    page.wait_for_timeout(1500)
    if not page.locator("#runs .run").count():
        starter(page)
        page.locator("#starter-go").click()
    page.locator("#curves circle").nth(4).wait_for(timeout=300_000)
    page.locator("#run-samples").wait_for()
    page.wait_for_timeout(500)


TABS = {"explore": explore, "score": score, "starter": starter, "train": train}


def main() -> None:
    """Take them."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=Path, help="folder for each tab, size and scheme")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        runs = ["--runs", folder]
        browser = chromium(started)
        with served("demo-faces", *runs) as address:
            for name, prepare in TABS.items():
                for size, (width, height) in SIZES.items():
                    for scheme in ("light", "dark"):
                        if given.every is None and (size, scheme) != ("desktop", "light"):
                            continue
                        page = browser.new_page(
                            viewport={"width": width, "height": height}, color_scheme=scheme
                        )
                        page.set_default_timeout(120_000)
                        page.goto(address)
                        page.locator("#tray [role=option]").nth(7).wait_for()
                        prepare(page)
                        take(page, name, size, scheme, given.every)
                        print(name, size, scheme, flush=True)
                        page.close()
        browser.close()


def take(page: Any, name: str, size: str, scheme: str, every: Path | None) -> None:
    """One picture, into the docs if it is shown there."""
    data = page.screenshot(full_page=size == "phone" and name != "starter")
    if every is not None:
        every.mkdir(parents=True, exist_ok=True)
        (every / f"{name}-{size}-{scheme}.png").write_bytes(data)
    elif name in SHOWN:
        target = Path("docs/assets") / f"studio-{SHOWN[name]}.webp"
        with tempfile.NamedTemporaryFile(suffix=".png") as file:
            Path(file.name).write_bytes(data)
            Image.open(file.name).save(target, "WEBP", quality=82, method=6)


if __name__ == "__main__":
    main()
