// Levels: what lives where. One level is drawn anew, the others are kept.

import * as api from "./api.js";
import { byId, make, slider } from "./draw.js";
import { newestWins } from "./live.js";

const COUNT = 6;

export function levelsTab(studio) {
  const { model } = studio;
  let picture = null;
  let seed = 0;
  const rows = model.levels.map(([channels, height, width], level) => {
    const first = level === 0;
    const last = level === model.levels.length - 1;
    const title = `Level ${level + 1}${first ? ", the finest" : last ? ", the coarsest" : ""}`;
    const redrawn = make("div", { className: "redrawn" });
    byId("levels-rows").append(make("div", { className: "level" },
      make("div", {}, make("h2", { textContent: title }),
        make("p", { className: "quiet", textContent: `${channels} channels of ${width}x${height}, drawn anew; the rest is kept.` })),
      redrawn));
    const live = newestWins(
      ({ id, asked }) => api.redraw(id, asked),
      ({ pngs }, value) => {
        if (picture?.picture !== value.id) return;
        redrawn.replaceChildren(...pngs.map((png, i) => tile(png, i, title, value)));
      },
      (error) => studio.say(error.message),
    );
    return { live, level: level + 1 };
  });

  function tile(png, i, title, { id, asked }) {
    const button = make("button", { className: "tile", title: "Keep it" }, make("img", { src: png, alt: `${title}, draw ${i + 1}` }));
    button.addEventListener("click", () => studio.doing(button, async () => {
      studio.add([await api.keepRedrawn(id, { ...asked, seed: asked.seed + i, count: 1 })], { choose: false });
      studio.say("It is among the pictures below.");
    }));
    return button;
  }

  function draw() {
    if (!picture || byId("levels").hidden) return;
    for (const { live, level } of rows) {
      live({ id: picture.picture, asked: { level, count: COUNT, seed, temperature: temperature.value } });
    }
  }

  const temperature = slider(byId("levels-temperature").parentElement, draw);
  byId("levels-again").addEventListener("click", () => { seed = Math.floor(Math.random() * 1e9); draw(); });

  return { chosen(next) { picture = next; draw(); }, opened: draw };
}
