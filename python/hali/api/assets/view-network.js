// What the LAN offers and how this node hears of it, as `hali daemon status` tells; each model there can be pulled from here.

import { button, h, panel, setAttr, setText, show } from "./dom.js";
import { count } from "./format.js";
import { pull } from "./pull.js";
import { table } from "./table.js";
import { during } from "./toasts.js";

export function networkView(app) {
  const models = table({
    caption: "Models that nodes of the LAN offer",
    empty: "No other node on the LAN offers a model.",
    key: (row) => row.infohash,
    columns: [
      { title: "Model", class: "wide", text: (row) => row.model_id },
      { title: "Nodes", class: "num", text: (row) => row.peers },
      { title: "Infohash", class: "mono", text: (row) => `${row.infohash.slice(0, 12)}…` },
      { title: "Actions", class: "actions", bare: true, cell: () => pullCell(app) },
    ],
  });
  const summary = h("p", {});
  const drops = h("p", { class: "notice" });
  const update = ({ parts: { lan } }) => {
    models.update(lan?.lan ?? []);
    setText(summary, heard(lan?.lan_traffic));
    const words = dropped(lan?.lan_traffic);
    setText(drops, words ?? "");
    show(drops, words !== null);
  };
  return { parts: ["lan"], el: h("div", { class: "view" }, panel("Neighbours", summary, drops, models.el)), update };
}

function pullCell(app) {
  let row = null;
  const get = button("Pull", () => during(get, () => pull(app, row.infohash)), { class: "quiet" });
  const update = (model) => {
    row = model;
    setAttr(get, "aria-label", `Pull ${model.model_id}`);
  };
  return { el: h("div", { class: "row-actions" }, get), update };
}

function heard(traffic) {
  if (!traffic) return "Neighbours are not looked for (lan.enabled).";
  const verb = traffic.nodes === 1 ? "offers" : "offer";
  const packets = `${count(traffic.packets_in, "packet")} heard, ${traffic.packets_out} sent`;
  const trouble = traffic.degraded ? ` ${traffic.degraded}` : "";
  return `${count(traffic.nodes, "node")} ${verb} ${count(traffic.models, "model")}. ${packets}.${trouble}`;
}

// Packets that were not believed, the most frequent reason first, or null. Pure.
export function dropped(traffic) {
  const reasons = Object.entries(traffic?.dropped ?? {});
  if (!reasons.length) return null;
  reasons.sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  const total = reasons.reduce((sum, [, n]) => sum + n, 0);
  return `${count(total, "packet")} dropped (${reasons.map(([reason, n]) => `${n} ${reason}`).join(", ")}).`;
}
