/**
 * A group's document: what its root on the shelf says beside the maps, written with every destage batch. CBOR of plain values,
 * checked on the way in: a root from another version or a damaged one is a clear refusal.
 */
import * as v from "valibot";
import type { LineageEntry } from "../peer/lineage.ts";
import { volumeSchema, volumesMax } from "./volume_table.ts";

const seq = v.pipe(v.number(), v.integer(), v.minValue(0));
const id = v.pipe(v.string(), v.regex(/^[0-9a-f]{32}$/));
/**
 * One timeline per opening: the newest 256 restarts and takeovers are kept. An entry takes 59 bytes and a root has 128 KiB for
 * everything: 15 KiB for the group's own lineage, and 2 KiB for that of a fork, which is only met by copies that are as old.
 */
export const lineageMax = 256;
const forkLineageMax = 32;
const lineageEntryBytes = 64;
/** What a volume adds to the document and to the maps' roots. */
const volumeBytes = 160;
/** Peers, salvage sets, the marks of a resync with its fork's lineage. */
const replicationBytes = 8192;
/** Documents of the first version kept 1,024 entries. */
const lineage = v.pipe(v.array(v.object({ timeline: id, firstSeq: seq })), v.maxLength(1025));

export const groupDocumentSchema = v.object({
  format: v.literal(1),
  name: v.pipe(v.string(), v.regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/)),
  lineage,
  destagedSeq: seq,
  place: v.object({ ordinal: seq, offset: seq }),
  nextOrdinal: seq,
  firstOrdinal: seq,
  commitSeq: seq,
  cacheValidThrough: v.union([v.literal("open"), seq]),
  /** Counts the saves of the root: the newest one is the one that the cache has noted (`root_notes.ts`). */
  rootNumber: v.optional(seq, 0),
  /** Stopped in order: the log held nothing that was not at home. */
  clean: v.boolean(),
  /** The cache was lost with records that were not at home, and nobody has taken note of it yet. */
  cacheLost: v.boolean(),
  volumes: v.pipe(v.array(volumeSchema), v.maxLength(volumesMax)),
  nextVolumeNumber: seq,
  forks: v.array(v.object({ id: v.string(), seq, lineage })),
  replication: v.unknown(),
});
export type GroupDocument = v.InferOutput<typeof groupDocumentSchema>;

export function savedLineage(whole: readonly LineageEntry[]): LineageEntry[] {
  return whole.slice(-lineageMax);
}

/** That of a fork at `seq`. */
export function forkLineage(whole: readonly LineageEntry[], seq: number): LineageEntry[] {
  return whole.filter((entry) => entry.firstSeq <= seq).slice(-forkLineageMax);
}

/** By how much the root may still grow without another fork: what forks must leave free. */
export function rootGrowthBytes(document: GroupDocument): number {
  const timelines = lineageMax - Math.min(lineageMax, document.lineage.length);
  const volumes = volumesMax - document.volumes.length;
  return timelines * lineageEntryBytes + volumes * volumeBytes + replicationBytes;
}

/** The root of a group that does not exist yet; `replication`: what that room wants to find in it. */
export function newGroupDocument(name: string, replication: unknown = null): GroupDocument {
  return {
    format: 1,
    name,
    lineage: [],
    destagedSeq: 0,
    place: { ordinal: 0, offset: 0 },
    nextOrdinal: 1,
    firstOrdinal: 0,
    commitSeq: 0,
    cacheValidThrough: "open",
    rootNumber: 0,
    clean: true,
    cacheLost: false,
    volumes: [],
    nextVolumeNumber: 1,
    forks: [],
    replication,
  };
}

/** The document, or a sentence that says what is wrong with it. */
export function readGroupDocument(value: unknown): GroupDocument | string {
  const parsed = v.safeParse(groupDocumentSchema, value);
  if (parsed.success) return parsed.output;
  const issue = parsed.issues[0];
  return `the group's root has a bad ${v.getDotPath(issue) ?? "document"}: ${issue.message}`;
}
