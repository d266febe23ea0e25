// Edit: sliders that move the picture along attributes.

import * as api from "./api.js";
import { bitsPerDim, byId, fit, histogram, make, newSlider, paint, paintUri, rank, save, slider, words } from "./draw.js";
import { newestWins } from "./live.js";

const RANGE = { min: -2, max: 2, step: 0.05, value: 0 };
const REST = 250; // milliseconds without a new value, after which the picture is scored

export function editTab(studio) {
  const { model } = studio;
  const sliders = new Map();
  let picture = null;
  let history = [];
  let resting = 0;
  let scoring = null;

  for (const canvas of [byId("after"), byId("before")]) fit(canvas, model);

  const live = newestWins(
    ({ id, asked }) => api.edit(id, asked),
    ({ pixels, concern }, { id }) => {
      if (picture?.picture !== id) return;
      paint(byId("after"), pixels, model.channels);
      if (concern) studio.say("The picture leaves what the model can decode: move the sliders back.");
    },
    (error) => studio.say(error.message),
  );

  const temperature = slider(byId("edit-temperature").parentElement, (_, since) => moved(since));

  function asked() {
    const amounts = {};
    for (const [name, each] of sliders) if (each.now() !== 0) amounts[name] = each.now();
    const target = model.classes ? Number(byId("target").value) : null;
    const [comes, goes] = [byId("instead-new").value, byId("instead-old").value];
    return { amounts, temperature: temperature.value, target, instead: comes && goes ? { [comes]: [goes] } : {} };
  }

  function moved(since) {
    for (const { label, now } of sliders.values()) label.classList.toggle("moved", now() !== 0);
    byId("reset").disabled = same(asked(), nothing());
    if (!picture) return;
    live({ id: picture.picture, asked: asked() }, since);
    clearTimeout(resting);
    scoring?.abort();
    resting = setTimeout(score, REST);
  }

  const nothing = () => ({ amounts: {}, temperature: 1, target: picture?.label ?? (model.classes ? Number(byId("target").value) : null), instead: {} });
  const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

  function settled() {
    const now = asked();
    if (!history.length || !same(history.at(-1), now)) history.push(now);
    byId("undo").disabled = history.length < 2;
  }

  function put(state) {
    for (const [name, each] of sliders) each.put(state.amounts[name] ?? 0);
    temperature.put(state.temperature);
    if (model.classes) byId("target").value = state.target ?? 0;
    const [comes = "", [goes] = [""]] = Object.entries(state.instead)[0] ?? [];
    byId("instead-new").value = comes;
    byId("instead-old").value = goes;
    apart();
    moved();
  }

  // Nothing comes instead of itself.
  function apart() {
    const comes = byId("instead-new").value;
    for (const option of byId("instead-old").options) option.disabled = option.value !== "" && option.value === comes;
    if (byId("instead-old").selectedOptions[0]?.disabled) byId("instead-old").value = "";
  }

  function undo() {
    if (history.length < 2) return;
    history.pop();
    put(history.at(-1));
    byId("undo").disabled = history.length < 2;
  }

  // What lies where, among images that the model was not trained on.
  async function score() {
    if (!picture) return;
    scoring = new AbortController();
    const { signal } = scoring;
    try {
      const figures = await api.scoreEdit(picture.picture, asked(), signal);
      if (!signal.aborted) meter(figures.bits_per_dim);
    } catch (error) {
      if (error.name !== "AbortError" && error.status !== 503) studio.say(error.message);
    }
  }

  function meter(bits) {
    const { reference } = studio;
    byId("meter").hidden = false;
    const said = make("b", { textContent: bitsPerDim(bits) });
    byId("meter").classList.toggle("bare", !reference?.images);
    if (!reference?.images) {
      byId("meter-words").replaceChildren(said, reference?.told ? "" : ", held-out images are being scored…");
      for (const pin of document.querySelectorAll(".pin")) pin.hidden = true;
      return;
    }
    const { path, x } = histogram(reference, 46);
    byId("meter-shape").setAttribute("d", path);
    place(byId("meter-pin"), x(bits));
    place(byId("meter-first"), x(picture.bits_per_dim));
    const share = rank(reference, bits);
    const where = share === 1 ? "less likely than every held-out image"
      : share === 0 ? "likelier than every held-out image"
        : `less likely than ${Math.round(100 * share)} % of held-out images`;
    byId("meter-words").replaceChildren(said, `, ${where}`);
    byId("meter-words").title = `${reference.images} images: ${reference.source}. The thin line is the picture before the edit.`;
  }

  function place(pin, share) {
    pin.hidden = false;
    pin.classList.toggle("off", share > 1 || share < 0);
    pin.style.setProperty("--at", `${100 * Math.min(1, Math.max(0, share))}%`);
  }

  function build() {
    byId("sliders").replaceChildren();
    for (const attribute of model.attributes) {
      const made = newSlider(words(attribute.name), RANGE, (_, since) => moved(since));
      made.label.classList.add("attribute");
      made.label.append(leak(attribute));
      made.input.addEventListener("change", settled);
      made.label.firstChild.addEventListener("dblclick", () => { made.put(0); moved(); settled(); });
      made.input.dataset.attribute = attribute.name;
      byId("sliders").append(made.label);
      sliders.set(attribute.name, made);
    }
    const measured = model.attributes.some(({ leakage }) => leakage !== null);
    byId("no-sliders").hidden = model.attributes.length > 0;
    byId("leak-words").textContent = measured ? "The dot says how much of the other attributes changes too, as measured." : "";
    byId("more").hidden = !model.attributes.length && !model.classes;
    byId("instead-field").hidden = !model.exchangeable;
    for (const [name, none] of [["instead-new", "Nothing"], ["instead-old", "nothing"]]) {
      const options = model.attributes.map((each) => make("option", { value: each.name, textContent: words(each.name) }));
      byId(name).replaceChildren(make("option", { value: "", textContent: none }), ...options);
    }
    byId("target-field").hidden = !model.classes;
    byId("target").replaceChildren(...studio.classOptions());
  }

  function leak({ leakage, flip, amount }) {
    if (leakage === null) return make("span", { className: "leak none" });
    const said = make("span", { className: "leak", textContent: `${(100 * leakage).toFixed(1)} %` });
    said.title = `Moved by ${amount}, ${Math.round(100 * flip)} % of held-out images changed this attribute, and ${(100 * leakage).toFixed(1)} % of their other attributes changed too.`;
    said.style.setProperty("--strength", Math.min(1, 0.12 + 8 * leakage));
    return said;
  }

  // Before and after.
  const frame = byId("edit-frame");
  const hold = (on) => frame.classList.toggle("held", on);
  byId("hold").addEventListener("pointerdown", () => hold(true));
  for (const name of ["pointerup", "pointerleave", "pointercancel"]) byId("hold").addEventListener(name, () => hold(false));
  byId("hold").addEventListener("keydown", ({ key }) => { if (key === " " || key === "Enter") hold(true); });
  byId("hold").addEventListener("keyup", () => hold(false));
  byId("divider").addEventListener("input", ({ target }) => {
    frame.style.setProperty("--share", target.value);
    frame.classList.toggle("divided", target.value > 0);
  });

  byId("undo").addEventListener("click", undo);
  byId("reset").addEventListener("click", () => { put(nothing()); settled(); });
  byId("edit-temperature").addEventListener("change", settled);
  byId("target").addEventListener("change", () => { moved(); settled(); });
  for (const name of ["instead-new", "instead-old"]) byId(name).addEventListener("change", () => { apart(); moved(); settled(); });
  byId("download").addEventListener("click", async ({ target }) => {
    const button = target.closest("button");
    if (!button || !picture) return;
    byId("download").open = false;
    const plain = (picture.name || "picture").replace(/\.[^.]*$/, "").replace(/[^\p{L}\p{N}-]+/gu, "-");
    await studio.doing(button, async () => {
      if (button.id === "original") save(await api.image(picture.picture), `${plain}.png`);
      else save(await api.editedFile(picture.picture, button.dataset.file, asked()), `${plain}-${button.dataset.file}`);
    });
  });
  byId("keep").addEventListener("click", () => studio.doing(byId("keep"), async () => {
    studio.add([await api.keepEdit(picture.picture, asked())], { choose: false });
  }));
  document.addEventListener("click", ({ target }) => { if (!target.closest("#download")) byId("download").open = false; });
  byId("download").addEventListener("keydown", ({ key }) => {
    if (key !== "Escape") return;
    byId("download").open = false;
    byId("download").firstElementChild.focus();
  });

  build();
  return {
    chosen(next) {
      const another = picture?.picture !== next.picture;
      picture = next;
      if (!another) return;
      paintUri(byId("before"), next.png);
      byId("after").setAttribute("aria-label", `The edited picture: ${next.name}`);
      byId("pasted").hidden = !next.photograph;
      byId("before").getContext("2d");
      if (model.classes) byId("target").value = next.label ?? 0;
      history = [];
      settled();
      moved();
    },
    measured() { if (picture) meter(picture.bits_per_dim); score(); },
    key(event) {
      if (event.key === "b" && !event.repeat) hold(true);
      if (event.key === "z" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); undo(); }
    },
    keyUp({ key }) { if (key === "b") hold(false); },
  };
}
