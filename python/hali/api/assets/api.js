// Requests to the daemon this page came from, with the API key where one is needed. Errors are `ApiError`s in hali's words.

const STORED = "hali-key";

export class ApiError extends Error {
  constructor(status, told) {
    super(told.message ?? `the daemon answered ${status}`);
    this.status = status;
    this.code = told.code ?? "";
    this.hint = told.hint ?? "";
    this.details = told.details ?? {};
  }

  get choices() {
    return this.details.choices ?? [];
  }

  // What failed and what to do, in one line.
  get line() {
    return this.hint ? `${this.message} (${this.hint})` : this.message;
  }
}

let askForKey = async () => null;
let tellOfKey = () => {};

// `ask(reason)` resolves to a key, or null when the person gave none; `given()` is told when there is another one.
export function onKeyNeeded(ask, given) {
  askForKey = ask;
  tellOfKey = given;
}

let key = stored();

function stored() {
  try {
    return sessionStorage.getItem(STORED);
  } catch {
    return null; // storage is turned off: the key is kept by the page alone
  }
}

function keep(given) {
  key = given;
  try {
    sessionStorage.setItem(STORED, given);
  } catch {
    // as above
  }
}

export function headers() {
  return key ? { authorization: `Bearer ${key}` } : {};
}

export async function problemOf(response) {
  const body = await response.json().catch(() => ({}));
  const told = body.error ?? body;
  return new ApiError(response.status, typeof told === "string" ? { message: told } : told);
}

// A response that is fine; asks for a key once for all that wait for one, and tries again with it.
export async function request(path, options = {}) {
  const used = headers().authorization;
  const response = await fetch(path, { ...options, headers: { ...options.headers, ...headers() } });
  if (response.ok) return response;
  const problem = await problemOf(response);
  if (response.status !== 401 && !(response.status === 403 && problem.code === "insufficient_scope")) throw problem;
  if (!(await newKey(used, problem.message))) throw problem;
  return request(path, options);
}

let asking = null;

async function newKey(used, reason) {
  if (headers().authorization !== used) return true; // somebody else got one meanwhile
  asking ??= askForKey(reason).finally(() => (asking = null));
  const given = await asking;
  if (!given) return false;
  keep(given);
  tellOfKey();
  return true;
}

// `body` as JSON to `path`; the response.
export function post(path, body, signal) {
  const headers = { "content-type": "application/json" };
  return request(path, { method: "POST", headers, body: JSON.stringify(body), signal });
}

// The result of one of the daemon's methods.
export async function call(method, params = {}) {
  return (await post(`/dashboard/call/${method}`, params)).json();
}

export async function ticket() {
  return (await (await post("/dashboard/ticket", {})).json()).ticket;
}

export async function chatModels() {
  const response = await request("/v1/models");
  return (await response.json()).data.map((model) => model.id);
}
