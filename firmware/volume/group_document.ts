/**
 * A group's document: what its root on the shelf says beside the maps, written with every destage batch. CBOR of plain values,
 * checked on the way in: a root from another version or a damaged one is a clear refusal.
 */
import * as v from "valibot";
import { volumeSchema, volumesMax } from "./volume_table.ts";

const seq = v.pipe(v.number(), v.integer(), v.minValue(0));
const id = v.pipe(v.string(), v.regex(/^[0-9a-f]{32}$/));
/** One timeline per opening: 1,024 restarts and takeovers are kept, older ones are merged into the oldest. */
export const lineageMax = 1024;
const lineage = v.pipe(v.array(v.object({ timeline: id, firstSeq: seq })), v.maxLength(lineageMax + 1));

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
