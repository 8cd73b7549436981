// One key of the configuration: what it does, where its value comes from, and an input of its kind.

import { call } from "./api.js";
import { button, h, newId, setAttr, setText, show } from "./dom.js";
import { inline } from "./markdown.js";
import { toast } from "./toasts.js";

const ORIGIN = {
  env: "set by an environment variable, which wins over the file",
  flag: "set by a flag, which wins over the file",
};

// `{el, update(row)}`; half-typed text is left alone by updates.
export function settingRow(first) {
  return new Setting(first);
}

class Setting {
  constructor(first) {
    this._key = first.key;
    this._secret = first.secret;
    this._shown = null; // the value of the daemon that the input shows
    const ids = { input: newId("set"), doc: newId("doc"), error: newId("err") };
    this._input = inputFor(first, ids);
    this._input.el.addEventListener("input", () => this._mark());
    this._source = h("small", { class: "muted" });
    this._error = h("p", { id: ids.error, class: "error-text", role: "alert", hidden: true });
    this._pending = h("span", { class: "badge warn", text: "waits for a restart", hidden: true });
    this._save = h("button", { type: "submit", class: "primary", text: "Save", hidden: true });
    this._undo = button("Undo", () => this._revert(), { class: "quiet", hidden: true });
    this._reset = button("Use the default", () => this._send(null), { class: "quiet", hidden: true });
    this.el = this._form(first, ids);
  }

  update(row) {
    if (this._shown === null || !this._dirty) this._input.write(textOf(row));
    this._shown = textOf(row);
    setText(this._source, told(row));
    show(this._reset, row.source === "file");
    show(this._pending, row.pending);
    if (row.secret) this._input.el.placeholder = row.value ? "unchanged" : "";
    this._mark();
  }

  _form(first, ids) {
    const when = h("span", { class: first.live ? "badge accent" : "badge", text: first.live ? "live" : "after restart" });
    const label = h("label", { htmlFor: ids.input }, h("code", { text: first.key }));
    const head = h("div", { class: "setting-head" }, label, when, this._pending);
    const doc = h("p", { id: ids.doc, class: "doc" }, ...inline(first.doc));
    const unit = h("span", { class: "unit", text: first.unit });
    const controls = h("div", { class: "inline" }, this._input.el, unit, this._save, this._undo, this._reset);
    const about = h("div", { class: "setting-about" }, head, doc, this._source);
    const form = h("form", { class: "setting", noValidate: true }, about, h("div", {}, controls, this._error));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this._dirty) this._send(this._input.read());
    });
    return form;
  }

  get _dirty() {
    return this._input.read() !== this._shown;
  }

  _mark() {
    for (const control of [this._save, this._undo]) show(control, this._dirty);
  }

  _revert() {
    this._input.write(this._shown);
    this._complain(null);
    this._mark();
  }

  // The text as the value, or with null the default again.
  async _send(value) {
    for (const control of [this._save, this._reset]) control.disabled = true;
    try {
      const { applied } = await call("config_set", { key: this._key, value });
      if (value !== null && !this._secret) this._shown = value;
      else this._input.write(this._shown); // the daemon tells the value at once
      this._complain(null);
      toast(`${this._key} is ${applied ? "in force" : "saved; a restart of the daemon applies it"}.`, "success");
    } catch (problem) {
      this._complain(problem.line ?? "The daemon does not answer.");
    }
    for (const control of [this._save, this._reset]) control.disabled = false;
    this._mark();
  }

  _complain(text) {
    setText(this._error, text ?? "");
    show(this._error, Boolean(text));
    setAttr(this._input.el, "aria-invalid", text ? "true" : null);
  }
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
