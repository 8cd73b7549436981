// The box to fetch a model with: a name, a repository or a magnet link; what is ambiguous is offered to choose from.

import { ApiError, call } from "./api.js";
import { chosen } from "./dialogs.js";
import { h, newId, setAttr, setText, show } from "./dom.js";
import { bytes, count } from "./format.js";
import { toast } from "./toasts.js";

const OFFERED = 10; // findings to choose from, as the CLI offers
const FITS = { gpu: "fits the GPU", ram: "fits", shared: "fits GPU and RAM together", no: "too large for this machine" };

export function pullBox(app) {
  const problem = h("p", { id: newId("pull-problem"), class: "error-text", role: "alert", hidden: true });
  const input = h("input", {
    type: "text",
    id: newId("pull"),
    autocomplete: "off",
    spellcheck: false,
    placeholder: "owner/repo, a model's name, or magnet:?…",
  });
  setAttr(input, "aria-describedby", problem.id);
  const submit = h("button", { type: "submit", class: "primary", text: "Pull" });
  const search = h("button", { type: "submit", text: "Search" });
  const label = h("label", { htmlFor: input.id, text: "Name, repository or magnet link" });
  const form = h("form", { class: "pull" }, label, h("div", { class: "inline" }, input, submit, search), problem);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const what = input.value.trim();
    if (!what) return;
    const act = event.submitter === search ? find : pull;
    for (const control of [submit, search]) control.disabled = true;
    complainAt(input, problem, null);
    try {
      if (await act(app, what)) input.value = "";
    } catch (error) {
      complainAt(input, problem, error.line ?? "The daemon does not answer.");
    }
    for (const control of [submit, search]) control.disabled = false;
  });
  return { el: form };
}

function complainAt(input, problem, text) {
  setText(problem, text ?? "");
  show(problem, Boolean(text));
  setAttr(input, "aria-invalid", text ? "true" : null);
}

// Asks which one where there are several; true when a job was made.
export async function pull(app, what) {
  const wanted = isRepository(what) ? await ofRepository(what) : what;
  if (wanted === null) return false;
  const { job } = await call("pull", { what: wanted });
  app.pulls.add(job); // its end is an event, which may have come before this answer
  const over = await ended(app, job);
  if (over?.choices?.length) return among(app, over);
  if (over) throw over;
  return true; // the daemon's event tells that it began
}

// The error that a job of this page ended with, told to the first who asks; else null.
export async function ended(app, job) {
  const error = await call("outcome", { job }).then(() => null, (problem) => problem);
  return error instanceof ApiError && app.pulls.delete(job) ? error : null; // else it was the question that failed
}

// What all providers have that fits the words, to choose from.
async function find(app, text) {
  const { results, warnings } = await call("search", { text, limit: OFFERED });
  for (const warning of warnings) toast(warning, "warning");
  if (!results.length) throw new ApiError(404, { message: `nothing is found for ${text}` });
  const options = results.map((item) => ({ value: item.name, label: item.name, note: popularity(item) }));
  const name = await chosen(`Found for ${text}`, null, options);
  return name === null ? false : pull(app, name);
}

function popularity({ downloads, provider }) {
  return downloads === null || downloads === undefined ? provider : `${count(downloads, "download")} · ${provider}`;
}

// The same question when it turns out later, from the error that a job of ours ended with.
export async function among(app, error) {
  const options = error.choices.map((choice) => ({ value: nameOf(choice), label: choice }));
  const what = await chosen("Which one?", error.message, options);
  return what === null ? false : pull(app, what);
}

// What a pull takes for a line of choices: its SHA-256 where it names one. Pure.
function nameOf(choice) {
  return /\(sha256 ([0-9a-f]+)…?\)/.exec(choice)?.[1] ?? choice;
}

// `owner/repo`, perhaps with a revision: neither a link, nor a path, nor a file in a repository.
function isRepository(what) {
  return /^[\w.-]+\/[\w.-]+(@[\w./-]+)?$/.test(what);
}

async function ofRepository(what) {
  const found = await call("choices", { what });
  if (found.models.length < 2) return what;
  const options = found.models.map((model) => {
    return { value: model.files[0], label: model.quant ?? model.files[0], note: noteOf(model) };
  });
  const revision = what.includes("@") ? what.slice(what.indexOf("@")) : "";
  const file = await chosen(`${found.repo} has ${found.models.length} models`, null, options, found.default ?? undefined);
  return file === null ? null : `${found.repo}${revision}/${file}`;
}

function noteOf(model) {
  const many = model.missing ? "incomplete" : model.files.length > 1 ? `${model.files.length} files` : "";
  const fits = model.here ? "here" : (FITS[model.fits] ?? "");
  return [bytes(model.size), many, fits].filter(Boolean).join(" · ");
}
