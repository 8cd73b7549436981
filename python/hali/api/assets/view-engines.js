// Models in memory (`hali ps`) and the requests that are being answered.

import { call } from "./api.js";
import { button, h, panel, setAttr, setText, show } from "./dom.js";
import { bytes, duration, fixed } from "./format.js";
import { stateCell, table } from "./table.js";
import { during } from "./toasts.js";

const COUNTS = [
  ["running", "Running"],
  ["queued", "Waiting"],
  ["finished", "Answered"],
  ["failed", "Failed"],
  ["cancelled", "Cancelled"],
  ["retried", "Tried again"],
];

export function enginesView() {
  const engines = table({
    caption: "Models in memory",
    empty: "No model is loaded. A chat or a request to the API loads one.",
    key: (row) => row.sha256_prefix,
    columns: [
      { title: "Model", class: "wide", text: (row) => row.model_id },
      { title: "State", cell: () => stateCell() },
      { title: "Memory", class: "num", text: (row) => (row.memory_bytes ? bytes(row.memory_bytes) : "—") },
      { title: "Context", class: "num", text: (row) => row.n_ctx ?? "—" },
      { title: "KV cache", class: "num", cell: kvCell },
      { title: "Active", class: "num", text: (row) => row.active },
      { title: "Tokens/s", class: "num", text: (row) => (row.tokens_per_s === null ? "—" : fixed(row.tokens_per_s, 1)) },
      { title: "Until", class: "num", text: until },
      { title: "Actions", class: "actions", bare: true, cell: unloadCell },
    ],
  });
  const requests = requestList();
  return {
    parts: ["engines", "requests"],
    el: h("div", { class: "view" }, panel("Models in memory", engines.el), panel("Requests", requests.el)),
    update: ({ parts }) => {
      engines.update(parts.engines ?? []);
      requests.update(parts.requests);
    },
  };
}

function kvCell() {
  const meter = h("meter", { min: 0, max: 1 });
  const text = h("span", {});
  const update = ({ model_id, kv_used: used, kv_total: total }) => {
    show(meter, Boolean(total));
    if (total) meter.value = used / total;
    setAttr(meter, "aria-label", `KV cache of ${model_id} in use`);
    setText(text, total ? `${fixed((100 * used) / total, 0)} %` : "—");
  };
  return { el: h("span", { class: "meter-cell" }, meter, text), update };
}

function until(row) {
  if (row.expires_in_s !== null) return duration(row.expires_in_s);
  return row.active ? "in use" : "—";
}

function unloadCell() {
  let row = null;
  const unload = button("Unload", () => during(unload, () => call("unload", { model: row.sha256_prefix })), { class: "quiet" });
  const update = (engine) => {
    row = engine;
    setAttr(unload, "aria-label", `Unload ${engine.model_id}`);
  };
  return { el: h("div", { class: "row-actions" }, unload), update };
}

function requestList() {
  const figures = COUNTS.map(([name, title]) => ({ name, title, dd: h("dd", { class: "figure", text: "—" }) }));
  const tiles = figures.map(({ title, dd }) => h("div", { class: "tile" }, h("dt", { text: title }), dd));
  const el = h("dl", { class: "tiles" }, ...tiles);
  const update = (requests) => {
    for (const { name, dd } of figures) setText(dd, requests?.[name] ?? "—");
  };
  return { el, update };
}
