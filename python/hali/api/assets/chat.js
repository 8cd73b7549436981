// A conversation with one of the models here, over the same API that any client uses. Kept in this tab only.

import { chatModels } from "./api.js";
import { completion } from "./completion.js";
import { button, h, newId, panel, setText, show } from "./dom.js";
import { count } from "./format.js";
import { rendered } from "./markdown.js";

const REPLY_TOKENS = 1024; // a long answer; more can be allowed in the options

export function chatView() {
  const chat = new Chat();
  let known = "";
  const update = ({ parts }) => {
    const now = (parts.models ?? []).map((model) => `${model.model_id} ${model.state}`).join();
    if (now === known && chat.hasModels) return;
    known = now;
    chat.offer();
  };
  return { parts: ["models"], el: chat.el, update, choose: (model) => chat.choose(model) };
}

class Chat {
  constructor() {
    this.messages = [];
    this._running = null;
    this._wanted = null;
    this._build();
  }

  get hasModels() {
    return this._model.options.length > 0;
  }

  // The models that can answer now; the choice stays where it still can be made.
  async offer() {
    const ids = await chatModels().catch(() => []);
    const before = this._wanted ?? this._model.value;
    this._model.replaceChildren(...ids.map((id) => h("option", { value: id, text: id })));
    if (ids.includes(before)) this._model.value = before;
    show(this._nothing, ids.length === 0);
    this._send.disabled = ids.length === 0;
    this._missed(ids);
  }

  // A model was asked for that cannot answer: another one stays chosen, and that is told.
  _missed(ids) {
    if (this._wanted && ids.length && !ids.includes(this._wanted)) this._complain({ line: `${this._wanted} cannot answer here.` });
  }

  choose(model) {
    this._wanted = model;
    const ids = [...this._model.options].map((option) => option.value);
    if (ids.includes(model)) this._model.value = model;
    this._missed(ids);
    this._input.focus();
  }

  _build() {
    this._model = h("select", { onchange: () => (this._wanted = this._model.value) });
    this._nothing = h("p", { class: "empty", text: "No model here can answer yet. Pull one first.", hidden: true });
    this._system = h("textarea", { rows: 2 });
    this._temperature = h("input", { type: "number", min: 0, max: 2, step: 0.1, placeholder: "the model's" });
    this._limit = h("input", { type: "number", min: 1, step: 1, value: REPLY_TOKENS });
    this._log = h("div", { class: "messages", role: "log", "aria-label": "Conversation", tabIndex: 0 });
    this._input = h("textarea", { id: newId("message"), rows: 3, placeholder: "Enter sends, Shift+Enter makes a new line" });
    this._send = h("button", { type: "submit", class: "primary", text: "Send" });
    this._stop = button("Stop", () => this._running?.abort(), { hidden: true });
    this._error = h("p", { class: "error-text", role: "alert", hidden: true });
    this._input.addEventListener("keydown", (event) => this._key(event));
    const field = (text, control) => h("label", { class: "field" }, h("span", { text }), control);
    const numbers = [field("Temperature", this._temperature), field("Longest reply in tokens", this._limit)];
    const system = field("System prompt", this._system);
    const options = h("details", {}, h("summary", { text: "Options" }), system, h("div", { class: "inline" }, ...numbers));
    const anew = button("New conversation", () => this._clear(), { class: "quiet" });
    const head = h("div", { class: "chat-head" }, field("Model", this._model), anew);
    const label = h("label", { class: "sr", htmlFor: this._input.id, text: "Message" });
    const form = h("form", { class: "composer" }, label, this._input, h("div", { class: "buttons" }, this._stop, this._send));
    form.addEventListener("submit", (event) => this._submit(event));
    this.el = h("div", { class: "view chat" }, panel("Chat", head, this._nothing, options, this._log, this._error, form));
  }

  _key(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this._input.form.requestSubmit();
  }

  _clear() {
    this._running?.abort();
    this.messages = [];
    this._log.replaceChildren();
    show(this._error, false);
    this._input.focus();
  }

  async _submit(event) {
    event.preventDefault();
    const content = this._input.value.trim();
    if (!content || this._running || !this._model.value) return;
    this._input.value = "";
    this.messages.push({ role: "user", content });
    this._log.append(bubble("user", "You").show(content).el);
    await this._answer(bubble("assistant", this._model.value), content);
  }

  async _answer(reply, question) {
    this._log.append(reply.el);
    this._state(new AbortController());
    const [message, messages] = [{ role: "assistant", content: "" }, this.messages];
    try {
      for await (const chunk of completion(this._body(), this._running.signal)) {
        message.content += chunk.content;
        reply.show(message.content, chunk.thoughts).scroll(this._log);
        if (chunk.usage) reply.note(count(chunk.usage.completion_tokens, "token"));
      }
    } catch (error) {
      if (error.name === "AbortError") reply.note("stopped");
      else this._complain(error);
    }
    reply.finish();
    if (message.content) messages.push(message);
    else if (messages === this.messages) this._takeBack(question); // else another conversation has begun
    this._state(null);
  }

  // Nothing was said: the question is not part of the conversation, where two in a row break some templates.
  _takeBack(question) {
    this.messages.pop();
    this._input.value ||= question;
  }

  _body() {
    const system = this._system.value.trim();
    const first = system ? [{ role: "system", content: system }] : [];
    const body = { model: this._model.value, messages: [...first, ...this.messages] };
    if (this._temperature.value !== "") body.temperature = Number(this._temperature.value);
    if (this._limit.value !== "") body.max_tokens = Number(this._limit.value);
    return body;
  }

  _state(running) {
    this._running = running;
    show(this._stop, running !== null);
    show(this._send, running === null);
    this._log.setAttribute("aria-busy", String(running !== null)); // read out once it is whole
    if (running) show(this._error, false);
  }

  _complain(error) {
    setText(this._error, error.line ?? "The daemon went away in the middle of the reply.");
    show(this._error, true);
  }
}

// One message; text that streams in is drawn once per animation frame.
function bubble(role, name) {
  const text = h("div", { class: "text" });
  const thoughts = h("pre", {});
  const thinking = h("details", { hidden: true }, h("summary", { text: "Thoughts" }), thoughts);
  const note = h("small", { class: "muted" });
  const el = h("article", { class: `message ${role}`, "aria-label": name }, h("h3", { text: name }), thinking, text, note);
  let [content, pending] = ["", false];
  const draw = () => {
    pending = false;
    text.replaceChildren(...rendered(content));
  };
  const made = {
    el,
    show(whole, thought = "") {
      content = whole;
      if (thought) thoughts.append(thought);
      show(thinking, thoughts.textContent !== "");
      if (!pending) requestAnimationFrame(draw);
      pending = true;
      return made;
    },
    note: (words) => setText(note, words),
    finish: () => draw(),
    scroll(log) {
      const near = log.scrollHeight - log.scrollTop - log.clientHeight < 120; // who reads further up is left there
      if (near) log.scrollTop = log.scrollHeight;
    },
  };
  return made;
}
