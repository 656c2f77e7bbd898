/**
 * What a power loss does to bytes that were written and not yet made durable: per 512-byte sector, the new content, an older one, or
 * garbage. One loss has one temper (mostly applied, mostly dropped, mixed), so that the clean cases happen as often as the torn ones.
 */
import type { Prng } from "./prng.ts";

export const sectorBytes = 512;

export interface Temper {
  /** The share of regions (pages) that are kept or dropped as a whole. */
  readonly wholeRate: number;
  /** The share of sectors, or whole regions, that hold the new content. */
  readonly appliedRate: number;
  /** The share of sectors that hold garbage. */
  readonly garbledRate: number;
}

export function drawTemper(prng: Prng): Temper {
  return {
    wholeRate: prng.pick([0, 0.5, 0.9, 1]),
    appliedRate: prng.pick([0, 0.2, 0.5, 0.8, 1]),
    garbledRate: prng.pick([0, 0, 0.05, 0.3]),
  };
}

/** The same without garbage: what the death of a process may do to what it had not finished. */
export function withoutGarbage(temper: Temper): Temper {
  return { ...temper, garbledRate: 0 };
}

/**
 * Decides one region. `versions`: what each sector may hold, the oldest first, the newest last; all as long as `target`, which may be one of them.
 */
export function decideSectors(prng: Prng, temper: Temper, versions: readonly Uint8Array[], target: Uint8Array): void {
  const newest = versions.length - 1;
  const draw = (): number => (prng.chance(temper.appliedRate) ? newest : prng.below(Math.max(1, newest)));
  if (prng.chance(temper.wholeRate)) {
    target.set(versions[draw()]!);
    return;
  }
  for (let at = 0; at < target.byteLength; at += sectorBytes) {
    const end = Math.min(at + sectorBytes, target.byteLength);
    if (prng.chance(temper.garbledRate)) garble(prng, target.subarray(at, end));
    else target.set(versions[draw()]!.subarray(at, end), at);
  }
}

/** Random bytes, zeros, or a few wrong bits: what is found after a write that was cut off. */
function garble(prng: Prng, sector: Uint8Array): void {
  const kind = prng.below(3);
  if (kind === 0) prng.fill(sector);
  else if (kind === 1) sector.fill(0);
  else for (let count = 0; count < 4; count++) sector[prng.below(sector.byteLength)]! ^= 1 << prng.below(8);
}
