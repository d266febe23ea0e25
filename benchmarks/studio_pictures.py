"""Pictures of the studio's tabs, as the pages show them.

`python -m benchmarks.studio_pictures` opens the shipped model, does something in each tab, trains
for a minute, and writes `docs/assets/studio*.webp`: most tabs on a desktop, light, and all of them
on one sheet from a telephone, dark. `--every FOLDER` writes each tab in both sizes, light and dark.
"""

import argparse
import io
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from .studio import chromium, served

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
SHOWN = {"edit": "studio", "sample": "studio-sample", "mix": "studio-mix",
         "levels": "studio-levels", "explore": "studio-explore", "table": "studio-score",
         "score": "studio-map", "train": "studio-train"}  # fmt: skip
COMMITTED = (("desktop", "light"), ("phone", "dark"))
GAP = 12
RUNS = "runs/faces"
RUN = {"data.size": "32 32", "data.faces": "1000", "minutes": "4", "batch_size": "8",
       "model.hidden_channels": "16", "model.steps": "2", "log_every": "4", "validate_every": "8",
       "validation_images": "50"}  # fmt: skip


def edit(page: Any) -> None:
    """A face with a smile, glasses and a beard; half of it as it was."""
    page.locator("#tray [role=option]").nth(3).click()
    for name, value in (("Smiling", 1.5), ("Eyeglasses", 1.0), ("Beard", 0.6)):
        slider(page, f"[data-attribute={name}]", value)
    slider(page, "#divider", 48)
    page.locator("#meter-pin").wait_for()
    page.wait_for_timeout(800)


def sample(page: Any) -> None:
    """Twelve faces."""
    page.locator("#tab-sample").click()
    page.locator("#wall img").nth(11).wait_for()
    page.wait_for_timeout(500)


def mix(page: Any) -> None:
    """Four faces, and a place between them."""
    page.locator("#tab-mix").click()
    for number in (3, 4):
        page.locator("#tray [role=option]").nth(number).click()
    page.locator("#field").focus()
    for _ in range(12):
        page.keyboard.press("ArrowRight")
    page.evaluate("() => document.activeElement.blur()")
    page.wait_for_timeout(500)


def levels(page: Any) -> None:
    """Each level drawn anew."""
    page.locator("#tab-levels").click()
    page.locator("#levels-rows img").nth(17).wait_for()
    page.wait_for_timeout(500)


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
    slider(page, "#walk", 1.6)
    page.locator("#plot").focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)


def slider(page: Any, name: str, value: float) -> None:
    """Put it somewhere."""
    page.evaluate(
        """([name, value]) => {
          const input = document.querySelector(name);
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


def table(page: Any) -> None:
    """The faces of the page beside held-out ones."""
    score(page)
    page.evaluate("() => scrollTo(0, 0)")
    page.wait_for_timeout(300)


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


TABS = {"edit": edit, "sample": sample, "mix": mix, "levels": levels, "explore": explore,
        "table": table, "score": score, "starter": starter, "train": train}  # fmt: skip


def main() -> None:
    """Take them."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=Path, help="folder for each tab, size and scheme")
    given = parser.parse_args()
    sheet = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        browser = chromium(started)
        with served("demo-faces", "--runs", RUNS, folder=folder) as address:
            for name, prepare in TABS.items():
                for size, (width, height) in SIZES.items():
                    for scheme in ("light", "dark"):
                        if given.every is None and (size, scheme) not in COMMITTED:
                            continue
                        page = browser.new_page(
                            viewport={"width": width, "height": height}, color_scheme=scheme
                        )
                        page.set_default_timeout(120_000)
                        page.goto(address)
                        page.locator("#tray [role=option]").nth(7).wait_for()
                        prepare(page)
                        picture = Image.open(io.BytesIO(page.screenshot()))
                        page.close()
                        print(name, size, scheme, flush=True)
                        if given.every is not None:
                            given.every.mkdir(parents=True, exist_ok=True)
                            picture.save(given.every / f"{name}-{size}-{scheme}.png")
                        elif size == "phone" and name in SHOWN:
                            sheet.append(picture)
                        elif name in SHOWN:
                            write(picture, SHOWN[name])
        browser.close()
    if sheet:
        write(side_by_side(sheet), "studio-phone-dark")


def side_by_side(pictures: list[Image.Image]) -> Image.Image:
    """In rows of four."""
    width, height = (round(0.62 * side) for side in SIZES["phone"])
    rows = -(-len(pictures) // 4)
    sheet = Image.new("RGB", (4 * (width + GAP) - GAP, rows * (height + GAP) - GAP), "#8a8178")
    for i, picture in enumerate(pictures):
        place = (i % 4 * (width + GAP), i // 4 * (height + GAP))
        sheet.paste(picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS), place)
    return sheet


def write(picture: Image.Image, name: str) -> None:
    """Into the docs."""
    target = Path("docs/assets") / f"{name}.webp"
    picture.convert("RGB").save(target, "WEBP", quality=80, method=6)


if __name__ == "__main__":
    main()
