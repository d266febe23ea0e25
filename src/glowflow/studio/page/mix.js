// Mix: a place between two to four pictures.

import * as api from "./api.js";
import { byId, fit, make, paint, save } from "./draw.js";
import { newestWins } from "./live.js";

const MOST = 4;
const STEP = 0.02;
const clamp = (value) => Math.min(1, Math.max(0, value));

export function mixTab(studio) {
  const { model } = studio;
  let chosen = [];
  let place = [0.5, 0.5];
  fit(byId("mixed"), model);

  const live = newestWins(
    (asked) => api.mix(asked),
    ({ pixels, concern }) => {
      paint(byId("mixed"), pixels, model.channels);
      if (concern) studio.say("The mix leaves what the model can decode: move towards a corner.");
    },
    (error) => studio.say(error.message),
  );

  const asked = () => ({
    pictures: chosen.map(({ picture }) => picture),
    across: place[0],
    down: chosen.length > 2 ? place[1] : 0,
    curve: byId("curve").value,
  });

  function follow(since) {
    const field = byId("field");
    field.style.setProperty("--u", place[0]);
    field.style.setProperty("--v", chosen.length > 2 ? place[1] : 0.5);
    const percent = place.map((share) => Math.round(100 * share));
    field.setAttribute("aria-valuenow", percent[0]);
    field.setAttribute("aria-valuetext", `${percent[0]} % to the right${chosen.length > 2 ? `, ${percent[1]} % down` : ""}`);
    const few = chosen.length < 2;
    for (const name of ["mix-keep", "mix-animation"]) byId(name).disabled = few;
    if (!few) live(asked(), since);
  }

  function corners() {
    byId("pad").classList.toggle("flat", chosen.length < 3);
    byId("corners").replaceChildren(...chosen.map(({ png, name }, i) => make("img", {
      src: png, alt: name, className: i === 2 && chosen.length === 3 ? "middle" : `c${i}`,
    })));
    studio.numbers(chosen.map(({ picture }) => picture));
    follow();
  }

  function toggle(picture) {
    const at = chosen.findIndex((each) => each.picture === picture.picture);
    if (at >= 0) chosen.splice(at, 1);
    else if (chosen.length < MOST) chosen.push(picture);
    else { studio.say("Four pictures are the most: take one away first."); return; }
    corners();
  }

  const field = byId("field");
  function to(event) {
    const box = field.getBoundingClientRect();
    place = [clamp((event.clientX - box.left) / box.width), clamp((event.clientY - box.top) / box.height)];
    follow(event.timeStamp);
  }
  const pad = byId("pad"); // with the pictures at its corners
  pad.addEventListener("pointerdown", (event) => { event.preventDefault(); pad.setPointerCapture(event.pointerId); field.focus({ focusVisible: false }); to(event); });
  pad.addEventListener("pointermove", (event) => { if (pad.hasPointerCapture(event.pointerId)) to(event); });
  field.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] }[event.key];
    if (!by) return;
    event.preventDefault();
    place = place.map((share, i) => clamp(share + by[i]));
    follow(event.timeStamp);
  });
  byId("curve").addEventListener("change", () => follow());
  byId("mix-keep").addEventListener("click", () => studio.doing(byId("mix-keep"), async () => {
    studio.add([await api.keepMix(asked())], { choose: false });
  }));
  byId("mix-animation").addEventListener("click", () => studio.doing(byId("mix-animation"), async () => {
    const places = chosen.length === 2 ? [[0, 0], [1, 0]]
      : chosen.length === 3 ? [[0, 0], [1, 0], [0.5, 1], [0, 0]] : [[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]];
    const { pictures, curve } = asked();
    save(await api.mixAnimation({ pictures, places, curve }), "mix.gif");
  }));

  return {
    toggle,
    opened() {
      if (!chosen.length) chosen = studio.pictures().slice(0, 2);
      corners();
    },
  };
}
