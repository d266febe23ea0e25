// Requests to the studio, which answers a refusal with a sentence.

export class Refusal extends Error {
  constructor(sentence, status) { super(sentence); this.status = status; }
}

const NAME = 200; // characters that the studio takes of a file's name: the last ones
const BUSY = "The studio is busy: try again in a moment."; // said by who listens, before the studio is asked
let visitor = "";
const token = () => sessionStorage.getItem("glow-token") ?? "";

export function readToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem("glow-token", given);
    history.replaceState(null, "", location.pathname);
  }
}

export function askToken(said) {
  const given = prompt(`${said}\n\nToken:`);
  if (given) sessionStorage.setItem("glow-token", given.trim());
  return Boolean(given);
}

async function request(method, path, { json, body, signal, keepalive } = {}) {
  const headers = {};
  if (visitor) headers["Glow-Visitor"] = visitor;
  if (token()) headers.Authorization = `Bearer ${token()}`;
  if (json !== undefined) headers["Content-Type"] = "application/json";
  else if (body !== undefined) headers["Content-Type"] = "application/octet-stream";
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: json === undefined ? body : JSON.stringify(json), signal, keepalive });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal("The studio does not answer: is glow studio still running?", 0);
  }
  if (!answer.ok) {
    let sentence = answer.status === 503 ? BUSY : `The studio answered ${answer.status}.`;
    try {
      sentence = (await answer.json()).error ?? sentence;
    } catch (error) { // not a sentence of ours, or nobody waits for it
      if (error.name === "AbortError") throw error;
    }
    if (answer.headers.has("Glow-Gone")) document.dispatchEvent(new CustomEvent("gone", { detail: sentence }));
    throw new Refusal(sentence, answer.status);
  }
  return answer;
}

const named = (file) => [...(file.name ?? "")].slice(-NAME).join("");
const at = (picture, rest) => `/api/pictures/${encodeURIComponent(picture)}/${rest}`;
const asJson = async (answer) => (await answer).json();
const asBlob = async (answer) => (await answer).blob();

async function frame(path, json) {
  const answer = await request("POST", path, { json });
  return { pixels: new Uint8Array(await answer.arrayBuffer()), concern: answer.headers.get("Glow-Concern") ?? "" };
}

export async function open(model) {
  const first = await asJson(request("POST", "/api/visitors", { json: model ? { model } : {} }));
  visitor = first.visitor;
  return first;
}
export const stay = () => request("POST", "/api/visitors/stay");
export function leave() {
  if (visitor) request("POST", "/api/visitors/leave", { keepalive: true }).catch(() => {});
  visitor = "";
}
export const sample = (asked) => asJson(request("POST", "/api/samples", { json: asked }));
export function upload(file, asked) {
  return asJson(request("POST", `/api/pictures?${new URLSearchParams({ name: named(file), ...asked })}`, { body: file }));
}
export const image = (picture) => asBlob(request("GET", at(picture, "image.png")));
export const edit = (picture, asked) => frame(at(picture, "edit"), asked);
export const editedFile = (picture, name, asked) => asBlob(request("POST", at(picture, `edit/${name}`), { json: asked }));
export const keepEdit = (picture, asked) => asJson(request("POST", at(picture, "edit/keep"), { json: asked }));
export const scoreEdit = (picture, asked, signal) => asJson(request("POST", at(picture, "edit/score"), { json: asked, signal }));
export const mix = (asked) => frame("/api/mix", asked);
export const keepMix = (asked) => asJson(request("POST", "/api/mix/keep", { json: asked }));
export const mixAnimation = (asked) => asBlob(request("POST", "/api/mix/animation.gif", { json: asked }));
export const redraw = (picture, asked) => asJson(request("POST", at(picture, "levels"), { json: asked }));
export const keepRedrawn = (picture, asked) => asJson(request("POST", at(picture, "levels/keep"), { json: asked }));
export const score = (file) => asJson(request("POST", `/api/score?${new URLSearchParams({ name: named(file) })}`, { body: file }));
export const reference = () => asJson(request("GET", "/api/reference"));
export const scoreMap = (file, level) => asJson(request("POST", `/api/score/map?${new URLSearchParams({ level })}`, { body: file }));
export const explore = () => asJson(request("GET", "/api/explore"));
export const exploreSheet = () => asBlob(request("GET", "/api/explore/sheet.webp"));
export const takeExplored = (index) => asJson(request("POST", "/api/explore/take", { json: { index } }));
export const place = (picture) => asJson(request("GET", at(picture, "place")));
export const walk = (asked) => frame("/api/explore/walk", asked);
export const keepWalked = (asked) => asJson(request("POST", "/api/explore/walk/keep", { json: asked }));
const ofRun = (run, rest = "") => `/api/runs/${encodeURIComponent(run)}${rest}`;
export const runs = () => asJson(request("GET", "/api/runs"));
export const run = (name) => asJson(request("GET", ofRun(name)));
export const runSamples = (name) => asBlob(request("GET", ofRun(name, "/samples.png")));
export const trainingForm = (start) => asJson(request("GET", `/api/training/form?${new URLSearchParams({ start })}`));
export const startRun = (asked) => asJson(request("POST", "/api/runs", { json: asked }));
export const resumeRun = (name) => request("POST", ofRun(name, "/resume"));
export const stopRun = () => request("POST", "/api/training/stop");
