/** Rates and times as people write them, and quantities as they read them. (Sizes are read by `codec/sizes.ts`.) */

const timeUnits: Readonly<Record<string, number>> = {
  us: 0.001,
  ms: 1,
  s: 1000,
  "": 1000,
  m: 60_000,
  min: 60_000,
  h: 3_600_000,
};

/** Milliseconds; a bare number is seconds. null when the text is not a time. */
export function parseDuration(text: string): number | null {
  const match = /^(\d{1,9}(?:\.\d{1,6})?)\s*([a-z]{0,3})$/i.exec(text.trim());
  const unit = match === null ? undefined : timeUnits[match[2]!.toLowerCase()];
  return match === null || unit === undefined ? null : Number(match[1]) * unit;
}

const rateUnits: Readonly<Record<string, number>> = { bit: 1, kbit: 1e3, mbit: 1e6, gbit: 1e9 };

/** Bytes per second, from `100mbit` (decimal, as networks count); null when the text is not a rate. */
export function parseRate(text: string): number | null {
  const match = /^(\d{1,9}(?:\.\d{1,6})?)\s*([a-z]{3,4})(?:\/s)?$/i.exec(text.trim());
  const unit = match === null ? undefined : rateUnits[match[2]!.toLowerCase()];
  return match === null || unit === undefined ? null : (Number(match[1]) * unit) / 8;
}

/** 0 to 1, from `0.1%` or `0.001`; null when it is no share. */
export function parseShare(text: string): number | null {
  const match = /^(\d{1,3}(?:\.\d{1,9})?)(%?)$/.exec(text.trim());
  if (match === null) return null;
  const share = Number(match[1]) / (match[2] === "%" ? 100 : 1);
  return share <= 1 ? share : null;
}

/** `0 B`, `512 B`, `4.0 KiB`, `1.5 GiB`. */
export function formatBytes(bytes: number): string {
  const units = ["KiB", "MiB", "GiB", "TiB", "PiB"];
  if (bytes < 1024) return `${bytes} B`;
  let value = bytes;
  let unit = "";
  for (const candidate of units) {
    value /= 1024;
    unit = candidate;
    if (value < 1023.95) break;
  }
  return `${value >= 100 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(1)} ${unit}`;
}

/** `12 ms`, `3.4 s`, `2 min 5 s`, `3 h 20 min`. */
export function formatMs(ms: number): string {
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

export function formatCount(count: number): string {
  return String(count).replace(/\B(?=(\d{3})+(?!\d))/g, ",");
}
