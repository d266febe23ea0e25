// Score: how strange pictures are to the model.

import * as api from "./api.js";
import { bitMap } from "./bitmap.js";
import { byId, histogram, make, save } from "./draw.js";

const COLUMNS = [
  ["name", "name"], ["bits_per_dim", "bits/dim"], ["p_log_prob", "p likelihood"],
  ["p_typicality", "p typicality"], ["complexity", "complexity, bits"], ["p_complexity", "p complexity"],
];
const STRANGE = 0.01;
const MOST = 500;
const PICTURES = /\.(png|jpe?g|webp|gif|bmp|tiff?|ppm)$/i;

export function scoreTab(studio) {
  let rows = [];
  let order = ["p_complexity", 1];
  let waiting = 0;
  const map = bitMap(studio);

  async function scoreAll(files) {
    const some = files.filter((file) => file.type.startsWith("image/") || PICTURES.test(file.name));
    if (!some.length) { studio.say("There are no pictures among these files."); return; }
    if (some.length > MOST) studio.say(`The first ${MOST} of ${some.length} pictures are scored: glow score takes more.`);
    const asked = some.slice(0, MOST);
    waiting += asked.length;
    for (const file of asked) {
      try {
        rows.push({ ...await api.score(file), file });
      } catch (error) {
        rows.push({ name: file.name, wrong: error.message });
        if (error.status === 0 || error.status === 404) { waiting = 0; show(); return; }
      }
      waiting -= 1;
      show();
    }
  }

  function show() {
    const [by, way] = order;
    const figure = (row) => (row.wrong ? Infinity : typeof row[by] === "number" ? row[by] : row[by] ?? Infinity);
    rows.sort((a, b) => way * (by === "name" ? String(a.name).localeCompare(b.name) : figure(a) - figure(b)));
    const known = COLUMNS.filter(([name]) => name === "name" || rows.some((row) => row[name] !== undefined));
    byId("scores").hidden = !rows.length;
    byId("score-actions").hidden = !rows.length;
    byId("scores").tHead.replaceChildren(make("tr", {}, make("th"), ...known.map(([name, title]) => {
      const head = make("th", { scope: "col" }, make("button", { textContent: title }));
      if (name === by) head.ariaSort = way > 0 ? "ascending" : "descending";
      head.firstChild.addEventListener("click", () => { order = [name, name === by ? -way : 1]; show(); });
      return head;
    })));
    byId("scores").tBodies[0].replaceChildren(...rows.map((row) => {
      const line = make("tr", {}, make("td", {}, row.png ? make("img", { src: row.png, alt: "" }) : ""));
      line.append(make("td", { className: "name", textContent: row.name, title: row.name }));
      if (row.wrong) line.append(make("td", { className: "wrong", colSpan: known.length - 1, textContent: row.wrong }));
      else for (const [name] of known.slice(1)) line.append(make("td", { textContent: shown(name, row[name]) }));
      line.classList.toggle("strange", strange(row));
      if (row.file) line.firstChild.replaceChildren(mapButton(row));
      return line;
    }));
    const scored = rows.filter((row) => !row.wrong);
    const judged = scored.some((row) => row.p_typicality !== undefined);
    const count = scored.filter(strange).length;
    byId("score-words").textContent = `${scored.length} scored${waiting > 0 ? `, ${waiting} to come` : ""}${judged ? `; ${count} with p ≤ ${STRANGE}` : ""}.`;
    plot();
  }

  function mapButton({ file, png, name }) {
    const button = make("button", { className: "plain", title: "Where its bits are spent" }, make("img", { src: png, alt: `Map of ${name}` }));
    button.addEventListener("click", () => { map.show(file, png, name); byId("map").scrollIntoView({ block: "nearest" }); });
    return button;
  }

  const strange = (row) => Math.min(row.p_complexity ?? 1, row.p_typicality ?? 1) <= STRANGE;
  const shown = (name, value) => (value === undefined ? "" : name === "complexity" ? value.toFixed(0) : value.toFixed(3));

  function plot() {
    const { reference } = studio;
    byId("histogram").hidden = !reference?.images;
    if (!reference?.images) return;
    const { path, x } = histogram(reference, 120);
    const svg = byId("histogram").querySelector("svg");
    const mark = (tag, attributes) => {
      const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
      return element;
    };
    svg.replaceChildren(mark("path", { d: path }), ...rows.filter((row) => !row.wrong).map((row) => {
      const at = 400 * Math.min(1, Math.max(0, x(row.bits_per_dim)));
      return mark("line", { x1: at, x2: at, y1: 60, y2: 120 });
    }));
    byId("histogram-words").textContent = `Bits/dim of ${reference.images} held-out images (${reference.source.split(", SHA")[0]}), from ${reference.low.toFixed(2)} to ${reference.high.toFixed(2)}; a line for each picture that is scored.`;
  }

  async function* within(entry) {
    if (entry.isFile) { yield await new Promise((done, failed) => { entry.file(done, failed); }); return; }
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((done, failed) => { reader.readEntries(done, failed); });
      if (!some.length) return;
      for (const each of some) yield* within(each);
    }
  }

  const drop = byId("drop");
  drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", async (event) => {
    event.preventDefault();
    event.stopPropagation();
    drop.classList.remove("over");
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const files = entries.length ? [] : [...event.dataTransfer.files];
    for (const entry of entries) for await (const file of within(entry)) files.push(file);
    await scoreAll(files);
  });
  for (const name of ["score-files", "score-folder"]) {
    byId(name).addEventListener("change", ({ target }) => { scoreAll([...target.files]); target.value = ""; });
  }
  byId("score-tray").addEventListener("click", () => studio.doing(byId("score-tray"), async () => {
    const files = await Promise.all(studio.pictures().map(async ({ picture, name }) => new File([await api.image(picture)], name || "picture", { type: "image/png" })));
    await scoreAll(files);
  }));
  byId("score-clear").addEventListener("click", () => { rows = []; show(); });
  byId("score-csv").addEventListener("click", () => {
    const quote = (value) => (/[",\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : value);
    const lines = [COLUMNS.map(([name]) => name), ...rows.filter((row) => !row.wrong).map((row) => COLUMNS.map(([name]) => row[name] ?? ""))];
    save(new Blob([`${lines.map((line) => line.map(quote).join(",")).join("\n")}\n`], { type: "text/csv" }), "scores.csv");
  });

  return { opened() { plot(); map.opened(); }, measured: plot, chosen: map.chosen };
}
