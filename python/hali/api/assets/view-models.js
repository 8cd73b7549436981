// The models of this node: `hali list` joined with the live numbers of `hali stats`, and what can be done with each.

import { call } from "./api.js";
import { copy } from "./clipboard.js";
import { confirmed } from "./dialogs.js";
import { button, h, panel, setAttr, setText, show } from "./dom.js";
import { bytes, fixed, percent, rate, splitId } from "./format.js";
import { menu } from "./menu.js";
import { pullBox } from "./pull.js";
import { table } from "./table.js";
import { complain, toast } from "./toasts.js";

export function modelsView(app) {
  const box = pullBox(app);
  const models = modelTable(app);
  return {
    parts: ["models", "stats"],
    el: h("div", { class: "view" }, panel("Get a model", box.el), panel("Models", models.el)),
    update: (state) => models.update(joined(state.parts)),
  };
}

export function modelTable(app) {
  return table({
    caption: "Models of this node",
    empty: "No models yet. Pull one, or import a file with `hali add`.",
    key: (row) => row.infohash_v2,
    columns: [
      { title: "Model", class: "wide", cell: nameCell },
      { title: "Size", class: "num", text: (row) => bytes(row.on_disk ?? row.size) },
      { title: "State", cell: stateCell },
      { title: "Peers", class: "num", text: (row) => row.live?.peers ?? "—" },
      { title: "Sending", class: "num", text: (row) => rate(row.live?.up_rate) },
      { title: "Ratio", class: "num", text: (row) => (row.ratio === undefined ? "—" : fixed(row.ratio, 2)) },
      { title: "Actions", class: "actions", bare: true, cell: () => actionCell(app) },
    ],
  });
}

// Rows of `models`, each with its row of `stats` as `live` (undefined of a partial model).
export function joined({ models, stats }) {
  const live = new Map((stats?.models ?? []).map((row) => [row.sha256, row]));
  return (models ?? []).map((row) => ({ ...row, live: live.get(row.sha256) }));
}

function nameCell() {
  const name = h("span", { class: "name" });
  const quant = h("span", { class: "badge" });
  const pin = h("span", { class: "badge accent", text: "pinned" });
  const layers = h("span", { class: "badge" });
  const update = (row) => {
    const id = splitId(row.model_id);
    setText(name, id.name);
    setAttr(name, "title", row.model_id);
    setText(quant, id.quant ?? "");
    setText(layers, row.layers ? `layers ${row.layers}` : "");
    show(quant, Boolean(id.quant));
    show(layers, Boolean(row.layers));
    show(pin, Boolean(row.pinned));
  };
  return { el: h("div", { class: "name-cell" }, name, quant, layers, pin), update };
}

function stateCell() {
  const text = h("span", { class: "state" });
  const bar = h("progress", { max: 1 });
  const error = h("small", { class: "error-text" });
  const update = (row) => {
    const part = row.live?.progress ?? null;
    setText(text, part === null ? row.state : `${row.state} ${percent(part, 1)} %`);
    setAttr(text, "data-state", row.state);
    show(bar, part !== null);
    if (part !== null) bar.value = part;
    setAttr(bar, "aria-label", `${row.state} ${row.model_id}`);
    setText(error, row.error ?? "");
    show(error, Boolean(row.error));
  };
  return { el: h("div", { class: "state-cell" }, text, bar, error), update };
}

function actionCell(app) {
  let row = null;
  const magnet = button("Copy magnet", () => copy("Magnet link", row.magnet), { class: "quiet" });
  const more = menu((model) => `More actions for ${model.model_id}`, (model) => actions(app, model));
  const update = (model) => {
    row = model;
    setAttr(magnet, "aria-label", `Copy magnet of ${row.model_id}`);
    show(magnet, Boolean(row.magnet));
    more.update(model);
  };
  return { el: h("div", { class: "row-actions" }, magnet, more.el), update };
}

function actions(app, row) {
  const whole = row.layers === undefined;
  return [
    ...(whole ? [{ text: "Chat", run: () => app.chatWith(row.model_id) }] : []),
    ...(whole ? [{ text: "Load into memory", run: load }] : []),
    ...(whole ? [{ text: "Verify", run: verify }] : []),
    ...(whole ? [{ text: row.pinned ? "Unpin" : "Pin", run: pin }] : []),
    ...(row.sha256 ? [{ text: "Copy SHA-256", run: () => copy("SHA-256", row.sha256) }] : []),
    { text: "Remove…", danger: true, run: remove },
  ];
}

async function load(row) {
  await attempt(() => call("load", { model: row.sha256 }));
}

async function verify(row) {
  toast(`Verifying ${row.model_id}…`);
  const found = await attempt(() => call("verify", { model: row.sha256 }));
  if (found?.verified) toast(`${row.model_id}: ok, ${found.pieces} pieces.`, "success");
}

async function pin(row) {
  await attempt(() => call("pin", { model: row.sha256, pinned: !row.pinned }));
}

async function remove(row) {
  const size = bytes(row.on_disk ?? row.size);
  if (!(await confirmed(`Remove ${row.model_id}?`, `${size} on this node. Other nodes keep theirs.`, "Remove"))) return;
  await attempt(() => call("rm", { model: row.infohash_v2 }));
}

async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    complain(error);
    return undefined;
  }
}
