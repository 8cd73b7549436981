// Short notes over the page, read out politely: events that are loud enough, and answers to what a person did here.

import { button, h } from "./dom.js";

const SHOWN = 4; // more would cover the page
const LASTING_MS = 6000; // two lines, read slowly; what is an error stays until somebody closes it

const region = () => document.getElementById("toasts");

export function toast(text, level = "info") {
  const close = button("×", () => note.remove(), { "aria-label": "Dismiss" });
  const note = h("div", { class: `toast ${level}` }, h("p", { text }), close);
  region().append(note);
  while (region().childElementCount > SHOWN) region().firstElementChild.remove();
  if (level !== "error") setTimeout(() => leave(note), LASTING_MS);
}

// A note under the pointer or with the focus in it is being read.
function leave(note) {
  if (note.matches(":hover, :focus-within")) setTimeout(() => leave(note), LASTING_MS);
  else note.remove();
}

// Of many events at once the last few: those before would be pushed out in the same frame.
export function tell(events) {
  const loud = events.filter((event) => event.toast_level !== "none");
  for (const event of loud.slice(-SHOWN)) toast(event.text, event.toast_level);
}

// What went wrong with something that a person asked for.
export function complain(error) {
  toast(error.line ?? "The daemon does not answer.", "error");
}

// Runs `work` with `control` disabled meanwhile; an error becomes a note. The result, or undefined.
export async function during(control, work) {
  control.disabled = true;
  try {
    return await work();
  } catch (error) {
    complain(error);
    return undefined;
  } finally {
    control.disabled = false;
  }
}
