/**
 * The array's own document in the pool: which cache belongs to which appliance, and which hosts may use what.
 */
import * as v from "valibot";

const id = v.pipe(v.string(), v.regex(/^[0-9a-f]{32}$/));
const name = v.pipe(v.string(), v.regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/));

export const hostSchema = v.object({
  name,
  any: v.boolean(),
  addresses: v.array(v.string()),
  iqns: v.array(v.string()),
  /** Absent in documents of the first version. */
  tlsNames: v.optional(v.array(v.string()), []),
  /** What the host proves at an iSCSI login. Absent in documents of the first version. */
  chap: v.optional(v.nullable(v.object({ user: v.string(), secret: v.string() })), null),
  mappings: v.array(v.object({ volume: v.string(), lun: v.number(), readOnly: v.boolean() })),
});
export type HostEntry = v.InferOutput<typeof hostSchema>;

const cacheSchema = v.object({
  appliance: name,
  /** While both are listed, a cache with either is the right one. */
  current: v.nullable(id),
  next: v.nullable(id),
  /**
   * Everything acknowledged is on the shelf: a start without this cache loses nothing. Said by the owner of a pair that has lost its
   * partner. Absent in documents of the first version.
   */
  needless: v.optional(v.boolean(), false),
});
export type CacheEntry = v.InferOutput<typeof cacheSchema>;

const arrayDocumentSchema = v.object({
  format: v.literal(1),
  caches: v.pipe(v.array(cacheSchema), v.maxLength(2)),
  hosts: v.pipe(v.array(hostSchema), v.maxLength(256)),
  /** Persistent reservations by volume UUID, in the device server's own form. Absent in documents of the first version. */
  reservations: v.optional(v.record(id, v.unknown()), {}),
});
export type ArrayDocument = v.InferOutput<typeof arrayDocumentSchema>;

export function newArrayDocument(): ArrayDocument {
  return { format: 1, caches: [], hosts: [], reservations: {} };
}

/** The document, or a sentence that says what is wrong with it. */
export function readArrayDocument(value: unknown): ArrayDocument | string {
  if (value === null || value === undefined) return newArrayDocument();
  const parsed = v.safeParse(arrayDocumentSchema, value);
  if (parsed.success) return parsed.output;
  return `the array's document has a bad ${v.getDotPath(parsed.issues[0]) ?? "body"}: ${parsed.issues[0].message}`;
}
