/** Sizes as people and profiles write them: `10GiB`, `512MiB`, `1TB`, or bytes. Printed in binary units. */

const unitBytes: Readonly<Record<string, number>> = {
  "": 1,
  b: 1,
  kib: 1024,
  mib: 1024 ** 2,
  gib: 1024 ** 3,
  tib: 1024 ** 4,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
};

/** Bytes; null when the text is not a size, not a whole number of bytes, or beyond 2^53 - 1. */
export function parseSize(text: string): number | null {
  const match = /^(\d{1,16}(?:\.\d{1,6})?)\s?([a-z]{0,3})$/i.exec(text.trim());
  const factor = unitBytes[(match?.[2] ?? "").toLowerCase()];
  if (match === null || factor === undefined) return null;
  const bytes = Number(match[1]) * factor;
  return Number.isSafeInteger(bytes) ? bytes : null;
}

/** The exact size in the largest binary unit that gives a whole number: `256MiB`, `1000B`. `parseSize` reads it back. */
export function formatSize(bytes: number): string {
  for (const unit of ["TiB", "GiB", "MiB", "KiB"]) {
    const factor = unitBytes[unit.toLowerCase()] ?? 1;
    if (bytes >= factor && bytes % factor === 0) return `${bytes / factor}${unit}`;
  }
  return `${bytes}B`;
}
