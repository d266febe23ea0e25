// The page: two pictures, what is done to them, and what the model makes of it.

import { combined, normals, toImage, widened } from "./codes.js";
import { Controls } from "./controls.js";
import { Model, Newest } from "./model.js";
import { chosen } from "./photo.js";
import { Wall } from "./wall.js";

const find = (id) => document.getElementById(id);
const here = (name) => new URL(name, import.meta.url);
const stage = find("stage");
const slots = [...document.querySelectorAll(".slot")];

const meta = await (await fetch(here("meta.json"))).json();
const size = meta.shape.reduce((a, b) => a * b);

/** A picture: its code at temperature 1, the temperature and the class it is shown with, and had. */
const sample = (seed, temperature = meta.temperature) => {
  const label = meta.classes ? seed % meta.classes : 0;
  return { code: normals(seed, size), temperature, label, first: { temperature: meta.temperature, label } };
};

const state = {
  pictures: [sample(meta.wall.seed), sample(meta.wall.seed + 1)],
  active: 0,
  label: meta.classes ? meta.wall.seed % meta.classes : 0,
  mix: 0,
  seed: meta.wall.seed + meta.wall.count,
  drawn: 0,
  wall: 0,
};
let settled;

const model = new Model((bytes) => {
  find("progress").value += bytes / meta.download;
});
const controls = new Controls(meta, {
  temperature(value) {
    state.pictures[state.active].temperature = value;
    thumbnails[state.active].ask();
    frame.ask();
  },
  amounts: () => frame.ask(),
  label(value) {
    state.label = state.pictures[state.active].label = value;
    thumbnails[state.active].ask();
    frame.ask();
  },
});
const wall = new Wall(find("wall"), meta, (number, seed) => {
  take(sample(seed));
  say(`Picture ${number + 1} is the ${["first", "second"][state.active]} one.`);
});

function show(canvas, bytes) {
  [canvas.width, canvas.height] = [meta.shape[2], meta.shape[1]];
  canvas.getContext("2d").putImageData(toImage(bytes, meta.shape), 0, 0);
}

function say(sentence) {
  find("said").textContent = sentence;
}

function fail(error) {
  find("status").textContent =
    `The model could not be used (${error.message}): reload the page. What is shown was drawn ` +
    "before.";
  document.documentElement.dataset.state = "failed";
}

/** The picture as the controls have it now, drawn and timed. */
const frame = new Newest(async () => {
  try {
    const [a, b] = state.pictures;
    const code = combined(a, b, state.mix, controls.moves());
    const { bytes, usable, milliseconds } = await model.ask("decode", { code, label: state.label });
    show(stage, bytes);
    state.drawn++;
    const said = usable ? "" : " · outside of the range of pictures: lower the temperature";
    find("time").textContent = `${milliseconds.toFixed(0)} ms a frame${said}`;
    stage.dataset.milliseconds = milliseconds;
    stage.dataset.frames = state.drawn;
    clearTimeout(settled);
    settled = setTimeout(() => say(`The picture has changed. ${find("time").textContent}.`), 1000);
  } catch (error) {
    fail(error);
  }
});

/** Each of the two pictures by itself. */
const thumbnails = slots.map((slot, number) => new Newest(async () => {
  try {
    const picture = state.pictures[number];
    const code = combined(picture, null, 0, []);
    const { bytes } = await model.ask("decode", { code, label: picture.label });
    show(slot.querySelector("canvas"), bytes);
  } catch (error) {
    fail(error);
  }
}));

/** Put a picture into the place that is chosen, the first or the second. */
function take(picture) {
  state.pictures[state.active] = picture;
  wall.unmark();
  controls.temperature = picture.temperature;
  if (meta.classes) state.label = controls.label = picture.label;
  thumbnails[state.active].ask();
  return frame.ask();
}

function choose(number) {
  state.active = number;
  controls.temperature = state.pictures[number].temperature;
  if (meta.classes) controls.label = state.pictures[number].label;
}

function mix(value) {
  state.mix = find("mix").value = value;
  find("mix").style.setProperty("--to", `${100 * value}%`);
  find("mix").nextElementSibling.textContent = `${Math.round(100 * value)} %`;
}

async function takePhoto(file) {
  let bytes;
  try {
    bytes = await chosen(file, meta.shape);
  } catch {
    find("status").textContent = `${file.name} is no picture that this browser reads: choose another.`;
    return;
  }
  if (!bytes) return;
  try {
    const label = meta.classes ? state.label : 0;
    const { code } = await model.ask("encode", { bytes, label });
    const back = await model.ask("decode", { code, label });
    const step = 256 / 2 ** meta.bits;
    const same = bytes.filter((byte, i) => byte - (byte % step) === back.bytes[i]).length;
    controls.reset();
    mix(state.active);
    await take({ code, temperature: 1, label, first: { temperature: 1, label } });
    find("status").textContent =
      `Your picture as a code, and back: ${same.toLocaleString("en")} of ` +
      `${size.toLocaleString("en")} values are the same.`;
  } catch (error) {
    fail(error);
  }
}

function reset() {
  controls.reset();
  for (const picture of state.pictures) Object.assign(picture, picture.first);
  state.label = state.pictures[0].label;
  mix(0);
  slots[0].querySelector("input").checked = true;
  choose(0);
  slots.forEach((_, number) => thumbnails[number].ask());
  frame.ask();
}

function download() {
  stage.toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${meta.name}-${state.drawn}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }, "image/png");
}

/** The same latents here and where the page was made. */
async function check() {
  find("checked").textContent = "Comparing …";
  const { count, tolerance } = meta.check;
  const data = await (await fetch(here("check.bin"))).arrayBuffer();
  const codes = new Float32Array(data, 0, count * size);
  const expected = new Uint8Array(data, codes.byteLength);
  let different = 0, farthest = 0;
  for (let i = 0; i < count; i++) {
    const code = codes.slice(i * size, (i + 1) * size);
    const { bytes } = await model.ask("decode", { code, label: meta.classes ? i % meta.classes : 0 });
    bytes.forEach((byte, at) => {
      const far = Math.abs(byte - expected[i * size + at]);
      different += far > 0;
      farthest = Math.max(farthest, far);
    });
  }
  const total = (count * size).toLocaleString("en");
  find("checked").textContent = different
    ? `${different.toLocaleString("en")} of ${total} values differ, by ${farthest} at most ` +
      `(expected: ${tolerance}).`
    : `All ${total} values are those that Python has.`;
  Object.assign(find("checked").dataset, { different, farthest });
}

/** Other pictures on the wall, one after another; a later call takes over. */
async function drawWall() {
  const first = state.seed;
  state.seed += meta.wall.count;
  const end = state.seed;
  for (let i = 0; i < meta.wall.count && end >= state.wall; i++) {
    state.wall = end;
    const picture = sample(first + i);
    const code = combined(picture, null, 0, []);
    const { bytes } = await model.ask("decode", { code, label: picture.label });
    wall.show(i, bytes, first + i);
  }
}

function wire() {
  find("another").onclick = () => take(sample(state.seed++, controls.temperature));
  find("upload").onclick = () => find("file").click();
  find("file").onchange = async () => {
    const [file] = find("file").files;
    find("file").value = "";
    if (file) await takePhoto(file);
  };
  find("download").onclick = download;
  find("reset").onclick = reset;
  find("check").onclick = () => check().catch(fail);
  find("mix").oninput = () => {
    mix(Number(find("mix").value));
    frame.ask();
  };
  find("more").onclick = () => drawWall().catch(fail);
  slots.forEach((slot, number) => {
    slot.querySelector("input").onchange = () => choose(number);
  });
}

/** Keep the page's files for visits without a network, where the browser does that. */
async function keep() {
  if (!navigator.serviceWorker) return;
  const kept = await caches.open("glowflow");
  const files = ["./", ...meta.files].map((name) => new Request(here(name), { cache: "force-cache" }));
  await kept.addAll(files);
  await navigator.serviceWorker.register(here("offline.js"));
  document.documentElement.dataset.kept = "";
}

function tell() {
  const [, height, width] = meta.shape;
  const facts = {
    Model: `${meta.family}, ${meta.parameters.toLocaleString("en")} parameters, ${meta.bits} bits a value`,
    Pictures: `${width}×${height}`,
    Weights: `${meta.precision}, computed in float32`,
    Download: `${(meta.download / 1e6).toFixed(1)} MB`,
    Runtime: `onnxruntime-web ${meta.runtime}, one thread`,
    Noise: "a generator of this page, by seed: other pictures than PyTorch's for the same seed",
  };
  for (const [name, value] of Object.entries(facts)) {
    const term = document.createElement("dt"), said = document.createElement("dd");
    [term.textContent, said.textContent] = [name, value];
    find("facts").append(term, said);
  }
}

async function start() {
  tell();
  [stage.width, stage.height] = [meta.shape[2], meta.shape[1]];
  wall.paint(stage, 0);
  slots.forEach((slot, number) => wall.paint(slot.querySelector("canvas"), number));
  controls.temperature = meta.temperature;
  mix(0);
  find("status").textContent = `Loading the model, ${(meta.download / 1e6).toFixed(1)} MB …`;
  if (meta.directions) {
    const data = await (await fetch(here("directions.bin"))).arrayBuffer();
    const all = meta.directions.dtype === "float16" ? widened(new Uint16Array(data)) : new Float32Array(data);
    controls.directions = meta.attributes.map((_, i) => all.subarray(i * size, (i + 1) * size));
  }
  await model.ask("load", { meta });
  wire();
  document.querySelectorAll("[disabled]").forEach((control) => (control.disabled = false));
  find("progress").hidden = true;
  find("status").textContent = "The model runs in this browser.";
  await frame.ask(); // in which the browser still compiles: the next one is timed
  await Promise.all([frame.ask(), ...thumbnails.map((thumbnail) => thumbnail.ask())]);
  document.documentElement.dataset.state = "ready";
  await keep().catch(() => {}); // a browser that keeps nothing still shows the page
}

start().catch(fail);
