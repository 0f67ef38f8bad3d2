// Numbers as people write and read them.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/** A number of bytes with the unit that fits: `1.5 GiB`. */
export function bytes(count: number): string {
  let [value, unit] = [count, 0];
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  const digits = unit === 0 || value >= 1000 || Number.isInteger(value) ? 0 : value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

/** Exact, so that reading it gives the same: `1536MiB`. */
export function exactBytes(count: number): string {
  let [value, unit] = [count, 0];
  while (value > 0 && value % 1024 === 0 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return unit === 0 ? String(value) : `${value}${UNITS[unit]}`;
}

/** The bytes of a size that somebody wrote: `1.5TiB`, `512M`, `4GB`; a letter alone is a unit of 1024. */
export function parseBytes(text: string): number | undefined {
  const parts = /^(\d+(?:\.\d+)?)\s*(?:([kmgtpe]?)(i?)(b?))$/i.exec(text.trim());
  if (!parts) return undefined;
  const [, number, letter = "", i, b] = parts;
  if (!letter && i) return undefined;
  const power = letter ? "kmgtpe".indexOf(letter.toLowerCase()) + 1 : 0;
  const value = Number(number) * (b && !i ? 1000 : 1024) ** power;
  return Number.isFinite(value) ? Math.round(value) : undefined;
}

/** A rate, short: `12.4k`. */
export function short(value: number): string {
  if (value >= 1e9) return `${(value / 1e9).toFixed(1)}G`;
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)}M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(1)}k`;
  if (value >= 10 || Number.isInteger(value)) return value.toFixed(0);
  return value.toFixed(1);
}

/** A time that a command took. */
export function latency(ns: number | null | undefined): string {
  if (ns === null || ns === undefined) return "–";
  if (ns < 1e3) return `${ns} ns`;
  if (ns < 1e6) return `${(ns / 1e3).toFixed(ns < 1e5 ? 1 : 0)} µs`;
  if (ns < 1e9) return `${(ns / 1e6).toFixed(ns < 1e8 ? 1 : 0)} ms`;
  return `${(ns / 1e9).toFixed(1)} s`;
}

/** A span of time: `3 min`. */
export function span(seconds: number): string {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} days`;
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const date = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** A moment: the clock alone if it is of today. */
export function moment(ms: number): string {
  const then = new Date(ms);
  return then.toDateString() === new Date().toDateString() ? clock.format(then) : date.format(then);
}

/** A moment with its date. */
export const fullMoment = (ms: number) => date.format(new Date(ms));

export const count = (many: number, one: string, more = `${one}s`) => `${many.toLocaleString()} ${many === 1 ? one : more}`;

/** A name that is written with underscores, in words. */
export const words = (name: string) => name.replaceAll("_", " ");
