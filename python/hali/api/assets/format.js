// Quantities as people read them: the same text, to the digit, as hali's own commands print (model/units.py).

// Like Python's `format(value, ".Nf")`: exact ties go to the even digit, where toFixed takes the larger one.
export function fixed(value, digits) {
  const size = Math.abs(value);
  const halves = size * 2 ** (digits + 1); // a tie can only be an odd number of these, and the product is exact
  if (!Number.isInteger(halves) || halves % 2 === 0) return value.toFixed(digits);
  const below = Math.floor(size * 10 ** digits);
  const even = below % 2 === 0 ? below : below + 1;
  return `${value < 0 ? "-" : ""}${(even / 10 ** digits).toFixed(digits)}`;
}

// `98362432` → `98.4 MB`.
export function bytes(n) {
  let value = Number(n);
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (Math.abs(value) < 1000) return `${fixed(value, unit === "B" ? 0 : 1)} ${unit}`;
    value /= 1000;
  }
  return `${fixed(value, 1)} TB`;
}

// A rate nobody measured is a dash.
export function rate(bytesPerSecond) {
  return bytesPerSecond === null || bytesPerSecond === undefined ? "—" : `${bytes(bytesPerSecond)}/s`;
}

// `8100` → `2h15m0s`.
export function duration(seconds) {
  const whole = Math.trunc(seconds);
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  const rest = `${whole % 60}s`;
  if (hours) return `${hours}h${minutes}m${rest}`;
  return minutes ? `${minutes}m${rest}` : rest;
}

// `done` of `total` as whole percent, rounded down: 100 % means all.
export function percent(done, total) {
  return Math.floor((100 * done) / total);
}

export function count(number, noun) {
  return number === 1 ? `1 ${noun}` : `${number} ${noun}s`;
}

// Of a person's clock: `14:05:09`, with the day when it is not today.
export function clock(seconds) {
  const when = new Date(seconds * 1000);
  const pad = (n) => String(n).padStart(2, "0");
  const time = `${pad(when.getHours())}:${pad(when.getMinutes())}:${pad(when.getSeconds())}`;
  if (when.toDateString() === new Date().toDateString()) return time;
  return `${when.getFullYear()}-${pad(when.getMonth() + 1)}-${pad(when.getDate())} ${time}`;
}

// `base:size:variant:quant` → the name without the quant, and the quant.
export function splitId(modelId) {
  const parts = String(modelId).split(":");
  if (parts.length < 4) return { name: String(modelId), quant: null };
  return { name: parts.slice(0, 3).join(":"), quant: parts.slice(3).join(":").toUpperCase() };
}

// Where bytes came from, with shares when there are several kinds.
export function sources(found) {
  const entries = Object.entries(found ?? {});
  const total = entries.reduce((sum, [, n]) => sum + n, 0);
  if (entries.length < 2 || !total) return entries.map(([kind]) => kind).join(", ");
  return entries.map(([kind, n]) => `${kind} ${percent(n, total)} %`).join(", ");
}
