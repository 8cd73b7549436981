// Holds a WebSocket to the daemon: a ticket each, back-off when it goes away, and every message as an object to `deliver`.

const FIRST_MS = 250; // a restart of the daemon takes about a second
const LONGEST_MS = 10_000; // people do not wait longer before they reload the page
const SILENT_MS = 60_000; // the daemon tells the rates every second: who is silent that long is gone

export class Socket {
  constructor(ticket, deliver, connected) {
    Object.assign(this, { _ticket: ticket, _deliver: deliver, _connected: connected });
    this._attempt = 0;
    this._timer = null;
    this._quiet = null;
    this._busy = false;
    addEventListener("online", () => this.now());
    document.addEventListener("visibilitychange", () => document.hidden || this.now());
  }

  // Connects, unless it is connected or about to be.
  now() {
    if (this._busy) return;
    clearTimeout(this._timer);
    this._busy = true;
    this._connect().catch((error) => this._lost(error));
  }

  async _connect() {
    this._connected({ state: "connecting", attempt: this._attempt });
    const ticket = await this._ticket();
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}/dashboard/ws?ticket=${encodeURIComponent(ticket)}`);
    socket.onmessage = ({ data }) => this._message(JSON.parse(data), socket);
    socket.onclose = () => this._lost();
  }

  _message(message, socket) {
    clearTimeout(this._quiet);
    this._quiet = setTimeout(() => socket.close(), SILENT_MS);
    if (message.t === "hello") {
      this._attempt = 0;
      this._connected({ state: "open" });
    }
    this._deliver(message);
  }

  _lost(error) {
    clearTimeout(this._quiet);
    this._busy = false;
    const wait = backOff(this._attempt, Math.random());
    this._attempt += 1;
    this._connected({ state: "lost", attempt: this._attempt, wait, problem: error?.status ? error.message : null });
    // Refused: the person decides when to try again.
    if (error?.status !== 401 && error?.status !== 403) this._timer = setTimeout(() => this.now(), wait);
  }
}

// Milliseconds before the next try; half of it at random, so that all open pages do not come at once. Pure.
export function backOff(attempt, random) {
  const most = Math.min(LONGEST_MS, FIRST_MS * 2 ** attempt);
  return most / 2 + (random * most) / 2;
}
