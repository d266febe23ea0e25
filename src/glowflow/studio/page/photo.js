// Pictures from outside: a file, the camera, and the part of a photograph that is taken.

import * as api from "./api.js";
import { byId } from "./draw.js";

const clamp = (value, low, high) => Math.min(Math.max(value, low), Math.max(low, high));

export function photographs(studio) {
  const { model, limits } = studio;
  const dialog = byId("cropper");
  const image = dialog.querySelector("img");
  const box = dialog.querySelector(".box");
  byId("cropper-class").replaceChildren(...studio.classOptions());
  byId("cropper-class").parentElement.hidden = !model.classes;
  let file = null;
  let place = { left: 0, top: 0, width: 0 }; // in pixels of the photograph
  const ratio = model.height / model.width;

  async function take(next) {
    if (!next) return;
    if (next.size > limits.upload_bytes) {
      studio.say(`${next.name} has more than ${limits.upload_bytes / 2 ** 20} MiB: choose a smaller file.`);
      return;
    }
    file = next;
    image.src = URL.createObjectURL(next);
    try {
      await image.decode();
    } catch { // no browser shows a TIFF: the studio may read it all the same
      await send({ framing: "whole" });
      return;
    }
    const { naturalWidth: wide, naturalHeight: high } = image;
    const width = Math.min(wide, high / ratio);
    place = { left: (wide - width) / 2, top: (high - width * ratio) / 2, width };
    byId("cropper-wrong").hidden = true;
    dialog.showModal();
    draw();
    box.focus();
  }

  function draw() {
    const scale = image.clientWidth / image.naturalWidth;
    const { left, top, width } = place;
    Object.assign(box.style, { left: `${left * scale}px`, top: `${top * scale}px`, width: `${width * scale}px`, height: `${width * ratio * scale}px` });
    byId("cropper-words").textContent = `${Math.round(width)}x${Math.round(width * ratio)} of ${image.naturalWidth}x${image.naturalHeight} pixels become ${model.width}x${model.height}.`;
  }

  function move(left, top, width) {
    const { naturalWidth: wide, naturalHeight: high } = image;
    const most = Math.min(wide, high / ratio);
    const size = clamp(width, Math.min(model.width, most), most);
    place = { width: size, left: clamp(left, 0, wide - size), top: clamp(top, 0, high - size * ratio) };
    draw();
  }

  async function send(asked) {
    try {
      if (model.classes) asked.label = byId("cropper-class").value;
      const picture = await api.upload(file, asked);
      dialog.close();
      studio.add([picture]);
      if (picture.photograph.frames > 1) studio.say(`The first of ${picture.photograph.frames} pictures of the file is taken.`);
      if (byId("score").hidden === false) studio.show("edit");
    } catch (error) {
      if (!dialog.open) { studio.say(error.message); return; }
      byId("cropper-wrong").textContent = error.message;
      byId("cropper-wrong").hidden = false;
    }
  }

  box.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    box.setPointerCapture(event.pointerId);
    const grip = event.target.tagName === "SPAN";
    const start = { x: event.clientX, y: event.clientY, ...place };
    const scale = image.naturalWidth / image.clientWidth;
    const follow = ({ clientX, clientY }) => {
      const [across, down] = [(clientX - start.x) * scale, (clientY - start.y) * scale];
      if (grip) {
        const most = Math.min(image.naturalWidth - start.left, (image.naturalHeight - start.top) / ratio);
        move(start.left, start.top, Math.min(most, start.width + Math.max(across, down / ratio)));
      } else move(start.left + across, start.top + down, start.width);
    };
    const end = () => { box.removeEventListener("pointermove", follow); };
    box.addEventListener("pointermove", follow);
    box.addEventListener("pointerup", end, { once: true });
    box.addEventListener("pointercancel", end, { once: true });
  });
  box.addEventListener("keydown", (event) => {
    const step = image.naturalWidth / 100;
    const { left, top, width } = place;
    const by = { ArrowLeft: [-step, 0, 0], ArrowRight: [step, 0, 0], ArrowUp: [0, -step, 0], ArrowDown: [0, step, 0],
      "+": [-step / 2, -step / 2, step], "-": [step / 2, step / 2, -step] }[event.key];
    if (!by) return;
    event.preventDefault();
    move(left + by[0], top + by[1], width + by[2]);
  });
  addEventListener("resize", () => { if (dialog.open) draw(); });
  dialog.addEventListener("close", () => URL.revokeObjectURL(image.src));
  byId("crop-face").addEventListener("click", () => send({ framing: "face" }));
  byId("crop-whole").addEventListener("click", () => send({ framing: "whole" }));
  byId("crop-box").addEventListener("click", () => send({ framing: "box", ...place }));
  byId("upload").addEventListener("change", ({ target }) => { take(target.files[0]); target.value = ""; });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => { event.preventDefault(); take(event.dataTransfer.files[0]); });
  document.addEventListener("paste", (event) => { take(event.clipboardData?.files[0]); });

  const webcam = byId("webcam");
  const video = webcam.querySelector("video");
  let stream = null;
  byId("camera").hidden = !navigator.mediaDevices;
  byId("camera").addEventListener("click", async () => {
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user" } });
    } catch {
      studio.say("There is no camera, or it may not be used: allow it in the browser.");
      return;
    }
    byId("shoot").disabled = true; // until there is something to see
    video.srcObject = stream;
    webcam.showModal();
  });
  video.addEventListener("playing", () => { byId("shoot").disabled = false; });
  webcam.addEventListener("close", () => { for (const track of stream?.getTracks() ?? []) track.stop(); });
  byId("shoot").addEventListener("click", async () => {
    const shot = Object.assign(document.createElement("canvas"), { width: video.videoWidth, height: video.videoHeight });
    shot.getContext("2d").drawImage(video, 0, 0);
    webcam.close();
    const blob = await new Promise((done) => { shot.toBlob(done, "image/png"); });
    await take(new File([blob], "camera.png", { type: "image/png" }));
  });
}
