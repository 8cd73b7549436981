// Jobs under way and waiting, and the pause of all transfers: what `hali queue`, `hali pause` and `hali resume` show and do.

import { call } from "./api.js";
import { button, h, keyed, panel, setAttr, setText, show } from "./dom.js";
import { bytes, count, duration, percent, rate, sources } from "./format.js";
import { during } from "./toasts.js";

const PAUSES = [["until I resume", ""], ["for 15 minutes", "900"], ["for 1 hour", "3600"], ["for 8 hours", "28800"]];
const PRIORITIES = ["high", "normal", "low"];

export function transfersView() {
  const pause = pauseControl();
  const jobs = jobList();
  const box = panel("Under way", pause.el, jobs.el);
  return {
    parts: ["stats"],
    el: h("div", { class: "view" }, box),
    update: ({ parts }) => {
      pause.update(parts.stats);
      jobs.update(parts.stats?.jobs ?? []);
    },
  };
}

export function jobList() {
  const list = h("ul", { class: "jobs" });
  const nothing = h("p", { class: "empty", text: "Nothing is being fetched or imported." });
  const update = (jobs) => {
    keyed(list, jobs, (job) => job.id, jobRow);
    show(list, jobs.length > 0);
    show(nothing, jobs.length === 0);
  };
  return { el: h("div", {}, list, nothing), update };
}

function jobRow(first) {
  const name = h("strong", { class: "name" });
  const state = h("span", { class: "state" });
  const bar = h("progress", { max: 100 });
  const facts = h("span", { class: "facts" });
  const cancel = button("Cancel", () => during(cancel, () => call("drop", { job: first.id })), { class: "quiet" });
  const priority = priorityControl(first);
  const head = h("div", { class: "job-head" }, name, state, h("div", { class: "row-actions" }, priority.el, cancel));
  const update = (job) => {
    setText(name, job.name);
    setText(state, job.position ? `${job.state}, ${job.position}. in the queue` : job.state);
    setAttr(state, "data-state", job.state);
    setAttr(cancel, "aria-label", `Cancel ${job.name}`);
    progress(bar, job);
    setText(facts, factsOf(job));
    priority.update(job);
  };
  return { el: h("li", { class: "job" }, head, bar, facts), update };
}

function progress(bar, job) {
  setAttr(bar, "aria-label", `${job.kind} ${job.name}`);
  if (job.total) bar.value = percent(job.done, job.total);
  else bar.removeAttribute("value"); // unknown, never 0
}

// `34.0 MB of 98.4 MB (34 %) · 41.0 MB/s · 2 peers · lan`, as the CLI's line of a job.
export function factsOf(job) {
  const amount = job.total ? `${bytes(job.done)} of ${bytes(job.total)} (${percent(job.done, job.total)} %)` : "";
  const left = job.rate && job.total && job.done ? `${duration((job.total - job.done) / job.rate)} left` : "";
  const peers = job.peers === null ? "" : count(job.peers, "peer");
  return [amount, job.rate ? rate(job.rate) : "", left, peers, sources(job.sources)].filter(Boolean).join(" · ");
}

function priorityControl(first) {
  const options = PRIORITIES.map((value) => h("option", { value, text: value }));
  const select = h("select", { class: "quiet" }, ...options);
  select.addEventListener("change", () => during(select, () => call("move", { job: first.id, priority: select.value })));
  const update = (job) => {
    show(select, job.state === "queued" && job.kind === "pull");
    setAttr(select, "aria-label", `Priority of ${job.name}`);
    if (document.activeElement !== select) select.value = job.priority;
  };
  return { el: select, update };
}

export function pauseControl() {
  const text = h("span", { class: "pause-text" });
  const length = h("select", { "aria-label": "How long" }, ...PAUSES.map(([label, value]) => h("option", { value, text: label })));
  const pause = button("Pause", () => during(pause, () => call("pause", length.value ? { seconds: Number(length.value) } : {})));
  const resume = button("Resume", () => during(resume, () => call("resume")), { class: "primary" });
  const el = h("div", { class: "pause" }, text, h("div", { class: "row-actions" }, pause, length, resume));
  const update = (stats) => {
    show(el, Boolean(stats));
    if (!stats) return;
    setText(text, told(stats));
    const held = [pause, length, resume].includes(document.activeElement);
    for (const control of [pause, length]) show(control, !stats.paused);
    show(resume, stats.paused);
    if (held) (stats.paused ? resume : document.activeElement.hidden ? pause : document.activeElement).focus();
  };
  return { el, update };
}

// The sentence of `hali pause`. Pure.
export function told(stats) {
  if (stats.paused) {
    const until = stats.paused_until ? ` until ${stats.paused_until.slice(0, 16).replace("T", " ")}` : "";
    return `Transfers are paused${until}${stats.paused_by === "schedule" ? " by the schedule" : ""}.`;
  }
  const caps = { down: stats.download_cap_mbps, up: stats.upload_cap_mbps };
  const limits = Object.entries(caps).filter(([, cap]) => cap).map(([name, cap]) => `${cap} Mbit/s ${name}`);
  return `Transfers run${limits.length ? `, at most ${limits.join(" and ")}` : ""}.`;
}

