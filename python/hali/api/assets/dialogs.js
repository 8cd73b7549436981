// Questions to the person at the page, each a modal `<dialog>`: the browser holds the focus in it and gives it back.

import { button, h, newId } from "./dom.js";
import { inline } from "./markdown.js";

// The value of the button that was pressed, or null for Escape. `fields` stand between text and buttons.
function ask(title, text, fields, buttons) {
  const id = newId("dialog");
  const form = h("form", { method: "dialog" });
  const box = h("dialog", { "aria-labelledby": id }, form);
  const about = text ? [h("p", {}, ...inline(text))] : [];
  form.append(h("h2", { id, text: title }), ...about, ...fields, h("div", { class: "buttons" }, ...buttons));
  document.body.append(box);
  box.showModal();
  return new Promise((resolve) => {
    box.addEventListener("close", () => {
      resolve(box.returnValue || null);
      box.remove();
    });
  });
}

const submit = (text, kind = "primary") => h("button", { type: "submit", value: "yes", text, class: kind });
const cancel = (text = "Cancel") => button(text, (event) => event.target.closest("dialog").close(""));

export async function confirmed(title, text, yes) {
  return (await ask(title, text, [], [cancel(), submit(yes, "danger")])) === "yes";
}

// The `value` that was chosen of `[{value, label, note, disabled}]`, or null.
export async function chosen(title, text, options, preset = null) {
  const name = newId("choice");
  const rows = options.map(({ value, label, note }) =>
    h(
      "label",
      { class: "choice" },
      h("input", { type: "radio", name, value, checked: value === (preset ?? options[0].value) }),
      h("span", {}, h("strong", { text: label }), h("small", { text: note ?? "" })),
    ),
  );
  const group = h("fieldset", {}, h("legend", { class: "sr", text: title }), ...rows);
  if ((await ask(title, text, [group], [cancel(), submit("Pull")])) !== "yes") return null;
  return group.querySelector("input:checked")?.value ?? null;
}

// The dashboard shows and changes everything, so its key needs every scope (api/scopes.py).
const MAKES_KEY = "hali keys create NAME --scope inference --scope models --scope manage --scope metrics";

// An API key, or null.
export async function askKey(reason) {
  const input = h("input", { type: "password", autocomplete: "off", required: true, spellcheck: false });
  input.pattern = "\\s*[\\x21-\\x7e]+\\s*"; // no header can have more, and a request with it would fail in the browser, again and again
  input.title = "A key has neither spaces nor letters beyond ASCII.";
  const field = h("label", { class: "field" }, h("span", { text: "API key" }), input);
  const text = `${reason}. \`${MAKES_KEY}\` makes a key for it; this page keeps it until its tab is closed.`;
  const answer = await ask("This node asks for a key", text, [field], [cancel(), submit("Continue")]);
  return answer === "yes" ? input.value.trim() || null : null;
}

// Text to be copied by hand, where the browser gives no clipboard (a page over plain HTTP from another machine).
export async function showText(title, text) {
  const area = h("textarea", { readOnly: true, rows: 5, value: text, "aria-label": title });
  area.addEventListener("focus", () => area.select());
  await ask(title, null, [area], [submit("Close")]);
}
