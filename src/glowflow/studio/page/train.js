// Train: the runs of a folder, what becomes of them, and a new one.

import * as api from "./api.js";
import { byId, make, words } from "./draw.js";
import { curves, short } from "./plots.js";
import { starter } from "./starter.js";

const AGAIN = 2_500;
const STATES = { training: "training", stopping: "stopping", elsewhere: "training, not from here", ended: "" };
const OF_LEVELS = [["bits_by_level", "bits/dim"], ["condition_by_level", "largest cond(W)"], ["smallest_scale_by_level", "smallest scale"], ["largest_scale_by_level", "largest scale"]];
const ONE = [["valid_bits_per_dim", "held-out bits/dim"], ["images_per_second", "images a second"], ["grad_norm", "gradient norm"], ["round_trip_error", "round-trip error"], ["samples_not_finite", "samples not finite"], ["samples_far", "samples far off"]];

export function trainTab(studio) {
  let chosen = null;
  let known = [];
  let child = null;
  let shown = null; // what is drawn of the chosen run
  let sheet = "";
  let told = "";
  let timer = 0;
  let polling = false;
  const visible = () => !byId("train").hidden && !document.hidden;

  async function poll() {
    clearTimeout(timer);
    if (!visible() || polling) return;
    polling = true;
    await ask();
    polling = false;
  }

  async function ask() {
    try {
      const answer = await api.runs();
      [known, child] = [answer.runs, answer.child];
      if (child?.told && child.told !== told) studio.say(`${child.run}: ${child.told}`);
      told = child?.told ?? "";
      byId("train-folder").textContent = answer.folder ? `Runs in ${answer.folder}` : "This studio has no folder of runs.";
      byId("train-new").disabled = !answer.folder || Boolean(child && child.state !== "ended");
      if (!known.some(({ run }) => run === chosen)) chosen = known[0]?.run ?? null;
      list();
      await look();
      timer = setTimeout(poll, AGAIN);
    } catch (error) {
      studio.say(error.message);
      timer = setTimeout(poll, 4 * AGAIN);
    }
  }

  function list() {
    const starting = child && child.state !== "ended" && !known.some(({ run }) => run === child.run);
    byId("train-none").hidden = known.length > 0 || starting;
    byId("train-starting").hidden = !starting;
    byId("train-starting").textContent = starting ? `${child.run} reads its images.` : "";
    const focused = document.activeElement?.closest(".run")?.dataset.run;
    byId("runs").replaceChildren(...known.map((run) => {
      const button = make("button", { className: "run", type: "button" }, make("b", { textContent: run.run }),
        make("small", { textContent: run.told || about(run) }));
      button.dataset.run = run.run;
      button.setAttribute("aria-pressed", String(run.run === chosen));
      if (run.state !== "ended") button.classList.add("alive");
      button.addEventListener("click", () => { chosen = run.run; list(); look(); });
      return button;
    }));
    if (focused) [...byId("runs").children].find(({ dataset }) => dataset.run === focused)?.focus();
  }

  function about({ state, valid_bits_per_dim: held, bits_per_dim: seen, images }) {
    const figure = held ?? seen;
    const said = [STATES[state], figure == null ? "" : `${figure.toFixed(3)} bits/dim`, images ? `${short(images)} images` : figure == null ? "no figures yet" : "before the first step"];
    return said.filter(Boolean).join(" · ");
  }

  async function look() {
    byId("run").hidden = !chosen;
    if (!chosen) return;
    const run = known.find((each) => each.run === chosen);
    let found;
    try { found = await api.run(chosen); } catch (error) { byId("run").hidden = true; if (!run?.told) studio.say(error.message); return; }
    if (found.run !== chosen) return;
    byId("run-name").textContent = found.run;
    byId("run-words").textContent = `${words(run.data)}; ${progress(run)}`;
    const ours = child?.run === chosen && child.state !== "ended";
    byId("run-stop").hidden = !ours;
    byId("run-stop").disabled = child?.state === "stopping";
    byId("run-stop").textContent = child?.state === "stopping" ? "Stopping…" : "Stop";
    byId("run-resume").hidden = run.state !== "ended" || !run.images || finished(run);
    byId("run-resume").disabled = Boolean(child && child.state !== "ended");
    byId("run-open").hidden = !run.model || run.model === studio.model.name;
    byId("run-config").textContent = found.configuration;
    draw(found);
    health(found);
    if (found.sheet !== sheet || shown?.run !== found.run) await samples(found);
    shown = found;
  }

  const finished = (run) => run.images >= run.of_images || (run.minutes !== null && run.seconds >= 60 * run.minutes);
  function progress(run) {
    const seconds = Math.round(run.seconds);
    const lasted = seconds < 90 ? `${seconds} s` : seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
    const whole = run.minutes === null ? `${short(run.images)} of ${short(run.of_images)} images` : `${short(run.images)} images`;
    return `${whole} in ${lasted}${run.minutes === null ? "" : ` of ${run.minutes} min`}${run.state === "ended" ? finished(run) ? ", to its end" : ", stopped" : ""}.`;
  }

  function draw({ curves: { bits_per_dim: train, valid_bits_per_dim: valid } }) {
    byId("curves").parentElement.hidden = !train.length && !valid.length;
    curves(byId("curves"), { train, valid }, "training images", "bits/dim");
  }

  const figure = (value) => (value === null || value === undefined ? "not finite" : Number.isInteger(value) ? String(value) : Math.abs(value) >= 1e4 || Math.abs(value) < 1e-3 ? value.toExponential(1) : value.toPrecision(3));

  function health({ health: figures, warnings }) {
    byId("run-warnings").replaceChildren(...warnings.map((said) => make("p", { className: "wrong", textContent: said })));
    const levels = Math.max(0, ...OF_LEVELS.map(([name]) => figures[name]?.length ?? 0));
    const table = byId("run-health");
    table.parentElement.hidden = !levels;
    table.tHead.replaceChildren(make("tr", {}, make("th"), ...Array.from({ length: levels }, (_, i) => make("th", { scope: "col", textContent: `level ${i + 1}` }))));
    table.tBodies[0].replaceChildren(...OF_LEVELS.filter(([name]) => figures[name]).map(([name, title]) => make("tr", {}, make("th", { scope: "row", textContent: title }), ...figures[name].map((value) => make("td", { textContent: figure(value) })))));
    byId("run-figures").replaceChildren(...ONE.filter(([name]) => name in figures).map(([name, title]) => make("div", {}, make("b", { textContent: figure(figures[name]) }), make("span", { textContent: title }))));
    byId("run-well").hidden = warnings.length > 0 || !levels;
  }

  async function samples(found) {
    sheet = found.sheet;
    const image = byId("run-samples");
    image.parentElement.hidden = !sheet;
    if (!sheet) return;
    const blob = await api.runSamples(found.run);
    if (found.run !== chosen) return;
    URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(blob);
    byId("run-samples-words").textContent = `Samples after ${short(Number(sheet))} images; from the top, temperatures 0 to 1.`;
  }

  const form = starter(studio, (run) => { chosen = run; poll(); });
  byId("train-new").addEventListener("click", form.open);
  byId("run-stop").addEventListener("click", () => studio.doing(byId("run-stop"), async () => {
    await api.stopRun();
    studio.say("The run ends after this step, with a checkpoint and a last validation.");
    await poll();
  }));
  byId("run-resume").addEventListener("click", () => studio.doing(byId("run-resume"), async () => { await api.resumeRun(chosen); await poll(); }));
  byId("run-open").addEventListener("click", () => { location.search = new URLSearchParams({ model: known.find(({ run }) => run === chosen).model }); });
  document.addEventListener("visibilitychange", poll);
  new ResizeObserver(() => { if (shown && visible()) draw(shown); }).observe(byId("curves"));

  return { opened: poll };
}
