// Builds and updates the document. Text only ever becomes text nodes, so nothing that the daemon says can become markup.

const SVG = "http://www.w3.org/2000/svg";

// A new element. `props`: `class`, `text`, `on*` listeners, `dataset`, DOM properties where they exist, else attributes.
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null) continue;
    if (name === "class") element.className = value;
    else if (name === "text") element.textContent = value;
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

// Sets the text only when it differs: screen readers and selections are left alone.
export function setText(element, text) {
  const shown = String(text);
  if (element.textContent !== shown) element.textContent = shown;
}

export function setAttr(element, name, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

export function show(element, shown) {
  if (element.hidden === shown) element.hidden = !shown;
}

const rowsOf = new WeakMap();

// Makes the children of `parent` those of `items`, in order. `make(item)` gives `{el, update(item)}`, which is kept while its
// key stays: focus, open menus and half-typed text survive updates.
export function keyed(parent, items, keyOf, make) {
  if (!rowsOf.has(parent)) rowsOf.set(parent, new Map());
  const known = rowsOf.get(parent);
  const wanted = new Map();
  for (const item of items) {
    const key = keyOf(item);
    if (!wanted.has(key)) wanted.set(key, item);
  }
  for (const [key, row] of known) {
    if (wanted.has(key)) continue;
    row.el.remove();
    known.delete(key);
  }
  let next = parent.firstElementChild;
  for (const [key, item] of wanted) {
    let row = known.get(key);
    if (!row) known.set(key, (row = make(item)));
    row.update?.(item);
    if (row.el === next) next = next.nextElementSibling;
    else parent.insertBefore(row.el, next);
  }
}

export function button(text, onclick, props = {}) {
  return h("button", { type: "button", text, onclick, ...props });
}

let ids = 0;

// An id that no other element has, for labels and descriptions.
export function newId(prefix) {
  ids += 1;
  return `${prefix}-${ids}`;
}

// A panel with a heading; `content` are its children.
export function panel(title, ...content) {
  const id = newId("panel");
  const heading = h("h2", { id, text: title });
  return h("section", { class: "panel", "aria-labelledby": id }, h("div", { class: "panel-head" }, heading), ...content);
}
