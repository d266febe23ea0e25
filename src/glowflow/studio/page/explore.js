// Explore: pictures of the model's data on the axes of their codes, and walks along an axis.

import * as api from "./api.js";
import { byId, fit, make, paint, paintUri, slider, words } from "./draw.js";
import { newestWins } from "./live.js";
import { sized, svg } from "./plots.js";

const AGAIN = 600;
const NEAR = 18; // pixels from a point at which it is meant
const EDGE = 26;

export function exploreTab(studio) {
  const { model } = studio;
  const plot = byId("plot");
  const taken = new Map();
  let found = null;
  let sheet = "";
  let spots = []; // where the points are on the screen
  let at = -1; // the point that is looked at
  let picture = null;
  let place = null; // of the picture, along all axes
  let waiting = false;
  fit(byId("walked"), model);

  const live = newestWins(
    (asked) => api.walk(asked),
    ({ pixels, concern }) => {
      paint(byId("walked"), pixels, model.channels);
      if (concern) studio.say("The way leaves what the model can decode: move the slider back.");
    },
    (error) => studio.say(error.message),
  );

  const part = () => Number(byId("explore-part").value);
  const across = () => Number(byId("explore-x").value);
  const up = () => Number(byId("explore-y").value);
  const fromMiddle = () => byId("explore-from").value === "middle" || !picture;
  const asked = () => ({
    picture: fromMiddle() ? null : picture.picture, part: part(), axis: across(), amount: amount.value,
    label: model.classes ? Number(byId("class").value) : null,
  });

  const amount = slider(byId("walk").parentElement, (_, since) => { follow(since); draw(); });

  function follow(since) {
    byId("walk-keep").disabled = !found || amount.value === 0;
    byId("walk-edit").disabled = !picture;
    if (found) live(asked(), since);
  }

  async function load() {
    if (waiting) return;
    waiting = true;
    try {
      const answer = await api.explore();
      if (answer.state !== "ready") {
        const { done, total, state } = answer;
        byId("explore-progress").hidden = false;
        byId("explore-bar").value = total ? done / total : 0;
        byId("explore-state").textContent = state === "reading" ? "The images of the data are being read or drawn." : `The images of the data are being encoded: ${done} of ${total}.`;
        setTimeout(() => { waiting = false; if (!byId("explore").hidden) load(); }, AGAIN);
        return;
      }
      if (!answer.pictures && !sheet) sheet = URL.createObjectURL(await api.exploreSheet());
      found = answer;
      byId("explore-progress").hidden = true;
      byId("explore-rest").hidden = false;
      choices();
      await locate();
    } catch (error) { studio.say(error.message); }
    waiting = false;
  }

  function choices() {
    const { parts, attributes, told, source } = found;
    const kept = [byId("explore-part"), byId("explore-colour")].map(({ value }) => value);
    byId("explore-part").replaceChildren(...parts.map((_, i) => make("option", {
      value: i, textContent: i === 0 ? "all levels" : `level ${i}${i === 1 ? ", finest" : i === parts.length - 1 ? ", coarsest" : ""}`,
    })));
    byId("explore-colour").replaceChildren(make("option", { value: "", textContent: "nothing" }),
      ...attributes.map(({ name }, i) => make("option", { value: i, textContent: words(name) })));
    byId("explore-part").value = kept[0] || 0;
    byId("explore-colour").value = kept[1] || (attributes.length ? 0 : "");
    byId("explore-colour").parentElement.hidden = !attributes.length;
    byId("explore-told").hidden = !told;
    byId("explore-told").textContent = `${told} These are the pictures below; add some, and come back.`;
    byId("explore-source").textContent = told ? "" : `Shown are ${parts[0].points.length} images (${source}); those far off are at the edge.`;
    axes();
  }

  function axes() {
    const { shares } = found.parts[part()];
    for (const [name, first] of [["explore-x", 0], ["explore-y", 1]]) {
      const before = Number(byId(name).value || first);
      byId(name).replaceChildren(...shares.map((share, i) => make("option", { value: i, textContent: `axis ${i + 1} (${(100 * share).toFixed(1)} %)` })));
      byId(name).value = Math.min(before, shares.length - 1);
    }
    named();
  }

  function named() {
    byId("walk").parentElement.querySelector("span").textContent = `Along axis ${across() + 1}`;
  }

  function draw() {
    if (!found || byId("explore").hidden) return;
    const [width, height] = sized(plot);
    const { points } = found.parts[part()];
    const own = place?.parts[part()];
    const chosen = fromMiddle() ? [0, 0] : own && [own[across()], own[up()]];
    const x = scale(points.map((each) => each[across()]), EDGE, width - EDGE);
    const y = scale(points.map((each) => each[up()]), height - EDGE, EDGE);
    spots = points.map((each) => [x(each[across()]), y(each[up()])]);
    const attribute = found.attributes[byId("explore-colour").value];
    const marks = spots.map(([cx, cy], i) => mark(i, cx, cy, attribute));
    const lines = [svg("line", { x1: 0, x2: width, y1: y(0), y2: y(0), class: "grid" }), svg("line", { x1: x(0), x2: x(0), y1: 0, y2: height, class: "grid" })];
    const labels = [svg("text", { x: width - 6, y: y(0) - 6, "text-anchor": "end" }, `axis ${across() + 1} →`), svg("text", { x: x(0) + 6, y: 14 }, `↑ axis ${up() + 1}`)];
    plot.replaceChildren(...lines, ...marks, ...labels);
    if (chosen) {
      const [cx, cy] = [x(chosen[0]), y(chosen[1])];
      const to = x(chosen[0] + amount.value);
      plot.append(svg("line", { class: "way", x1: cx, x2: to, y1: cy, y2: cy }), svg("circle", { class: "own", cx: to, cy, r: 8 }));
    }
    if (at >= 0 && spots[at]) plot.append(svg("circle", { class: "looked", cx: spots[at][0], cy: spots[at][1], r: 9 }));
    legend(attribute);
  }

  // Where values lie between two ends; the few that are far off are put at the ends.
  function scale(values, from, to) {
    const sorted = values.toSorted((a, b) => a - b);
    const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
    const [low, high] = [Math.min(-0.5, at(0.01)), Math.max(0.5, at(0.99))];
    return (value) => from + (to - from) * Math.min(1, Math.max(0, (value - low) / (high - low)));
  }

  function mark(i, cx, cy, attribute) {
    if (found.pictures) {
      const own = studio.pictures().find((each) => each.picture === found.pictures[i]);
      if (own) return svg("image", { href: own.png, x: cx - 16, y: cy - 16, width: 32, height: 32 });
    }
    return svg("circle", { cx, cy, r: 4, class: !attribute ? "dot" : attribute.true[i] === "1" ? "dot with" : "dot without" });
  }

  function legend(attribute) {
    byId("explore-legend").hidden = !attribute;
    if (!attribute) return;
    const many = [...attribute.true].filter((each) => each === "1").length;
    byId("legend-with").textContent = `${words(attribute.name)} (${many})`;
    byId("legend-without").textContent = `not (${attribute.true.length - many})`;
  }

  function look(i) {
    at = i;
    const tip = byId("tip");
    tip.hidden = i < 0;
    if (i < 0) { draw(); return; }
    const shows = found.attributes.filter((each) => each.true[i] === "1").map(({ name }) => words(name));
    const said = shows.slice(0, 5).join(", ") || `image ${i + 1}`;
    byId("tip-words").textContent = said;
    byId("explore-said").textContent = `${said}. Enter takes it.`;
    const [wide, high] = found.cell;
    const image = byId("tip-image");
    const zoom = 72 / Math.max(wide, high, 1);
    const own = found.pictures && studio.pictures().find((each) => each.picture === found.pictures[i]);
    Object.assign(image.style, own
      ? { width: "72px", height: `${72 * model.height / model.width}px`, backgroundImage: `url("${own.png}")`, backgroundSize: "100%", backgroundPosition: "0 0" }
      : { width: `${wide * zoom}px`, height: `${high * zoom}px`, backgroundImage: `url("${sheet}")`, backgroundSize: `${found.columns * wide * zoom}px`,
        backgroundPosition: `${-(i % found.columns) * wide * zoom}px ${-Math.floor(i / found.columns) * high * zoom}px` });
    const [x, y] = spots[i];
    const { width, height } = plot.getBoundingClientRect();
    Object.assign(tip.style, { left: `${Math.min(Math.max(0, x + 14), width - 120)}px`, top: `${y + 120 > height ? y - 124 : y + 12}px` });
    draw();
  }

  function nearest(event) {
    const box = plot.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const far = spots.map(([a, b]) => Math.hypot(a - x, b - y));
    const best = far.indexOf(Math.min(...far));
    return far[best] < NEAR ? best : -1;
  }

  // The nearest point within 45 degrees of where the arrow shows.
  function towards([right, down]) {
    const [x, y] = spots[at];
    let [best, least] = [at, Infinity];
    spots.forEach(([a, b], i) => {
      const along = (a - x) * right + (b - y) * down;
      const aside = Math.abs((a - x) * down) + Math.abs((b - y) * right);
      if (i !== at && along > 0 && aside <= along && along + aside < least) [best, least] = [i, along + aside];
    });
    return best;
  }

  async function take(i) {
    if (i < 0) return;
    try {
      if (found.pictures) {
        const own = studio.pictures().find((each) => each.picture === found.pictures[i]);
        if (own) studio.add([own]);
        return;
      }
      const known = studio.pictures().find((each) => each.picture === taken.get(i));
      const one = known ?? await api.takeExplored(i);
      taken.set(i, one.picture);
      byId("explore-from").value = "picture";
      studio.add([one]);
    } catch (error) { studio.say(error.message); }
  }

  async function locate() {
    amount.put(0);
    place = null;
    const wanted = picture;
    if (wanted) {
      paintUri(byId("walked"), wanted.png);
      try { place = await api.place(wanted.picture); } catch { /* too few pictures for a chart */ }
      if (picture !== wanted) return;
    }
    byId("walk-words").textContent = fromMiddle() ? "The average picture of these images." : picture.name || "The chosen picture.";
    follow();
    draw();
  }

  plot.addEventListener("pointermove", (event) => { if (event.pointerType === "mouse") { const i = nearest(event); if (i !== at) look(i); } });
  plot.addEventListener("pointerleave", () => look(-1));
  plot.addEventListener("click", (event) => { const i = nearest(event); look(i); take(i); });
  plot.addEventListener("focus", () => { if (at < 0 && plot.matches(":focus-visible") && spots.length) look(0); });
  plot.addEventListener("blur", () => look(-1));
  plot.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (way) { event.preventDefault(); look(at < 0 ? 0 : towards(way)); }
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); take(at); }
    if (event.key === "Escape") look(-1);
  });
  byId("explore-part").addEventListener("change", () => { axes(); locate(); });
  for (const name of ["explore-x", "explore-from"]) byId(name).addEventListener("change", () => { named(); locate(); });
  for (const name of ["explore-y", "explore-colour"]) byId(name).addEventListener("change", draw);
  byId("walk-edit").addEventListener("click", () => studio.show(model.attributes.length ? "edit" : "levels"));
  byId("walk-keep").addEventListener("click", () => studio.doing(byId("walk-keep"), async () => {
    studio.add([await api.keepWalked(asked())], { choose: false });
    studio.say("It is among the pictures below.");
  }));
  new ResizeObserver(draw).observe(plot);

  return {
    chosen(next) {
      [picture, place] = [next, null];
      if (!found || byId("explore").hidden) return;
      if (found.pictures && !found.pictures.includes(next.picture)) load(); else locate();
    },
    opened() { if (!found || found.pictures) load(); else locate(); },
  };
}
