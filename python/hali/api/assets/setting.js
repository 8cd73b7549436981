// One key of the configuration: what it does, where its value comes from, and an input of its kind.

import { call } from "./api.js";
import { button, h, newId, setAttr, setText, show } from "./dom.js";
import { inline } from "./markdown.js";
import { toast } from "./toasts.js";

const ORIGIN = { env: "set by an environment variable, which wins over the file", flag: "set by a flag, which wins over the file" };

export function settingRow(first) {
  const ids = { input: newId("set"), doc: newId("doc"), error: newId("err") };
  const input = inputFor(first, ids);
  const source = h("small", { class: "muted" });
  const error = h("p", { id: ids.error, class: "error-text", role: "alert", hidden: true });
  const save = h("button", { type: "submit", class: "primary", text: "Save", hidden: true });
  const reset = button("Use the default", () => send(null), { class: "quiet", hidden: true });
  const pending = h("span", { class: "badge warn", text: "waits for a restart", hidden: true });
  const undo = button("Undo", () => revert(), { class: "quiet", hidden: true });
  let shown = null; // the value of the daemon that the input shows
  const dirty = () => input.read() !== shown;

  const mark = () => {
    for (const control of [save, undo]) show(control, dirty());
  };
  const revert = () => {
    input.write(shown);
    complain(null);
    mark();
  };
  const complain = (text) => {
    setText(error, text ?? "");
    show(error, Boolean(text));
    setAttr(input.el, "aria-invalid", text ? "true" : null);
  };
  const send = async (value) => {
    for (const control of [save, reset]) control.disabled = true;
    try {
      const done = await call("config_set", { key: first.key, value });
      if (value !== null && !first.secret) shown = value;
      else input.write(shown); // the daemon tells the value at once
      complain(null);
      toast(done.applied ? `${first.key} is in force.` : `${first.key} is saved; a restart of the daemon applies it.`, "success");
    } catch (problem) {
      complain(problem.line ?? "The daemon does not answer.");
    }
    for (const control of [save, reset]) control.disabled = false;
    mark();
  };

  input.el.addEventListener("input", mark);
  const head = h(
    "div",
    { class: "setting-head" },
    h("label", { htmlFor: ids.input }, h("code", { text: first.key })),
    h("span", { class: first.live ? "badge accent" : "badge", text: first.live ? "live" : "after restart" }),
    pending,
  );
  const controls = h("div", { class: "inline" }, input.el, h("span", { class: "unit", text: first.unit }), save, undo, reset);
  const about = h("div", { class: "setting-about" }, head, h("p", { id: ids.doc, class: "doc" }, ...inline(first.doc)), source);
  const form = h("form", { class: "setting", noValidate: true }, about, h("div", {}, controls, error));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (dirty()) send(input.read());
  });
  const update = (row) => {
    const value = textOf(row);
    if (shown === null || !dirty()) input.write(value); // half-typed text is left alone
    shown = value;
    setText(source, told(row));
    show(reset, row.source === "file");
    show(pending, Boolean(row.pending));
    if (row.secret) input.el.placeholder = row.value ? "unchanged" : "";
    mark();
  };
  return { el: form, update };
}

// As `hali config set` takes it. A secret comes masked: the input stays empty, and what is typed replaces it.
function textOf(row) {
  if (row.secret) return "";
  return Array.isArray(row.value) ? row.value.join(row.separator) : String(row.value);
}

function told(row) {
  const standard = Array.isArray(row.default) ? row.default.join(row.separator) : String(row.default);
  const hidden = row.secret && row.value ? "A value is set. " : "";
  const origin = ORIGIN[row.source] ? `; ${ORIGIN[row.source]}` : "";
  return `${hidden}Default: ${standard === "" ? "empty" : standard}${origin}.`;
}

// `{el, read(), write(text)}`: a checkbox, a list to choose from, a number, a secret, or text.
function inputFor(row, ids) {
  const common = { id: ids.input };
  const described = (el) => {
    setAttr(el, "aria-describedby", `${ids.doc} ${ids.error}`);
    return el;
  };
  if (typeof row.default === "boolean") {
    const el = described(h("input", { ...common, type: "checkbox", class: "switch" }));
    return { el, read: () => String(el.checked), write: (text) => (el.checked = text === "true") };
  }
  if (row.choices?.length) {
    const el = described(h("select", common, ...row.choices.map((value) => h("option", { value, text: value }))));
    return { el, read: () => el.value, write: (text) => (el.value = text) };
  }
  const number = typeof row.default === "number";
  const type = number ? "number" : row.secret ? "password" : "text";
  const el = described(h("input", { ...common, type, autocomplete: "off", spellcheck: false }));
  if (number) el.step = "any";
  return { el, read: () => el.value.trim(), write: (text) => (el.value = text) };
}
