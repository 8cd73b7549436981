// The composition root of the page: the table of sections, what is shown, and the wires between daemon, state and views.

import { onKeyNeeded, ticket } from "./api.js";
import { chatView } from "./chat.js";
import { askKey } from "./dialogs.js";
import { h, setAttr } from "./dom.js";
import { header } from "./header.js";
import { among, ended } from "./pull.js";
import { Socket } from "./socket.js";
import { State } from "./state.js";
import { complain, tell } from "./toasts.js";
import { activityView } from "./view-activity.js";
import { enginesView } from "./view-engines.js";
import { modelsView } from "./view-models.js";
import { networkView } from "./view-network.js";
import { overviewView } from "./view-overview.js";
import { settingsView } from "./view-settings.js";
import { systemView } from "./view-system.js";
import { transfersView } from "./view-transfers.js";

// Another section (pipelines, mesh peers, ledger, League) is another row here. `make(app)` gives `{parts, el, update(state)}`;
// it is made when it is first shown, and updated while it is shown, when one of its parts changed.
const SECTIONS = [
  { id: "overview", title: "Overview", make: overviewView },
  { id: "models", title: "Models", make: modelsView },
  { id: "transfers", title: "Transfers", make: transfersView },
  { id: "chat", title: "Chat", make: chatView },
  { id: "engines", title: "Engines", make: enginesView },
  { id: "network", title: "Network", make: networkView },
  { id: "activity", title: "Activity", make: activityView },
  { id: "settings", title: "Settings", make: settingsView },
  { id: "system", title: "System", make: systemView },
];

const state = new State();
const views = new Map();
const main = document.getElementById("main");
const links = new Map();
const app = { pulls: new Set(), chatWith }; // `pulls`: ids of jobs that were asked for here
let current = null;

function viewOf(section) {
  if (!views.has(section.id)) {
    const view = section.make(app);
    view.el.id = `view-${section.id}`;
    views.set(section.id, view);
  }
  return views.get(section.id);
}

function go(focus = true) {
  const section = SECTIONS.find(({ id }) => `#${id}` === location.hash) ?? SECTIONS[0];
  const view = viewOf(section);
  document.title = `${section.title} · hali`;
  document.getElementById("title").textContent = section.title;
  for (const [id, link] of links) setAttr(link, "aria-current", id === section.id ? "page" : null);
  reveal(links.get(section.id));
  if (view !== current) main.querySelector("#view").replaceChildren(view.el);
  current = view;
  view.update(state);
  if (focus) {
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
}

// On a narrow screen the navigation is a row that scrolls by itself.
function reveal(link) {
  const row = document.getElementById("nav-list");
  row.scrollLeft = link.offsetLeft - (row.clientWidth - link.offsetWidth) / 2;
}

function chatWith(model) {
  location.hash = "chat";
  go();
  viewOf(SECTIONS.find(({ id }) => id === "chat")).choose(model);
}

function navigation() {
  for (const { id, title } of SECTIONS) links.set(id, h("a", { href: `#${id}`, text: title }));
  document.getElementById("nav-list").append(...[...links.values()].map((link) => h("li", {}, link)));
}

// A pull of this page that failed because several models fit: the person is asked which one.
async function offer(events) {
  for (const { kind, fields } of events) {
    if (kind !== "pull.failed" || !app.pulls.has(fields.job)) continue;
    const error = await ended(app, fields.job);
    if (error?.choices?.length) await among(app, error).catch(complain);
  }
}

navigation();
const bar = header(state, () => socket.now());
state.subscribe((changed) => {
  bar.update(changed);
  if (current.parts.some((part) => changed.has(part))) current.update(state);
  tell(state.fresh);
  offer(state.fresh);
});
onKeyNeeded(askKey, () => socket.now()); // which does not ask by itself once somebody declined
const socket = new Socket(ticket, (message) => state.apply(message), (now) => state.connected(now));
addEventListener("hashchange", () => go());
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the fragment names the section
  main.focus();
});
go(false);
socket.now();
