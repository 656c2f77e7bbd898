/**
 * What the API accepts: every field judged for type, length and range before anything sees it.
 */
import * as v from "valibot";
import { chapSecretBytes } from "./chap_secret.ts";
import { parseCidr } from "./cidr.ts";
import { labFaultKinds } from "./control.ts";
import { peerModes } from "./status_json.ts";

/** Volumes, groups, hosts, arrays, appliances. No `@` (it separates a volume from a fork), no `/` (it separates paths). */
const namePattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
export const nameRule = "1 to 63 letters, digits, '.', '_' or '-', the first a letter or digit";

/** 64 TiB: 2^37 logical blocks; far inside safe integers. */
const volumeBytesMax = 64 * 1024 ** 4;
const day = 24 * 3600 * 1000;

export function isName(text: string): boolean {
  return namePattern.test(text);
}

const name = v.pipe(v.string(), v.regex(namePattern, `must be ${nameRule}`));
const sizeBytes = v.pipe(
  v.number(),
  v.safeInteger("must be a whole number of bytes"),
  v.minValue(4096, "must be at least 4 KiB"),
  v.maxValue(volumeBytesMax, "must be at most 64 TiB"),
  v.multipleOf(512, "must be a multiple of 512 bytes"),
);
const mode = v.picklist(peerModes, `must be one of ${peerModes.join(", ")}`);
const cycleMs = v.optional(v.nullable(v.pipe(v.number(), v.safeInteger(), v.minValue(1000), v.maxValue(day))), null);
const timeoutMs = v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(1), v.maxValue(day)), 60_000);
const lun = v.optional(v.nullable(v.pipe(v.number(), v.safeInteger(), v.minValue(0), v.maxValue(255))), null);
const flag = v.optional(v.boolean(), false);
const nameOrNull = v.optional(v.nullable(name), null);
const cidr = v.pipe(
  v.string(),
  v.check((text) => parseCidr(text) !== null, "must be an address or a network like 192.0.2.0/24"),
);
/** RFC 3720 section 3.2.6: 223 bytes at most. */
const iqn = v.pipe(
  v.string(),
  v.maxLength(223),
  v.regex(/^(?:iqn|eui|naa)\.[!-~]+$/, "must be an iSCSI name (iqn. …)"),
);
/** A certificate's common name: RFC 5280 appendix A.1 (ub-common-name). */
const tlsName = v.pipe(
  v.string(),
  v.minLength(1, "must not be empty"),
  v.maxLength(64, "must be at most 64 characters"),
  v.regex(/^[^\p{Cc}]+$/u, "must not contain control characters"),
);

/** RFC 7143 12.1.3: an implementation need not take secrets of less than 96 bits without IPsec; 255 bytes is the longest we keep. */
const chap = v.strictObject({
  user: v.pipe(
    v.string(),
    v.minLength(1, "must not be empty"),
    v.maxLength(223),
    v.regex(/^[!-~]+$/, "must be printable ASCII"),
  ),
  secret: v.pipe(
    v.string(),
    v.minBytes(chapSecretBytes.min, `must have at least ${chapSecretBytes.min} bytes`),
    v.maxBytes(chapSecretBytes.max, `must have at most ${chapSecretBytes.max} bytes`),
  ),
});

export const schemas = {
  nothing: v.strictObject({}),
  volumeCreate: v.strictObject({ name, sizeBytes, group: nameOrNull, pool: nameOrNull }),
  volumeResize: v.strictObject({ sizeBytes }),
  groupCreate: v.strictObject({ name }),
  groupPeer: v.strictObject({ array: name, mode, cycleMs }),
  groupMigrate: v.strictObject({ to: name, timeoutMs }),
  groupTakeover: v.strictObject({ force: flag, fork: flag, timeoutMs }),
  groupServe: v.strictObject({
    alone: v.literal(true, "must be true: it is the operator's word that no other array serves this group"),
    timeoutMs,
  }),
  groupResync: v.strictObject({ from: name, timeoutMs }),
  groupFailback: v.strictObject({ timeoutMs }),
  poolScrub: v.strictObject({ timeoutMs }),
  groupVerify: v.strictObject({ peer: nameOrNull, timeoutMs }),
  timeoutMs,
  pairFailover: v.strictObject({ to: nameOrNull, timeoutMs }),
  pairMove: v.strictObject({ group: name, to: name, timeoutMs }),
  hostAdd: v.strictObject({
    name,
    any: flag,
    addresses: v.optional(v.pipe(v.array(cidr), v.maxLength(64)), []),
    iqns: v.optional(v.pipe(v.array(iqn), v.maxLength(64)), []),
    tlsNames: v.optional(v.pipe(v.array(tlsName), v.maxLength(64)), []),
    chap: v.optional(v.nullable(chap), null),
  }),
  hostMap: v.strictObject({ volume: name, lun, readOnly: flag }),
  hostUnmap: v.strictObject({ volume: name }),
  labShape: v.strictObject({
    nic: nameOrNull,
    remote: name,
    cut: flag,
    latencyMs: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(60_000)), 0),
    jitterMs: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(60_000)), 0),
    rateBytesPerSecond: v.optional(v.nullable(v.pipe(v.number(), v.minValue(1000), v.maxValue(1e12))), null),
    loss: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(1)), 0),
  }),
  labFault: v.strictObject({
    kind: v.picklist(labFaultKinds, `must be one of ${labFaultKinds.join(", ")}`),
    place: v.optional(v.nullable(v.pipe(v.string(), v.maxLength(128))), null),
    on: v.boolean(),
  }),
  labStall: v.strictObject({ forMs: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(600_000)) }),
} as const;

/** One line that names the field and what is wrong with it. */
export function describeIssue(issue: v.BaseIssue<unknown>): string {
  const field = v.getDotPath(issue);
  if (issue.type === "strict_object" && issue.expected === "never")
    return `${field ?? "a field"}: not known to this array, or to its version; leave it out`;
  return field === null ? issue.message : `${field}: ${issue.message}`;
}
