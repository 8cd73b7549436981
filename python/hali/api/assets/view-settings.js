// Every key of `hali config show`, each changed by itself as `hali config set` does; what the daemon refuses is told at the field.

import { h, keyed, panel, setText, show } from "./dom.js";
import { settingRow } from "./setting.js";

const GENERAL = "general";
const TITLES = { [GENERAL]: "General", lan: "LAN", hf: "Hugging Face", api: "HTTP API", engine: "Engines" };

export function settingsView() {
  const search = h("input", { type: "search", autocomplete: "off" });
  const path = h("code", {});
  const groups = h("div", { class: "groups" });
  const nothing = h("p", { class: "empty", text: "No setting fits." });
  let latest = null;
  search.addEventListener("input", () => latest && update(latest));
  const bar = h("label", { class: "inline filter" }, h("span", { text: "Name or words" }), search);
  const command = h("code", { text: "hali config" });
  const note = h("p", { class: "muted" }, "Kept in ", path, "; ", command, " shows and changes the same.");
  const broken = h("p", { class: "notice", role: "alert", hidden: true });
  function update(state) {
    latest = state;
    const settings = state.parts.settings;
    if (!settings) return;
    const rows = settings.keys.filter((row) => fits(row, search.value));
    setText(path, settings.path ?? "");
    keyed(groups, grouped(rows), (group) => group.name, groupBox);
    setText(broken, settings.error ?? "");
    show(broken, Boolean(settings.error));
    show(nothing, rows.length === 0);
  }
  return { parts: ["settings"], el: h("div", { class: "view" }, panel("Find a setting", bar, note, broken), groups, nothing), update };
}

function fits(row, words) {
  const text = `${row.key} ${row.doc}`.toLowerCase();
  return words.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

// In the order of the schema, by the part before the dot. Pure.
function grouped(rows) {
  const groups = new Map();
  for (const row of rows) {
    const name = row.key.includes(".") ? row.key.split(".")[0] : GENERAL;
    if (!groups.has(name)) groups.set(name, { name, rows: [] });
    groups.get(name).rows.push(row);
  }
  return [...groups.values()];
}

function groupBox({ name }) {
  const list = h("div", { class: "settings" });
  const title = TITLES[name] ?? name[0].toUpperCase() + name.slice(1);
  return { el: panel(title, list), update: ({ rows }) => keyed(list, rows, (row) => row.key, settingRow) };
}
