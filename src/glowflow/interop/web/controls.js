// Temperature, attributes and class.

const FARTHEST = 2;

/** A labelled slider with its value beside it; a double click puts it back. */
function slider(name, { min, max, value, middle }, changed) {
  const row = document.createElement("label"), input = document.createElement("input");
  const title = document.createElement("span"), shown = document.createElement("output");
  row.className = "slider";
  shown.ariaLive = "off"; // the slider says its value itself
  title.textContent = name;
  Object.assign(input, { type: "range", min, max, step: 0.01, value, disabled: true });
  input.setAttribute("aria-label", name);
  const share = (number) => (100 * (number - min)) / (max - min);
  const set = (number) => {
    input.value = number;
    const ends = [share(middle), share(number)].sort((a, b) => a - b);
    input.style.setProperty("--from", `${ends[0]}%`);
    input.style.setProperty("--to", `${ends[1]}%`);
    shown.textContent = min < 0 && number > 0 ? `+${number.toFixed(2)}` : number.toFixed(2);
  };
  input.oninput = () => {
    set(Number(input.value));
    changed(Number(input.value));
  };
  row.ondblclick = () => {
    set(value);
    changed(value);
  };
  row.append(title, input, shown);
  set(value);
  return { row, set, get value() { return Number(input.value); } };
}

/** "Black_Hair" is "Black hair". */
function readable(name) {
  const words = name.replaceAll("_", " ").toLowerCase();
  return words.charAt(0).toUpperCase() + words.slice(1);
}

export class Controls {
  directions = [];
  #temperature;
  #attributes;
  #class = document.getElementById("class");

  constructor(meta, changed) {
    this.#temperature = slider(
      "Temperature", { min: 0, max: 1.2, value: meta.temperature, middle: 0 }, changed.temperature,
    );
    this.#attributes = meta.attributes.map((name) =>
      slider(readable(name), { min: -FARTHEST, max: FARTHEST, value: 0, middle: 0 }, changed.amounts),
    );
    const place = document.getElementById("sliders");
    place.append(this.#temperature.row);
    if (meta.attributes.length) {
      const group = document.createElement("fieldset"), legend = document.createElement("legend");
      legend.textContent = "Attributes";
      group.append(legend, ...this.#attributes.map(({ row }) => row));
      place.append(group);
      document.getElementById("hint").textContent = "Several at once; a double click puts one back.";
    }
    if (meta.classes) {
      document.getElementById("class-row").hidden = false;
      this.#class.append(...meta.class_names.map((name, number) => new Option(name, number)));
      this.#class.onchange = () => changed.label(Number(this.#class.value));
    }
  }

  /** Pairs of an amount and a direction, of the attributes that are moved. */
  moves() {
    return this.#attributes
      .map(({ value }, i) => [value, this.directions[i]])
      .filter(([amount]) => amount !== 0);
  }

  reset() {
    this.#attributes.forEach(({ set }) => set(0));
  }

  get temperature() {
    return this.#temperature.value;
  }

  set temperature(value) {
    this.#temperature.set(value);
  }

  set label(value) {
    this.#class.value = value;
  }
}
