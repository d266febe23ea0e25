"""Drag the studio's sliders as a person does, and time from slider to pixels.

`python -m benchmarks.studio` measures the shipped model of 32x32 pixels; `--untrained 64` a model
of as many levels, steps and channels at 64x64, whose weights are random, which the
time does not depend on. Chromium has to be there; no other program is downloaded.
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from glowflow import Glow, GlowConfig
from glowflow.files import write_text
from glowflow.latents.directions import Directions, save_directions
from glowflow.models.companions import identity
from glowflow.models.training_data import TrainingData

RATE = 60
"""Moves of the mouse in a second."""
WATCH = """
window.waits = []; window.inputs = []; window.last = null;
document.addEventListener("input", (event) => {
  if (event.target.dataset.attribute) window.inputs.push(event.timeStamp);
}, true);
document.addEventListener("shown", ({ detail }) => requestAnimationFrame(() => {
  if (!detail.value.asked?.amounts) return;
  const now = performance.now();
  window.last = JSON.stringify(detail.value.asked.amounts);
  while (window.inputs.length && window.inputs[0] <= detail.since) {
    const input = window.inputs.shift();
    window.waits.push([now - input, input === detail.since]);
  }
}));
"""
WANTED = """() => {
  const amounts = {};
  for (const input of document.querySelectorAll("[data-attribute]"))
    if (Number(input.value) !== 0) amounts[input.dataset.attribute] = Number(input.value);
  return JSON.stringify(amounts);
}"""


def untrained(size: int, folder: Path) -> None:
    """A model like the shipped one at another size, with directions."""
    known = Glow.from_pretrained("demo-faces").config
    config = GlowConfig(
        image_shape=(3, size, size),
        levels=known.levels,
        steps=known.steps,
        hidden_channels=known.hidden_channels,
    )
    model = Glow(config)
    images = torch.randint(0, 256, (16, 3, size, size), dtype=torch.uint8)
    model.initialize(images)
    model.trained_on = TrainingData(source="noise")
    model.save_pretrained(folder)
    latents = {
        f"Attribute_{number}": tuple(0.1 * torch.randn(shape) for shape in model.latent_shapes)
        for number in range(6)
    }
    directions = Directions(latents, "mean", identity(model), dict.fromkeys(latents, (1, 1)))
    save_directions(folder / "directions.safetensors", directions)


@contextmanager
def served(model: str, *options: str, folder: str | None = None) -> Iterator[str]:
    """The address of a studio that is open, in this folder."""
    command = [sys.executable, "-m", "glowflow", "studio", model, "--port", "0", "--no-open"]
    command += options
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder)
    assert process.stdout is not None
    try:
        found = re.search(r"http\S+", process.stdout.readline())
        assert found is not None, "the studio did not start"
        yield found[0]
    finally:
        process.terminate()
        process.wait()


def drag(page: Any, slider: Any, moves: int, chance: random.Random) -> None:
    """Press somewhere on a slider, move as a hand does, and let go."""
    box = slider.bounding_box()
    at, middle = chance.random(), box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + at * box["width"], middle)
    page.mouse.down()
    speed = 0.0
    for _ in range(moves):
        start = time.perf_counter()
        speed = 0.8 * speed + chance.gauss(0, 0.02)
        at = min(1.0, max(0.0, at + speed))
        page.mouse.move(box["x"] + at * box["width"], middle + chance.gauss(0, 2))
        time.sleep(max(0.0, 1 / RATE - (time.perf_counter() - start)))
    page.mouse.up()


def shown(page: Any, seconds: float = 20.0) -> bool:
    """Whether what the sliders say is what is seen, in the end."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if page.evaluate("() => window.last") == page.evaluate(WANTED):
            return True
        time.sleep(0.02)
    return False


def chromium(started: Any) -> Any:
    """A browser that is installed here, of a Playwright that has started."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    return started.chromium.launch(executable_path=program, args=["--no-sandbox"])


def measure(address: str, seconds: float, drags: int, seed: int) -> dict[str, Any]:
    """Milliseconds from slider to pixels, and how many last values were lost."""
    from playwright.sync_api import sync_playwright

    chance = random.Random(seed)
    with sync_playwright() as started:
        browser = chromium(started)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.add_init_script(WATCH)
        before = time.perf_counter()
        page.goto(address)
        page.locator("[data-attribute]").first.wait_for()
        page.locator("#tray [role=option]").first.wait_for()
        opened = time.perf_counter() - before
        sliders = page.locator("[data-attribute]").all()
        for slider in sliders[:2]:
            drag(page, slider, RATE // 2, chance)
        assert shown(page)
        page.evaluate("() => { window.waits = []; }")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            drag(page, chance.choice(sliders), RATE, chance)
        assert shown(page)
        waits = page.evaluate("() => window.waits")
        lost = 0
        for _ in range(drags):
            drag(page, chance.choice(sliders), chance.randint(1, 5), chance)
            lost += not shown(page)
        browser.close()
    own = [wait for wait, is_own in waits if is_own]
    return {
        "seconds_until_the_page_is_there": round(opened, 2),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "moves_a_second": round(len(waits) / seconds, 1),
        "frames_a_second": round(len(own) / seconds, 1),
        "slider_to_pixels_ms": _quantiles(own),
        "with_moves_passed_over_ms": _quantiles([wait for wait, _ in waits]),
        "drags": drags,
        "last_values_lost": lost,
    }


def _quantiles(waits: list[float]) -> dict[str, float]:
    return {f"p{q}": round(float(np.percentile(waits, q)), 1) for q in (50, 95, 99)}


def main() -> None:
    """Measure, print, and write what was measured if that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="demo-faces")
    parser.add_argument("--untrained", type=int, help="pixels of an untrained model instead")
    parser.add_argument("--seconds", type=float, default=20.0, help="of dragging that is timed")
    parser.add_argument("--drags", type=int, default=1000, help="after which nothing may be lost")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.untrained:
            untrained(options.untrained, Path(folder))
        source = folder if options.untrained else options.model
        with served(source) as address:
            figures = measure(address, options.seconds, options.drags, options.seed)
    size = options.untrained or Glow.from_pretrained(options.model).config.image_shape[1]
    facts = {"model": options.model if not options.untrained else "untrained", "pixels": size}
    text = json.dumps({**facts, **figures}, indent=2)
    print(text)
    if options.json:
        write_text(options.json, text + "\n")


if __name__ == "__main__":
    main()
