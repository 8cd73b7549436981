// All that the daemon has told this page. `apply` takes its messages in any number; readers hear once per animation frame.

const KEPT = 500; // events; far more than anybody scrolls through, and some 200 kB
const WINDOW_S = 300; // of rates: what the daemon keeps too

export class State {
  constructor(schedule = (run) => requestAnimationFrame(run)) {
    this.hello = null;
    this.parts = {};
    this.rates = [];
    this.events = []; // the oldest first
    this.missed = 0; // events that this page was too slow for
    this.fresh = []; // events since the last frame that are news, not replay
    this.connection = { state: "connecting" };
    this._last = 0; // highest `seq` of this run of the daemon
    this._known = false; // this run of the daemon was seen before the present connection
    this._schedule = schedule;
    this._dirty = new Set();
    this._readers = new Set();
  }

  // `reader(changed)` gets the names of what changed: parts, and `hello`, `rates`, `activity`, `connection`.
  subscribe(reader) {
    this._readers.add(reader);
  }

  apply(message) {
    const known = { hello: "_hello", activity: "_activity", lagged: "_lagged", part: "_part", rate: "_rate" };
    const handler = known[message.t];
    if (handler) this[handler](message); // a newer daemon may tell more than this page knows
  }

  connected(connection) {
    this.connection = connection;
    this._changed("connection");
  }

  _hello(message) {
    this._known = message.boot === this.hello?.boot;
    if (!this._known) {
      this.events = []; // numbers begin anew with each run; the replay tells what this one did so far
      this._last = 0;
      this.missed = 0;
    }
    this.hello = message;
    this._changed("hello");
    this._changed("activity");
  }

  _activity({ event, replay }) {
    if (event.seq <= this._last) return; // a replay after a short break tells again what is known
    const news = !replay || this._known; // what happened during a break is news as well
    this._last = event.seq;
    event.key = `${this.hello.boot}/${event.seq}`;
    this.events.push(event);
    if (this.events.length > 2 * KEPT) this.events = this.events.slice(-KEPT);
    if (news) this.fresh.push(event);
    if (this.fresh.length > KEPT) this.fresh = this.fresh.slice(-KEPT);
    this._changed("activity");
  }

  _lagged({ missed }) {
    this.missed += missed;
    this._changed("activity");
  }

  _part({ name, value }) {
    if (name === "rates") this.rates = value;
    else this.parts[name] = value;
    this._changed(name);
  }

  _rate({ value }) {
    this.rates.push(value);
    const oldest = value[0] - WINDOW_S;
    while (this.rates.length && this.rates[0][0] < oldest) this.rates.shift();
    this._changed("rates");
  }

  _changed(name) {
    if (this._dirty.size === 0) this._schedule(() => this._flush());
    this._dirty.add(name);
  }

  _flush() {
    const changed = this._dirty;
    this._dirty = new Set();
    for (const reader of this._readers) reader(changed);
    this.fresh = [];
  }
}
