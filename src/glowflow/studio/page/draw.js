// Pixels on canvases, and small things that every tab shows.

export function fit(canvas, model) {
  canvas.width = model.width;
  canvas.height = model.height;
  canvas.style.aspectRatio = `${model.width} / ${model.height}`;
}

export function paint(canvas, pixels, channels) {
  const context = canvas.getContext("2d");
  const whole = context.createImageData(canvas.width, canvas.height);
  const to = whole.data;
  for (let from = 0, place = 0; place < to.length; from += channels, place += 4) {
    to[place] = pixels[from];
    to[place + 1] = pixels[channels > 2 ? from + 1 : from];
    to[place + 2] = pixels[channels > 2 ? from + 2 : from];
    to[place + 3] = channels === 4 ? pixels[from + 3] : 255;
  }
  context.putImageData(whole, 0, 0);
}

export async function paintUri(canvas, uri) {
  const picture = new Image();
  picture.src = uri;
  await picture.decode();
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.drawImage(picture, 0, 0);
}

export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export function byId(name) { return document.getElementById(name); }

export const bitsPerDim = (bits) => (bits > 999 ? "over 999 bits/dim" : `${bits.toFixed(2)} bits/dim`);

export const words = (name) => name.replaceAll("_", " ");

// A label with a range and its value: what moves it, and what puts it somewhere.
export function slider(label, changed) {
  const input = label.querySelector("input");
  const output = label.querySelector("output");
  const { min, max } = input;
  const share = (value) => (100 * (value - min)) / (max - min);
  const tell = () => {
    output.value = Number(input.value).toFixed(2);
    const ends = [share(Math.max(0, min)), share(input.value)]; // filled from zero
    input.style.setProperty("--from", `${Math.min(...ends)}%`);
    input.style.setProperty("--to", `${Math.max(...ends)}%`);
  };
  tell();
  input.addEventListener("input", (event) => { tell(); changed(Number(input.value), event.timeStamp); });
  return { input, get value() { return Number(input.value); }, put(value) { input.value = value; tell(); } };
}

export function newSlider(title, { min, max, step, value }, changed) {
  const input = make("input", { type: "range", min, max, step, value });
  const label = make("label", { className: "slider" }, make("span", { textContent: title, title }), input,
    make("output", { value: Number(value).toFixed(2) }));
  return { label, ...parts(slider(label, changed)) };
}
const parts = (made) => ({ input: made.input, put: made.put, now: () => made.value });

// The histogram of held-out images as a path in a box of 400 x height; `x` is the place of a figure.
export function histogram(reference, height) {
  const { low, high, counts } = reference;
  const room = 0.12 * (high - low);
  const from = low - room;
  const to = high + 3 * room;
  const most = Math.max(...counts);
  const x = (bits) => (bits - from) / (to - from);
  const step = (high - low) / counts.length;
  const points = counts.map((count, i) => {
    const left = (400 * x(low + i * step)).toFixed(1);
    const right = (400 * x(low + (i + 1) * step)).toFixed(1);
    const top = (height * (1 - 0.94 * count / most)).toFixed(1);
    return `L${left} ${top}L${right} ${top}`;
  });
  const start = (400 * x(low)).toFixed(1);
  const end = (400 * x(high)).toFixed(1);
  return { path: `M${start} ${height}${points.join("")}L${end} ${height}Z`, x };
}

// The share of the held-out images that need fewer bits.
export function rank(reference, bits) {
  const { sorted } = reference;
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < bits) low = middle + 1; else high = middle;
  }
  return low / sorted.length;
}
