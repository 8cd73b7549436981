// The bar at the top: rates and sparkline, totals, whether the daemon is there, and the switch of colours.

import { button, setAttr, setText, show } from "./dom.js";
import { bytes, rate } from "./format.js";
import { Sparkline } from "./sparkline.js";

const THEMES = ["auto", "light", "dark"];
const STORED = "hali-theme";
const at = (id) => document.getElementById(id);

export function header(state, retry) {
  const spark = new Sparkline("Rates of the last five minutes");
  at("spark").append(spark.el);
  const again = button("Try now", retry, { class: "quiet" });
  at("offline").append(again);
  themeSwitch();
  const update = (changed) => {
    if (changed.has("stats")) totals(state.parts.stats);
    if (changed.has("rates")) spark.update(state.rates);
    if (changed.has("connection") || changed.has("hello")) connection(state);
  };
  return { update };
}

function totals(stats) {
  setText(at("rate-down"), rate(stats.down_rate));
  setText(at("rate-up"), rate(stats.up_rate));
  setText(at("total-down"), bytes(stats.down_total));
  setText(at("total-up"), bytes(stats.up_total));
  show(at("paused"), stats.paused);
}

function connection({ connection: now, hello }) {
  const open = now.state === "open";
  document.body.dataset.connection = now.state;
  setText(at("status"), open ? "Connected" : now.state === "lost" || now.attempt ? "Disconnected" : "Connecting…");
  setAttr(at("status"), "data-state", now.state);
  setText(at("node"), hello ? hello.node.slice(0, 12) : "");
  show(at("offline"), now.state === "lost" || (now.state === "connecting" && now.attempt > 0));
  if (now.state === "lost") setText(at("offline-text"), absent(now));
}

// Told once per break, not once per try: a screen reader would else be told every few seconds.
function absent({ problem }) {
  if (problem) return `The daemon refuses this page: ${problem}.`;
  return "The daemon does not answer. What you see is what it said last; this page goes on by itself when it is back.";
}

function themeSwitch() {
  const control = at("theme");
  const apply = (theme) => {
    const chosen = theme === "auto" ? null : theme;
    setAttr(document.documentElement, "data-theme", chosen);
    setText(control, { auto: "Colours: system", light: "Colours: light", dark: "Colours: dark" }[theme]);
    try {
      if (chosen) localStorage.setItem(STORED, chosen);
      else localStorage.removeItem(STORED);
    } catch {
      // storage is turned off: the choice lasts as long as the page
    }
  };
  const present = () => document.documentElement.dataset.theme ?? "auto";
  control.addEventListener("click", () => apply(THEMES[(THEMES.indexOf(present()) + 1) % THEMES.length]));
  apply(present());
}
