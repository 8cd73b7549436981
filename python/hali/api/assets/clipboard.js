// Copies text for a person, or shows it to be copied by hand.

import { showText } from "./dialogs.js";
import { toast } from "./toasts.js";

export async function copy(what, text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    await showText(what, text); // no permission, or no secure context: a page over plain HTTP from another machine
    return;
  }
  toast(`${what} copied.`, "success");
}
