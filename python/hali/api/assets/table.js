// A table with a caption whose rows are updated in place; on a narrow screen each row becomes a card (see parts.css).

import { h, keyed, setAttr, setText, show } from "./dom.js";

// `columns`: `{title, text(row)}`, or `{title, cell()}` that gives `{el, update(row)}`; `class` styles both header and cells.
// Roles are written out, because `display: block` on a narrow screen would take the table's own away.
export function table({ caption, columns, key, empty }) {
  const head = columns.map(({ title, class: kind, bare }) =>
    h("th", { scope: "col", role: "columnheader", class: kind }, h("span", { text: title, class: bare ? "sr" : null })),
  );
  const body = h("tbody", { role: "rowgroup" });
  const element = h(
    "table",
    { role: "table", class: "stack" },
    h("caption", { text: caption, class: "sr" }),
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ...head)),
    body,
  );
  const nothing = h("p", { class: "empty", text: empty });
  const update = (rows) => {
    keyed(body, rows, key, () => makeRow(columns));
    show(element, rows.length > 0);
    show(nothing, rows.length === 0);
  };
  return { el: h("div", { class: "table" }, element, nothing), update };
}

function makeRow(columns) {
  const updates = [];
  const cells = columns.map((column, index) => {
    const cell = h(index ? "td" : "th", { role: index ? "cell" : "rowheader", class: column.class });
    if (!index) cell.scope = "row";
    setAttr(cell, "data-label", column.bare ? null : column.title);
    updates.push(filled(cell, column));
    return cell;
  });
  return { el: h("tr", { role: "row" }, ...cells), update: (row) => updates.forEach((update) => update(row)) };
}

function filled(cell, column) {
  if (column.text) return (row) => setText(cell, column.text(row));
  const inner = column.cell();
  cell.append(inner.el);
  return inner.update;
}

// A cell with the state of its row and a mark in its colour; `state(row)` is the word.
export function stateCell(state = (row) => row.state) {
  const el = h("span", { class: "state" });
  const update = (row) => {
    setText(el, state(row));
    setAttr(el, "data-state", state(row));
  };
  return { el, update };
}
