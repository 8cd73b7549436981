// This node and the services inside its daemon, as `hali daemon status` shows them.

import { h, keyed, panel, setText } from "./dom.js";
import { stateCell, table } from "./table.js";

export function systemView() {
  const services = table({
    caption: "Services of the daemon",
    empty: "No service has been reported yet.",
    key: (row) => row.name,
    columns: [
      { title: "Service", class: "wide", text: (row) => row.name },
      { title: "State", cell: () => stateCell() },
      { title: "Restarts", class: "num", text: (row) => row.restarts },
      { title: "Essential", text: (row) => (row.essential ? "yes" : "no") },
      { title: "Error", text: (row) => row.error ?? "—" },
    ],
  });
  const facts = h("dl", { class: "facts-list" });
  const update = (state) => {
    services.update(state.parts.services ?? []);
    keyed(facts, factsOf(state), ([name]) => name, factRow);
  };
  const el = h("div", { class: "view" }, panel("This node", facts), panel("Services", services.el));
  return { parts: ["services", "hello", "stats"], el, update };
}

function factsOf({ hello, parts }) {
  const facts = [
    ["Version", hello?.version],
    ["Node", hello?.node],
    ["Address", location.host],
    ["Up for", parts.stats?.uptime],
  ];
  return facts.filter(([, value]) => value);
}

function factRow([name]) {
  const value = h("dd", { class: "mono" });
  return { el: h("div", {}, h("dt", { text: name }), value), update: ([, text]) => setText(value, text) };
}
