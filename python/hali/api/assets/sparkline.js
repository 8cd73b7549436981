// Draws rates of the last five minutes, `[[ts, down, up], …]`, as two lines and their areas, in one SVG that stretches.

import { setAttr, svg } from "./dom.js";
import { rate } from "./format.js";

const WIDTH = 300; // one unit a second
const HEIGHT = 60;
const GAP_S = 12; // nobody looking, the daemon measures every 5 s; twice without is a time of which nothing is known
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
    const runs = unbroken(rates);
    for (const [index, [area, line]] of this._shapes.entries()) {
      const at = (sample) => [WIDTH - (now - sample[0]), HEIGHT - (sample[index + 1] / top) * (HEIGHT - 2)];
      const paths = runs.map((run) => run.map((sample) => at(sample).map((n) => n.toFixed(1)).join(" ")));
      setAttr(line, "d", paths.map((path) => `M${path.join("L")}`).join("") || null);
      setAttr(area, "d", paths.map(closed).join("") || null);
    }
    setAttr(this.el, "aria-label", describe(this._name, rates));
    return top;
  }
}

// The line of `points` down to the ground at both its ends.
function closed(points) {
  const ground = (point) => `${point.split(" ")[0]} ${HEIGHT}`;
  return `M${ground(points[0])}L${points.join("L")}L${ground(points.at(-1))}Z`;
}

// Samples in runs, a new one after each gap. Pure.
export function unbroken(rates) {
  const runs = [];
  for (const sample of rates) {
    const last = runs.at(-1)?.at(-1);
    if (last && sample[0] - last[0] <= GAP_S) runs.at(-1).push(sample);
    else runs.push([sample]);
  }
  return runs;
}

// The chart in words. Pure.
export function describe(name, rates) {
  if (!rates.length) return `${name}: nothing measured yet`;
  const most = (index) => rate(Math.max(...rates.map((sample) => sample[index])));
  return `${name}: at most ${most(1)} down and ${most(2)} up`;
}
