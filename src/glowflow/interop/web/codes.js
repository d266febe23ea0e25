// What is done to codes and bytes: pure functions, the same as the package's own.
// A code is the whitened latents of all levels in one Float32Array, first level first.

const GOLDEN = 0x9e3779b9;

/** MurmurHash3's 32-bit finaliser: a bijection of 32-bit integers that mixes every bit. */
function mixed(h) {
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** A uniform number in (0, 1): number `index` of the stream `seed`, a counter that is hashed. */
function uniform(index, seed) {
  const first = mixed(Math.imul(index, GOLDEN) + mixed(seed));
  return (mixed(first ^ mixed(seed ^ GOLDEN)) + 0.5) / 2 ** 32;
}

/** `count` standard normal numbers by Box and Muller; the same seed gives the same numbers. */
export function normals(seed, count) {
  const numbers = new Float32Array(count);
  for (let i = 0; i < count; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(uniform(i, seed)));
    const angle = 2 * Math.PI * uniform(i + 1, seed);
    numbers[i] = radius * Math.cos(angle);
    if (i + 1 < count) numbers[i + 1] = radius * Math.sin(angle);
  }
  return numbers;
}

/**
 * (1 − t)·T_a·a + t·T_b·b + Σ α_i Δ_i: two pictures mixed in a line, then moved along attributes.
 * A picture is {code, temperature}; `moves` are pairs [α_i, Δ_i].
 */
export function combined(a, b, t, moves) {
  const code = new Float32Array(a.code.length);
  const ofA = (1 - t) * a.temperature, ofB = b ? t * b.temperature : 0;
  for (let i = 0; i < code.length; i++) {
    let value = ofA * a.code[i];
    if (ofB) value += ofB * b.code[i];
    for (const [amount, direction] of moves) value += amount * direction[i];
    code[i] = value;
  }
  return code;
}

/** x in [−½, ½), channels first, from bytes: the middle of each byte's bin at this bit depth. */
export function toFloat(bytes, bits) {
  const levels = 2 ** bits, step = 256 / levels;
  return Float32Array.from(bytes, (byte) => (Math.floor(byte / step) + 0.5) / levels - 0.5);
}

/** ⌊(x + ½)·2^n⌋·256/2^n, clipped: the inverse of `toFloat`. What is no number becomes 0. */
export function toBytes(x, bits) {
  const levels = 2 ** bits, step = 256 / levels;
  return Uint8Array.from(x, (value) => {
    const index = Math.floor(Math.fround(Math.fround(value + 0.5) * levels));
    return Number.isNaN(index) ? 0 : Math.min(Math.max(index, 0), levels - 1) * step;
  });
}

/** Whether every x is a number, and none is farther than five times the range from its middle. */
export function isPicture(x) {
  return x.every((value) => Math.abs(value) <= 5);
}

/** What a canvas takes: RGBA pixels, from bytes (channels, height, width) of 1, 3 or 4 channels. */
export function toImage(bytes, [channels, height, width]) {
  const image = new ImageData(width, height), pixels = height * width;
  for (let p = 0; p < pixels; p++) {
    for (let c = 0; c < 3; c++) image.data[4 * p + c] = bytes[(channels === 1 ? 0 : c * pixels) + p];
    image.data[4 * p + 3] = channels === 4 ? bytes[3 * pixels + p] : 255;
  }
  return image;
}

/** Bytes (channels, height, width) from RGBA pixels; what is transparent becomes white. */
export function fromImage(image, [channels, height, width]) {
  const pixels = height * width, bytes = new Uint8Array(channels * pixels);
  for (let p = 0; p < pixels; p++) {
    const colour = image.data.subarray(4 * p, 4 * p + 4);
    if (channels < 4) {
      for (let c = 0; c < 3; c++) colour[c] = 255 + ((colour[c] - 255) * colour[3]) / 255;
    }
    const [red, green, blue] = colour;
    if (channels === 1) bytes[p] = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
    else for (let c = 0; c < channels; c++) bytes[c * pixels + p] = colour[c];
  }
  return bytes;
}

/** float32 from the bits of float16. */
export function widened(halves) {
  return Float32Array.from(halves, (bits) => {
    const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : fraction * 2 ** -24);
  });
}
