// The wall: pictures that were drawn when the page was made, and then by the page itself.

import { toImage } from "./codes.js";

/** Buttons with a picture each; arrow keys move from one to the next. */
export class Wall {
  #buttons;
  #meta;
  #sheet;
  #seeds;

  constructor(place, meta, chosen) {
    this.#meta = meta;
    this.#seeds = Array.from({ length: meta.wall.count }, (_, number) => meta.wall.seed + number);
    this.#sheet = place.querySelector("img");
    this.#buttons = Array.from({ length: meta.wall.count }, (_, number) => {
      const button = document.createElement("button"), canvas = document.createElement("canvas");
      button.type = "button";
      button.disabled = true;
      button.tabIndex = number ? -1 : 0;
      button.setAttribute("aria-label", `Picture ${number + 1}`);
      button.setAttribute("aria-pressed", "false");
      button.append(canvas);
      this.paint(canvas, number);
      button.onclick = () => {
        this.#focus(number);
        chosen(number, this.#seeds[number]);
        button.setAttribute("aria-pressed", "true");
      };
      return button;
    });
    place.replaceChildren(...this.#buttons);
    place.onkeydown = (event) => this.#move(event);
  }

  /** Copy a picture of the sheet, once it is there. */
  paint(canvas, number) {
    const { columns, tile: [height, width] } = this.#meta.wall;
    const from = [(number % columns) * width, Math.floor(number / columns) * height, width, height];
    [canvas.width, canvas.height] = [width, height];
    const copy = () => canvas.getContext("2d").drawImage(this.#sheet, ...from, 0, 0, canvas.width, canvas.height);
    this.#sheet.decode().then(copy, () => {});
  }

  /** Show bytes of the model in a place of the wall, and keep the seed that they are of. */
  show(number, bytes, seed) {
    this.#seeds[number] = seed;
    const [, height, width] = this.#meta.shape, canvas = this.#buttons[number].firstChild;
    [canvas.width, canvas.height] = [width, height];
    canvas.getContext("2d").putImageData(toImage(bytes, this.#meta.shape), 0, 0);
    this.#buttons[number].setAttribute("aria-pressed", "false");
  }

  /** No picture of the wall is the chosen one. */
  unmark() {
    this.#buttons.forEach((button) => button.setAttribute("aria-pressed", "false"));
  }

  #focus(number) {
    this.#buttons.forEach((button, i) => (button.tabIndex = i === number ? 0 : -1));
    this.#buttons[number].focus();
  }

  #move(event) {
    const now = this.#buttons.indexOf(document.activeElement);
    const top = this.#buttons[0].offsetTop;
    const across = this.#buttons.filter((button) => button.offsetTop === top).length;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across };
    const next = event.key === "Home" ? 0 : event.key === "End" ? this.#buttons.length - 1 : now + steps[event.key];
    if (now < 0 || !this.#buttons[next]) return;
    event.preventDefault();
    this.#focus(next);
  }
}
