// What plots are made of: SVG in pixels of the screen, ticks, and a scale of colours.

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// The size of an SVG on the screen, which becomes its own.
export function sized(plot) {
  const { width, height } = plot.getBoundingClientRect();
  plot.setAttribute("viewBox", `0 0 ${width} ${height}`);
  return [width, height];
}

export function ticks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((each) => each * power >= rough);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-6; value += step) found.push([value, value.toFixed(digits)]);
  return found;
}

// A line for each curve, [x, y] points, in a box with axes; x from 0 on.
export function curves(plot, named, xLabel, yLabel) {
  const [width, height] = sized(plot);
  const points = Object.values(named).flat().filter(([, y]) => y !== null);
  plot.replaceChildren();
  if (!points.length || width < 60) return;
  const sorted = points.map(([, y]) => y).sort((a, b) => a - b);
  const low = sorted[0];
  const far = sorted[Math.floor(0.97 * (sorted.length - 1))]; // the first steps are far off
  const room = 0.08 * (far - low) || 0.1;
  const [bottom, top, right] = [low - room, far + room, Math.max(...points.map(([x]) => x))];
  const [left, base] = [48, height - 34];
  const x = (value) => left + (width - left - 14) * (value / (right || 1));
  const y = (value) => 8 + (base - 8) * (1 - (Math.min(top, value) - bottom) / (top - bottom));
  for (const [value, said] of ticks(bottom, top, 4)) {
    plot.append(svg("line", { class: "grid", x1: left, x2: width - 14, y1: y(value), y2: y(value) }));
    plot.append(svg("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, said));
  }
  for (const [value] of ticks(0, right, width < 500 ? 3 : 6)) {
    plot.append(svg("text", { x: x(value), y: base + 16, "text-anchor": "middle" }, short(value)));
  }
  plot.append(svg("text", { x: width - 14, y: base + 31, "text-anchor": "end", class: "axis" }, xLabel));
  plot.append(svg("text", { x: left, y: base + 31, class: "axis" }, yLabel));
  for (const [name, line] of Object.entries(named)) {
    const there = line.filter(([, value]) => value !== null);
    plot.append(svg("polyline", { class: name, points: there.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join(" ") }));
    if (there.length < 60 && name !== "train") {
      for (const [a, b] of there) plot.append(svg("circle", { class: name, cx: x(a), cy: y(b), r: 3 }));
    }
  }
}

export const short = (value) => (value >= 1e6 ? `${Number((value / 1e6).toFixed(2))}M` : value >= 1e4 ? `${Number((value / 1e3).toFixed(1))}k` : `${Math.round(value)}`);

const STOPS = [[8, 6, 40], [66, 20, 110], [147, 38, 103], [214, 72, 66], [251, 154, 6], [252, 245, 160]];

// Red, green and blue at a share of the scale, dark for little.
export function colour(share) {
  const at = Math.min(1, Math.max(0, share)) * (STOPS.length - 1);
  const below = Math.min(STOPS.length - 2, Math.floor(at));
  return STOPS[below].map((value, i) => value + (at - below) * (STOPS[below + 1][i] - value));
}
