// What happened, the newest first: the daemon's replay and then each event as it comes. Only so many rows are ever built.

import { h, keyed, panel, setText, show } from "./dom.js";
import { clock, count } from "./format.js";

const ROWS = 150; // in the document; a few screens
const LEVELS = [["all", "Everything"], ["loud", "What matters"], ["bad", "Warnings and errors"]];
const PASSES = {
  all: () => true,
  loud: (event) => event.toast_level !== "none",
  bad: (event) => event.toast_level === "warning" || event.toast_level === "error",
};

export function activityView() {
  const feed = h("ol", { class: "feed", "aria-label": "Events, the newest first" });
  const nothing = h("p", { class: "empty", text: "Nothing to show." });
  const missed = h("p", { class: "notice", hidden: true });
  const level = h("select", {}, ...LEVELS.map(([value, text]) => h("option", { value, text })));
  let latest = null;
  level.addEventListener("change", () => latest && update(latest));
  const box = panel("Events", h("label", { class: "inline filter" }, h("span", { text: "Show" }), level), missed, feed, nothing);
  function update(state) {
    latest = state;
    const rows = newest(state.events, PASSES[level.value]);
    keyed(feed, rows, (event) => event.key, eventRow);
    show(nothing, rows.length === 0);
    setText(missed, `This page was too slow for ${count(state.missed, "event")}; the log has them.`);
    show(missed, state.missed > 0);
  }
  return { parts: ["activity"], el: h("div", { class: "view" }, box), update };
}

function newest(events, passes) {
  const rows = [];
  for (let i = events.length - 1; i >= 0 && rows.length < ROWS; i -= 1) if (passes(events[i])) rows.push(events[i]);
  return rows;
}

// An event never changes, so its row has no `update`.
export function eventRow(event) {
  const when = h("time", { dateTime: new Date(event.ts * 1000).toISOString(), text: clock(event.ts) });
  const what = h("span", { class: "event-text", text: event.text });
  const kind = h("code", { class: "event-kind", text: event.kind });
  return { el: h("li", { class: `event ${event.toast_level}` }, when, what, kind) };
}
