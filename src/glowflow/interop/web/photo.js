// A picture of the visitor's own: chosen, cropped by hand, and averaged to the model's size.

import { fromImage } from "./codes.js";

const LARGEST = 2048;
const STEP = 0.05;

/** Averages over the pixels whose middles are in each area, as Pillow's box filter. */
export function averaged(image, width, height) {
  const across = resampled(image.data, image.width, image.height, width);
  const down = resampled(across, image.height, width, height);
  return new ImageData(down, width, height);
}

/** Average along rows of `length` pixels to `wanted`, and turn rows into columns. */
function resampled(data, length, rows, wanted) {
  const out = new Uint8ClampedArray(4 * wanted * rows), scale = length / wanted;
  for (let i = 0; i < wanted; i++) {
    const from = Math.floor(i * scale + 0.5), to = Math.floor((i + 1) * scale + 0.5);
    for (let row = 0; row < rows; row++) {
      for (let c = 0; c < 4; c++) {
        let sum = 0;
        for (let p = from; p < to; p++) sum += data[4 * (row * length + p) + c];
        out[4 * (i * rows + row) + c] = sum / (to - from);
      }
    }
  }
  return out;
}

/** What part of a picture is used, in its own pixels: a window of the model's shape. */
export class Window {
  zoom = 1;
  middle = [0.5, 0.5];

  constructor(width, height, [, modelHeight, modelWidth]) {
    Object.assign(this, { width, height, modelHeight, modelWidth });
  }

  /** Left, top, width and height. */
  get box() {
    const scale = Math.min(this.width / this.modelWidth, this.height / this.modelHeight) / this.zoom;
    const size = [this.modelWidth * scale, this.modelHeight * scale];
    const [left, top] = [this.width, this.height].map((side, i) =>
      Math.min(Math.max(side * this.middle[i] - size[i] / 2, 0), side - size[i]),
    );
    return [left, top, ...size];
  }

  /** Move the window by shares of its own size, and no farther than the picture goes. */
  move(across, down) {
    const [left, top, width, height] = this.box;
    this.middle = [
      (left + width / 2 + across * width) / this.width,
      (top + height / 2 + down * height) / this.height,
    ];
    const [x, y] = this.box;
    this.middle = [(x + width / 2) / this.width, (y + height / 2) / this.height];
  }
}

/** Bytes (channels, height, width) of the window: areas are averaged, small pictures enlarged. */
export function cropped(picture, window, shape) {
  const [channels, height, width] = shape, [left, top, across, down] = window.box;
  const larger = across > width;
  const share = larger ? Math.min(1, LARGEST / Math.max(across, down)) : width / across;
  const canvas = new OffscreenCanvas(
    Math.max(width, Math.round(across * share)), Math.max(height, Math.round(down * share)),
  );
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.imageSmoothingQuality = "high";
  if (channels < 4) {
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, canvas.width, canvas.height);
  }
  pen.drawImage(picture, left, top, across, down, 0, 0, canvas.width, canvas.height);
  const image = pen.getImageData(0, 0, canvas.width, canvas.height);
  return fromImage(averaged(image, width, height), shape);
}

/** Let the visitor crop a file; null where that is cancelled. Throws where it is no picture. */
export async function chosen(file, shape) {
  const picture = await createImageBitmap(file);
  const dialog = document.getElementById("photo"), canvas = document.getElementById("crop");
  const zoom = document.getElementById("zoom");
  const window = new Window(picture.width, picture.height, shape);
  const scale = Math.ceil(320 / Math.max(shape[1], shape[2]));
  [canvas.width, canvas.height] = [shape[2] * scale, shape[1] * scale];

  function draw() {
    const pen = canvas.getContext("2d");
    pen.imageSmoothingQuality = "high";
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(picture, ...window.box, 0, 0, canvas.width, canvas.height);
    zoom.nextElementSibling.textContent = `${window.zoom.toFixed(1)}×`;
  }

  function enlarge(value) {
    window.zoom = Math.min(Math.max(value, 1), 6);
    zoom.value = window.zoom;
    draw();
  }

  canvas.onpointerdown = (event) => canvas.setPointerCapture(event.pointerId);
  canvas.onpointermove = (event) => {
    if (!canvas.hasPointerCapture(event.pointerId)) return;
    window.move(-event.movementX / canvas.clientWidth, -event.movementY / canvas.clientHeight);
    draw();
  };
  canvas.onkeydown = (event) => {
    const moves = {
      ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP],
    };
    if (moves[event.key]) window.move(...moves[event.key]);
    else if (event.key === "+") enlarge(window.zoom * 1.1);
    else if (event.key === "-") enlarge(window.zoom / 1.1);
    else return;
    event.preventDefault();
    draw();
  };
  zoom.oninput = () => enlarge(Number(zoom.value));
  enlarge(1);
  dialog.returnValue = "cancel";
  dialog.showModal();
  await new Promise((closed) => dialog.addEventListener("close", closed, { once: true }));
  const bytes = dialog.returnValue === "use" ? cropped(picture, window, shape) : null;
  picture.close();
  return bytes;
}
