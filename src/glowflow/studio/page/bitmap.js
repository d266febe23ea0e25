// The map of bits: where in a picture the model spends them.

import * as api from "./api.js";
import { byId, fit, make, paintUri, slider } from "./draw.js";
import { colour } from "./plots.js";

export function bitMap(studio) {
  const { model } = studio;
  let file = null;
  let asking = 0;
  let picture = null;
  for (const name of ["map-picture", "map-heat"]) fit(byId(name), model);
  const strength = slider(byId("map-strength").parentElement, (value) => { byId("map-heat").style.opacity = value; });
  byId("map-heat").style.opacity = strength.value;
  byId("map-level").replaceChildren(make("option", { value: 0, textContent: "all levels" }), ...model.levels.map(([, height, width], i) => make("option", { value: i + 1, textContent: `level ${i + 1} (${width}x${height})` })));

  function legend() {
    const scale = byId("map-scale");
    const context = scale.getContext("2d");
    for (let x = 0; x < scale.width; x += 1) {
      context.fillStyle = `rgb(${colour(x / (scale.width - 1)).map(Math.round).join(" ")})`;
      context.fillRect(x, 0, 1, scale.height);
    }
  }

  function heat(values) {
    const sorted = [...values].sort((a, b) => a - b);
    const low = sorted[Math.floor(0.01 * (sorted.length - 1))];
    const high = sorted[Math.ceil(0.99 * (sorted.length - 1))];
    const canvas = byId("map-heat");
    const context = canvas.getContext("2d");
    const whole = context.createImageData(canvas.width, canvas.height);
    values.forEach((value, i) => whole.data.set([...colour((value - low) / (high - low || 1)), 255], 4 * i));
    context.putImageData(whole, 0, 0);
    byId("map-low").textContent = low.toFixed(1);
    byId("map-high").textContent = `${high.toFixed(1)} bits a pixel`;
  }

  async function draw() {
    if (!file || byId("score").hidden) return;
    asking += 1;
    const [mine, level] = [asking, Number(byId("map-level").value)];
    let found;
    try { found = await api.scoreMap(file, level); } catch (error) { if (mine === asking) studio.say(error.message); return; }
    if (mine !== asking) return;
    heat(found.values);
    const of = (bits) => `${bits.toFixed(0)} bits`;
    const dims = found.bits / found.bits_per_dim;
    const without = Math.abs(found.no_place) < 1 ? "" : ` What has no place in the picture (${of(found.no_place)}) is spread evenly.`;
    byId("map-words").textContent = level
      ? `Level ${level} adds ${of(found.by_level[level - 1])} to the sum of ${of(found.bits)}: its codes and its prior at each place, and what its couplings and convolutions change.`
      : `The map sums to ${of(found.bits)}, that is ${found.bits_per_dim.toFixed(3)} bits/dim of ${Math.round(dims)} values, the figure of the table.${without}`;
  }

  async function show(next, png, name) {
    file = next;
    byId("map").hidden = false;
    byId("map-name").textContent = name;
    await paintUri(byId("map-picture"), png);
    draw();
  }

  async function ofPicture() {
    if (!picture || byId("score").hidden) return;
    const { png, name } = picture;
    const wanted = picture;
    const blob = await api.image(wanted.picture).catch(() => null);
    if (blob && wanted === picture) show(new File([blob], "picture.png", { type: "image/png" }), png, name || "picture");
  }

  byId("map-level").addEventListener("change", draw);
  legend();
  return {
    show,
    chosen(next) { picture = next; ofPicture(); },
    opened() { if (!file) ofPicture(); },
  };
}
