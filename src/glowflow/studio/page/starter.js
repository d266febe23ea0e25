// The form of a new run: every option of glow train, as the studio says that they are.

import * as api from "./api.js";
import { byId, make } from "./draw.js";

const GROUPS = [["", "Training"], ["data.", "Images"], ["model.", "Model"]];

export function starter(studio, started) {
  const dialog = byId("starter");
  let fields = [];

  async function fill(start) {
    const answer = await api.trainingForm(start);
    fields = answer.fields.map((field) => ({ ...field, input: input(field) }));
    byId("starter-start").replaceChildren(...answer.starts.map((name) => make("option", { value: name, textContent: name, selected: name === answer.start })));
    byId("starter-first").replaceChildren(...fields.filter(({ first }) => first).map(row));
    byId("starter-rest").replaceChildren(...GROUPS.flatMap(([prefix, title]) => {
      const some = fields.filter(({ first, name }) => !first && (prefix ? name.startsWith(prefix) : !name.includes(".")));
      return [make("h3", { textContent: title }), ...some.map(row)];
    }));
  }

  function input({ name, kind, value, choices }) {
    const id = `option-${name}`;
    if (kind === "flag") return make("input", { id, type: "checkbox", checked: value });
    if (kind === "choice") return make("select", { id }, ...choices.map((choice) => make("option", { value: choice, textContent: choice || "by default", selected: choice === value })));
    return make("input", { id, type: "text", value, inputMode: kind === "number" ? "decimal" : "text", autocomplete: "off", spellcheck: false, placeholder: "by default" });
  }

  function row({ name, help, input: made }) {
    const said = make("small", { id: `${made.id}-help`, textContent: help.replaceAll("`", "") });
    made.setAttribute("aria-describedby", said.id);
    return make("div", { className: "option" }, make("label", { htmlFor: made.id, textContent: name.split(".").at(-1).replaceAll("_", " ") }), made, said);
  }

  const now = ({ kind, input: made }) => (kind === "flag" ? made.checked : made.value);

  async function open() {
    byId("starter-wrong").hidden = true;
    try { await fill(byId("starter-start").value || "glow"); } catch (error) { studio.say(error.message); return; }
    dialog.showModal();
    fields[0]?.input.focus();
  }

  function wrong(error) {
    byId("starter-wrong").textContent = error.message;
    byId("starter-wrong").hidden = false;
    byId("starter-wrong").scrollIntoView({ block: "nearest" });
  }

  byId("starter-start").addEventListener("change", ({ target }) => fill(target.value).catch(wrong));
  byId("starter-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const changed = fields.filter((field) => now(field) !== field.value);
    const asked = { start: byId("starter-start").value, name: byId("starter-name").value.trim(), options: Object.fromEntries(changed.map((field) => [field.name, now(field)])) };
    studio.doing(byId("starter-go"), async () => {
      try {
        const { run } = await api.startRun(asked);
        dialog.close();
        started(run);
      } catch (error) { wrong(error); }
    });
  });
  byId("starter-cancel").addEventListener("click", () => dialog.close());
  return { open };
}
