// The first page: totals, the chart, what is being fetched, the latest events. Numbers are those of `hali stats`.

import { h, keyed, panel, setText, show } from "./dom.js";
import { bytes, count, rate } from "./format.js";
import { pullBox } from "./pull.js";
import { Sparkline } from "./sparkline.js";
import { eventRow } from "./view-activity.js";
import { jobList, pauseControl } from "./view-transfers.js";

const LATEST = 8; // events; the rest has a page of its own

// Title, figures, and a note, of the parts.
const TILES = [
  ["This session", ({ stats }) => session(stats), ({ stats }) => `up for ${stats.uptime}`],
  ["All time", ({ stats }) => [`↑ ${bytes(sentEver(stats))}`], ({ stats }) => `sent of ${count(stats.models.length, "model")} here`],
  ["Peers", ({ stats }) => [stats.peers], ({ stats }) => neighbours(stats.lan_traffic)],
  ["Requests", ({ stats }) => [stats.inference.running], ({ stats }) => requests(stats.inference)],
  ["In memory", ({ engines }) => [count(engines?.length ?? 0, "model")], ({ engines }) => memory(engines)],
];

export function overviewView(app) {
  const tiles = TILES.map(tile);
  const chart = rateChart();
  const jobs = jobList();
  const pause = pauseControl();
  const feed = h("ol", { class: "feed" });
  const quiet = h("p", { class: "empty", text: "Nothing has happened yet." });
  const all = h("a", { href: "#activity", text: "All activity" });
  const el = h(
    "div",
    { class: "view" },
    panel("Rates", chart.el),
    h("dl", { class: "tiles" }, ...tiles.map((each) => each.el)),
    panel("Get a model", pullBox(app).el),
    h("div", { class: "columns" }, panel("Transfers", pause.el, jobs.el), panel("Latest activity", feed, quiet, all)),
  );
  const update = (state) => {
    chart.update(state);
    for (const each of tiles) each.update(state.parts);
    pause.update(state.parts.stats);
    jobs.update(state.parts.stats?.jobs ?? []);
    keyed(feed, state.events.slice(-LATEST).reverse(), (event) => event.key, eventRow);
    show(quiet, state.events.length === 0);
  };
  return { parts: ["stats", "models", "engines", "rates", "activity"], el, update };
}

function tile([title, value, note]) {
  const [main, small] = [h("div", { class: "figures" }), h("small", {})];
  const update = (parts) => {
    if (!parts.stats) return;
    keyed(main, value(parts).map((text, at) => ({ text, at })), ({ at }) => at, figure);
    setText(small, note(parts));
  };
  return { el: h("div", { class: "tile" }, h("dt", { text: title }), h("dd", {}, main, small)), update };
}

// One number that is not broken over lines.
function figure() {
  const el = h("span", { class: "figure" });
  return { el, update: ({ text }) => setText(el, text) };
}

function rateChart() {
  const chart = new Sparkline("Rates of the last five minutes");
  const [down, up] = [h("strong", { class: "figure" }), h("strong", { class: "figure" })];
  const top = h("small", { class: "chart-top" });
  const legend = [["down", "Down", down], ["up", "Up", up]].map(([kind, title, figure]) =>
    h("div", { class: `legend ${kind}` }, h("span", { text: title }), figure),
  );
  const ends = [["chart-from", "5 minutes ago"], ["chart-to", "now"]].map(([kind, text]) => h("small", { class: kind, text }));
  const plot = h("div", { class: "plot" }, top, chart.el, ...ends);
  const el = h("div", { class: "chart" }, h("div", { class: "legends" }, ...legend), plot);
  const update = ({ parts, rates }) => {
    setText(down, rate(parts.stats?.down_rate));
    setText(up, rate(parts.stats?.up_rate));
    setText(top, rate(chart.update(rates)));
  };
  return { el, update };
}

function session(stats) {
  return [`↓ ${bytes(stats.down_total)}`, `↑ ${bytes(stats.up_total)}`];
}

function sentEver(stats) {
  return stats.models.reduce((sum, model) => sum + model.uploaded, 0);
}

function requests({ queued, finished }) {
  return `${queued} waiting · ${finished} answered`;
}

function neighbours(traffic) {
  if (!traffic) return "neighbours are not looked for";
  const verb = traffic.nodes === 1 ? "offers" : "offer";
  return `${count(traffic.nodes, "node")} ${verb} ${count(traffic.models, "model")}`;
}

function memory(engines) {
  return engines?.length ? bytes(engines.reduce((sum, engine) => sum + (engine.memory_bytes ?? 0), 0)) : "none is loaded";
}
