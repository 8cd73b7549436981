// Draws rates of the last five minutes, `[[ts, down, up], …]`, as two lines and their areas, in one SVG that stretches.

import { setAttr, svg } from "./dom.js";
import { rate } from "./format.js";

const WIDTH = 300; // one unit a second
const HEIGHT = 60;
const LEAST = 10_000; // bytes a second at the top of an idle chart, so that a few packets do not look like a storm

export class Sparkline {
  constructor(name) {
    this._name = name;
    this._shapes = ["down", "up"].map((kind) => [
      svg("path", { class: `area ${kind}` }),
      svg("path", { class: `line ${kind}`, "vector-effect": "non-scaling-stroke" }),
    ]);
    const box = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", class: "sparkline" };
    this.el = svg("svg", { ...box, "aria-label": name }, ...this._shapes.flat());
  }

  update(rates) {
    const now = rates.length ? rates[rates.length - 1][0] : 0;
    const top = Math.max(LEAST, ...rates.map(([, down, up]) => Math.max(down, up)));
    for (const [index, [area, line]] of this._shapes.entries()) {
      const points = rates.map((sample) => [WIDTH - (now - sample[0]), HEIGHT - (sample[index + 1] / top) * (HEIGHT - 2)]);
      const path = points.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L");
      setAttr(line, "d", path ? `M${path}` : null);
      setAttr(area, "d", path ? `M${points[0][0].toFixed(1)} ${HEIGHT}L${path}L${WIDTH} ${HEIGHT}Z` : null);
    }
    setAttr(this.el, "aria-label", describe(this._name, rates));
    return top;
  }
}

// The chart in words. Pure.
export function describe(name, rates) {
  if (!rates.length) return `${name}: nothing measured yet`;
  const most = (index) => rate(Math.max(...rates.map((sample) => sample[index])));
  return `${name}: at most ${most(1)} down and ${most(2)} up`;
}
