// Sample: pictures that the model draws.

import * as api from "./api.js";
import { bitsPerDim, byId, make, newSlider, slider } from "./draw.js";
import { newestWins } from "./live.js";

const COUNT = 12;

export function sampleTab(studio) {
  const { model } = studio;
  const levels = [];

  const live = newestWins(
    (asked) => api.sample(asked),
    ({ pictures }) => {
      byId("wall").replaceChildren(...pictures.map(tile));
      byId("wall").setAttribute("aria-busy", "false");
    },
    (error) => { byId("wall").setAttribute("aria-busy", "false"); studio.say(error.message); },
  );

  function tile(picture) {
    const button = make("button", { className: "tile" },
      make("img", { src: picture.png, alt: `Drawn, ${picture.name}` }),
      make("span", { textContent: bitsPerDim(picture.bits_per_dim) }));
    button.title = `${picture.name}. Take it to the other tabs.`;
    button.addEventListener("click", () => {
      studio.add([picture]);
      if (model.attributes.length) studio.show("edit"); else studio.show("levels");
    });
    return button;
  }

  function draw() {
    byId("wall").setAttribute("aria-busy", "true");
    live({
      count: COUNT,
      temperatures: byId("by-level").open ? levels.map((each) => each.now()) : [temperature.value],
      seed: Math.max(0, Math.floor(Number(byId("seed").value) || 0)),
      label: model.classes ? Number(byId("class").value) : null,
    });
  }

  const temperature = slider(byId("temperature").parentElement, (value) => {
    for (const each of levels) each.put(value);
    draw();
  });
  model.levels.forEach(([channels, height, width], level) => {
    const what = level === 0 ? "finest" : level === model.levels.length - 1 ? "coarsest" : "";
    const made = newSlider(`${level + 1} ${what} (${width}x${height})`, { min: 0, max: 1.2, step: 0.05, value: 0.7 }, draw);
    made.label.title = `${channels} channels of ${width}x${height}`;
    levels.push(made);
    byId("level-temperatures").append(made.label);
  });
  byId("class-field").hidden = !model.classes;
  byId("class").replaceChildren(...studio.classOptions());
  byId("class").addEventListener("change", draw);
  byId("seed").addEventListener("change", draw);
  byId("by-level").addEventListener("toggle", draw);
  byId("another").addEventListener("click", () => {
    byId("seed").value = Math.floor(Math.random() * 1e9);
    draw();
  });

  return { opened() { if (!byId("wall").children.length) draw(); } };
}
