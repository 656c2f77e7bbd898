/**
 * What is looked at before a start writes anything: whether the shelf is whole, and whether the cache is the right one.
 *
 * Invariants:
 * - A pool that lacks a disk is not opened: opening it would make the disk stale, and what only it holds would be lost for good.
 * - A stale disk is used only on the operator's word, and never where nothing tells how much it has missed.
 * - A new pool is made only when everything is new: all disks of the profile are there and blank, and so is the cache.
 * - Every refusal is one line: what, why, and what to do.
 */
import { type CacheVerdict, judgeCache } from "./cache/cache_opening.ts";
import type { NvramHeader } from "./cache/nvram.ts";
import { staleText } from "./cache/root_notes.ts";
import { readArrayDocument } from "./manage/array_document.ts";
import type { FoundPool, OpenResult } from "./store/open_pool.ts";
import type { DiskReport } from "./store/store.ts";

export interface StartFacts {
  readonly arrayName: string;
  readonly appliance: string;
  /** null: an array of one appliance. */
  readonly partner: string | null;
  readonly cacheHeader: NvramHeader;
  /** How often the cache knows the pool's document to have been saved. */
  readonly poolSaves: number;
  /** The operator's word that a wrong or lost cache is to be given up. */
  readonly acceptCacheLoss: boolean;
  /** The operator's word that a stale disk is to be used as it is. */
  readonly acceptStaleDisk: boolean;
  /** Disks of the profile that could not be opened: `PLACE: why`. */
  readonly diskProblems: readonly string[];
}

/** Whether blank disks may become this array's pool. */
export function mayCreate(facts: StartFacts): boolean {
  return facts.cacheHeader.kind === "blank" && facts.diskProblems.length === 0;
}

/** null: the pool may be opened. */
export function judgeFound(found: FoundPool, facts: StartFacts): string | null {
  const trouble = diskTrouble(found, facts);
  if (trouble !== null) return trouble;
  const document = readArrayDocument(found.arrayDocument);
  if (typeof document === "string") return document;
  const verdict = cacheVerdict(found.arrayId, document.caches, facts);
  if (verdict.kind === "trusted" && found.generation < facts.poolSaves && !facts.acceptCacheLoss) {
    return (
      `the pool's document ${staleText}; groups and hosts may be missing in it; nothing was changed: put back the disk as it was, ` +
      "or start once with --accept-cache-loss, which believes it"
    );
  }
  if (verdict.kind !== "refused" || (verdict.overridable && facts.acceptCacheLoss)) return null;
  return verdict.text;
}

export function cacheVerdict(
  arrayId: string,
  caches: Parameters<typeof judgeCache>[1]["caches"],
  facts: StartFacts,
): CacheVerdict {
  return judgeCache(facts.cacheHeader, {
    id: arrayId,
    appliance: facts.appliance,
    partner: facts.partner,
    caches,
  });
}

/** null: every disk of the pool is there, and is as it was or is taken as it is. */
function diskTrouble({ disks, metadataIsFresh }: FoundPool, facts: StartFacts): string | null {
  const lacking = lackingDisks(disks, facts.diskProblems);
  const stale = disks.filter(({ state }) => state === "stale").map(({ place, text }) => `${place} is stale (${text})`);
  if (lacking.length + stale.length === 0) return null;
  const all = [...lacking, ...stale];
  const what = all.length === 1 ? "a disk" : `${all.length} disks`;
  const refusal = `the pool lacks ${what}: ${all.join("; ")}; put back what was there and start again (nothing was changed)`;
  if (lacking.length > 0) return refusal;
  if (!metadataIsFresh)
    return `${refusal}; no disk with the pool's metadata is up to date, so these cannot be used as they are`;
  if (facts.acceptStaleDisk) return null;
  return (
    `${refusal}; if it cannot be brought back: take over at the peer, or start once with --accept-stale-disk, ` +
    "which uses the stale disk without what it has missed"
  );
}

/** One text per disk of the pool that is not there. */
function lackingDisks(disks: readonly DiskReport[], problems: readonly string[]): string[] {
  const texts = new Map<string, string>();
  for (const { place, state, text } of disks) {
    if (state !== "missing" || texts.has(place)) continue;
    const problem = problems.find((one) => one.startsWith(`${place}: `));
    const other = disks.find((disk) => disk.place === place && disk.state !== "missing" && disk.state !== "in-use");
    if (problem !== undefined) texts.set(place, problem);
    else if (other !== undefined) {
      const what = other.text === "" ? other.state : `${other.state} (${other.text})`;
      texts.set(place, `what lies in ${place} is ${what}`);
    } else texts.set(place, `${place}: ${text}`);
  }
  return [...texts.values()];
}

const remedies: Readonly<Record<Extract<OpenResult, { ok: false }>["code"], string>> = {
  blank: "",
  corrupt: "it is not used and not overwritten; keep it aside, give the array another, and let the peer fill it again",
  "newer-version": "it is not used and not overwritten; start the firmware that wrote it",
  foreign: "it is not used and not overwritten; correct [array] name in the profile, or take the disk out",
  "missing-disk": "put back what was there and start again (nothing was changed)",
  "disk-failed": "the shelf does not work as it should; look at its disks and start again",
  "too-small": "give the array other disks",
  refused: "",
};

/** The failed opening of a pool in one line. */
export function openingTrouble(result: Extract<OpenResult, { ok: false }>, facts: StartFacts): string {
  const { code, text } = result;
  const problems = facts.diskProblems.join("; ");
  if (code === "refused") return text;
  if (code === "missing-disk") {
    return `${text}${problems === "" ? "" : ` (${problems})`}; ${remedies[code]}`;
  }
  if (code !== "blank") return `${text}; ${remedies[code]}`;
  if (problems !== "") {
    return `no new pool is made while disks of the profile cannot be used: ${problems}; correct the profile's [[shelf.disk]]`;
  }
  return (
    "all disks are blank, but the write cache has been in use: put back the disks that belong to it, or, for a new array, " +
    "give the profile a new [cache] path"
  );
}
