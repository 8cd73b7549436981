// A button that opens a small menu of actions: a popover of buttons, closed by Escape, by a click elsewhere, or by a choice.

import { button, h, newId, setAttr } from "./dom.js";

// `actions(row)` → `[{text, run(row), danger}]`, asked when the menu opens. Gives `{el, update(row)}`.
export function menu(label, actions) {
  const id = newId("menu");
  let row = null;
  const list = h("div", { id, popover: "auto", class: "menu" });
  const opener = h("button", { type: "button", class: "quiet", text: "⋯", popoverTargetElement: list });
  setAttr(opener, "aria-haspopup", "true");
  list.addEventListener("beforetoggle", (event) => {
    if (event.newState === "open") list.replaceChildren(...actions(row).map((action) => item(action, list, () => row)));
  });
  list.addEventListener("toggle", (event) => {
    if (event.newState === "open") place(list, opener);
  });
  list.addEventListener("keydown", (event) => move(list, event));
  const update = (value) => {
    row = value;
    setAttr(opener, "aria-label", label(row));
  };
  return { el: h("div", { class: "menu-anchor" }, opener, list), update };
}

function item({ text, run, danger }, list, rowOf) {
  const act = () => {
    list.hidePopover();
    run(rowOf());
  };
  return button(text, act, { class: danger ? "danger-text" : "" });
}

// Under the button, and wholly on the screen.
function place(list, opener) {
  const at = opener.getBoundingClientRect();
  const size = list.getBoundingClientRect();
  const below = at.bottom + 4 + size.height <= innerHeight;
  list.style.top = `${below ? at.bottom + 4 : Math.max(8, at.top - 4 - size.height)}px`;
  list.style.left = `${Math.max(8, Math.min(at.right - size.width, innerWidth - size.width - 8))}px`;
  list.firstElementChild?.focus();
}

function move(list, event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const items = [...list.children];
  const next = (items.indexOf(document.activeElement) + step + items.length) % items.length;
  items[next].focus();
}
