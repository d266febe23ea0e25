// The page: opens a model, keeps the pictures, and lets the tabs know.

import * as api from "./api.js";
import { byId, make, words } from "./draw.js";
import { editTab } from "./edit.js";
import { exploreTab } from "./explore.js";
import { levelsTab } from "./levels.js";
import { mixTab } from "./mix.js";
import { photographs } from "./photo.js";
import { sampleTab } from "./sample.js";
import { scoreTab } from "./score.js";
import { trainTab } from "./train.js";

const STAY = 60_000;
const AGAIN = 4_000; // until a busy studio is asked again, or what the held-out images are like
const TABS = ["edit", "sample", "mix", "levels", "explore", "score", "train"];

theme();
start();

async function start() {
  api.readToken();
  const wanted = new URLSearchParams(location.search).get("model");
  let first;
  try {
    first = await api.open(wanted);
  } catch (error) {
    if (error.status === 401 && api.askToken(error.message)) { start(); return; }
    if (error.status === 503) setTimeout(start, AGAIN);
    say(error.message, error.status !== 404 && error.status !== 503);
    if (error.status !== 404 || !wanted) return;
    history.replaceState(null, "", location.pathname); // a model that is here no longer
    start();
    return;
  }
  run(first);
}

function run({ model, models, pictures, limits }) {
  let all = pictures;
  let chosen = pictures[0];
  let shown = "edit";
  const tabs = {};

  const studio = {
    model,
    limits,
    reference: null,
    say,
    show,
    pictures: () => all,
    add(some, { choose: into = true } = {}) {
      const fresh = some.filter(({ picture }) => !all.some((each) => each.picture === picture));
      all = [...fresh, ...all].slice(0, limits.pictures); // the studio forgets the oldest too
      if (into) choose(some[0]);
      tray();
    },
    numbers(names) {
      for (const option of byId("tray").children) {
        const at = names.indexOf(option.dataset.picture);
        option.querySelector(".number")?.remove();
        option.setAttribute("aria-selected", String(at >= 0));
        if (at >= 0) option.append(make("span", { className: "number", textContent: at + 1 }));
      }
    },
    classOptions: () => Array.from({ length: model.classes }, (_, i) => make("option", { value: i, textContent: model.class_names[i] ?? i })),
    async doing(button, work) {
      button.disabled = true;
      try { await work(); } catch (error) { say(error.message); } finally { button.disabled = false; }
    },
  };

  function choose(picture) {
    chosen = picture;
    for (const tab of Object.values(tabs)) tab.chosen?.(picture);
    marked();
  }

  function marked() {
    if (shown === "mix") return;
    for (const option of byId("tray").children) {
      option.setAttribute("aria-selected", String(option.dataset.picture === chosen.picture));
      option.querySelector(".number")?.remove();
    }
  }

  function tray() {
    byId("tray").replaceChildren(...all.map((picture, i) => {
      const option = make("div", { role: "option", tabIndex: i ? -1 : 0, title: picture.name },
        make("img", { src: picture.png, alt: picture.name || "picture" }));
      option.dataset.picture = picture.picture;
      option.addEventListener("click", () => press(picture));
      option.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); press(picture); }
        const next = event.key === "ArrowRight" ? option.nextElementSibling : event.key === "ArrowLeft" ? option.previousElementSibling : null;
        if (next) { option.tabIndex = -1; next.tabIndex = 0; next.focus(); event.preventDefault(); }
      });
      return option;
    }));
    if (shown === "mix") tabs.mix.opened(); else marked();
  }

  function press(picture) {
    if (shown === "mix") tabs.mix.toggle(picture); else choose(picture);
  }

  function show(name) {
    shown = name;
    for (const each of TABS) {
      const tab = byId(`tab-${each}`);
      tab.setAttribute("aria-selected", String(each === name));
      tab.tabIndex = each === name ? 0 : -1;
      byId(each).hidden = each !== name;
    }
    byId(`tab-${name}`).scrollIntoView({ block: "nearest", inline: "nearest" });
    byId("tray").setAttribute("aria-multiselectable", String(name === "mix"));
    marked();
    tabs[name].opened?.();
  }

  byId("tabs").addEventListener("click", ({ target }) => { if (target.role === "tab") show(target.id.slice(4)); });
  byId("tabs").addEventListener("keydown", (event) => {
    const now = TABS.indexOf(shown);
    const next = { ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: -1 }[event.key];
    if (next === undefined) return;
    event.preventDefault(); // else the page goes to its end too
    show(TABS.at(next % TABS.length));
    byId(`tab-${shown}`).focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input[type=number], select") || document.querySelector("dialog[open]")) return;
    if (shown === "edit") tabs.edit.key(event);
  });
  document.addEventListener("keyup", (event) => tabs.edit.keyUp(event));

  byId("model").replaceChildren(...models.map((name) => make("option", { value: name, textContent: words(name), selected: name === model.name })));
  byId("model").addEventListener("change", ({ target }) => { location.search = new URLSearchParams({ model: target.value }); });

  Object.assign(tabs, {
    edit: editTab(studio), sample: sampleTab(studio), mix: mixTab(studio), levels: levelsTab(studio),
    explore: exploreTab(studio), score: scoreTab(studio), train: trainTab(studio),
  });
  photographs(studio);
  tray();
  choose(chosen);

  async function compare() {
    try {
      studio.reference = await api.reference();
    } catch (error) {
      if (error.status === 503) setTimeout(compare, AGAIN);
      return;
    }
    for (const tab of Object.values(tabs)) tab.measured?.();
    if (!studio.reference.images && !studio.reference.told) setTimeout(compare, AGAIN);
  }
  compare();
  setInterval(() => api.stay().catch(() => {}), STAY);
  addEventListener("pagehide", api.leave);
  addEventListener("pageshow", ({ persisted }) => { if (persisted) location.reload(); });
}

let hiding = 0;
let gone = false;
document.addEventListener("gone", ({ detail }) => {
  if (gone) return;
  say(detail, true);
  const again = make("button", { textContent: "Load again" });
  again.addEventListener("click", () => location.reload());
  byId("message").append(again);
  gone = true;
});

function say(sentence, forever = false) {
  if (gone) return; // nothing else matters
  const message = byId("message");
  message.textContent = sentence;
  message.hidden = false;
  clearTimeout(hiding);
  if (!forever) hiding = setTimeout(() => { message.hidden = true; }, 6_000);
}

function theme() {
  const put = (name) => { document.documentElement.className = name; };
  put(localStorage.getItem("glow-theme") ?? "");
  byId("theme").addEventListener("click", () => {
    const dark = getComputedStyle(document.documentElement).colorScheme === "dark"
      || (document.documentElement.className === "" && matchMedia("(prefers-color-scheme: dark)").matches);
    const next = dark ? "light" : "dark";
    put(next);
    localStorage.setItem("glow-theme", next);
  });
}
