/**
 * The update bundle: one version of the appliance, signed.
 *
 *     byte 0     "GCBUNDLE"
 *     byte 8     format: 1 (u32, little-endian, as the two that follow)
 *     byte 12    length of the manifest: 1 to 65,536
 *     byte 16    length of the signature: 64, or 0 in a bundle that is not signed
 *     byte 20    manifest: CBOR
 *     behind it  signature: Ed25519 (RFC 8032) over all bytes before it
 *     behind it  the parts, each as long as the manifest says, in its order; nothing is behind the last one
 *
 * Invariant: of the manifest nothing is decoded before its signature has been found right.
 */
import * as v from "valibot";
import { fromHex } from "../codec/bytes.ts";
import { decodeBody } from "../store/cbor_body.ts";
import { updateLimits, verityBlockBytes } from "./limits.ts";
import { refused, type UpdateResult } from "./refusal.ts";

export const bundleMagic = "GCBUNDLE";
export const bundleFormat = 1;
export const headBytes = 20;
export const signatureBytes = 64;

/** In this order. The root has its dm-verity tree behind it. */
export const partNames = ["vmlinuz", "initrd", "root"] as const;
export type PartName = (typeof partNames)[number];

export interface BundlePart {
  readonly name: PartName;
  readonly bytes: number;
  /** 64 hex digits. */
  readonly sha256: string;
}

export interface BundleManifest {
  readonly version: string;
  readonly commit: string;
  /** The kind of machine that it is for. */
  readonly machine: string;
  /** The oldest version that it may follow. */
  readonly minimum: string;
  /** Grows with every release. */
  readonly counter: number;
  /** Of the dm-verity tree: 64 hex digits. */
  readonly rootHash: string;
  /** Of the root without its tree, 4,096 bytes each. */
  readonly rootBlocks: number;
  readonly parts: readonly BundlePart[];
}

const wholeNumber = (min: number, max: number) => v.pipe(v.number(), v.safeInteger(), v.minValue(min), v.maxValue(max));
const hexDigest = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/));
const versionText = v.pipe(v.string(), v.regex(/^\d{1,5}\.\d{1,5}\.\d{1,5}$/));
const part = <const Name extends PartName>(name: Name) =>
  v.object({ name: v.literal(name), bytes: wholeNumber(1, Number.MAX_SAFE_INTEGER), sha256: hexDigest });

const manifestSchema = v.object({
  version: versionText,
  commit: v.pipe(v.string(), v.regex(/^[0-9a-z-]{1,60}$/)),
  machine: v.pipe(v.string(), v.regex(/^[A-Za-z0-9._-]{1,40}$/)),
  minimum: versionText,
  counter: wholeNumber(0, Number.MAX_SAFE_INTEGER),
  rootHash: hexDigest,
  rootBlocks: wholeNumber(1, Number.MAX_SAFE_INTEGER),
  parts: v.strictTuple([part("vmlinuz"), part("initrd"), part("root")]),
});

export interface BundleHead {
  readonly manifestBytes: number;
  readonly signatureBytes: number;
}

/** `head`: the first `headBytes` bytes. */
export function parseHead(head: Uint8Array): UpdateResult<BundleHead> {
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  if (new TextDecoder().decode(head.subarray(0, bundleMagic.length)) !== bundleMagic)
    return refused("not-a-bundle", "this is no update bundle; scripts/image bundle makes one");
  const format = view.getUint32(8, true);
  if (format !== bundleFormat)
    return refused(
      "unknown-format",
      `the bundle has format ${format}, and this version reads format ${bundleFormat}: install a version between them first`,
    );
  const manifestBytes = view.getUint32(12, true);
  if (manifestBytes === 0 || manifestBytes > updateLimits.manifestBytesMax)
    return refused(
      "not-a-bundle",
      `the bundle's manifest is said to have ${manifestBytes} bytes, and 1 to ${updateLimits.manifestBytesMax} are possible: the bundle is damaged; get it again`,
    );
  const signature = view.getUint32(16, true);
  if (signature === 0)
    return refused(
      "unsigned",
      "the bundle is not signed: sign it with scripts/image bundle --key, or get the signed one",
    );
  if (signature !== signatureBytes)
    return refused(
      "bad-signature",
      `the bundle's signature is said to have ${signature} bytes, and Ed25519 has 64: get it again`,
    );
  return { ok: true, value: { manifestBytes, signatureBytes: signature } };
}

export function makeHead(lengths: { manifestBytes: number; signatureBytes: number }): Uint8Array {
  const head = new Uint8Array(headBytes);
  const view = new DataView(head.buffer);
  head.set(new TextEncoder().encode(bundleMagic));
  view.setUint32(8, bundleFormat, true);
  view.setUint32(12, lengths.manifestBytes, true);
  view.setUint32(16, lengths.signatureBytes, true);
  return head;
}

/** Of a manifest whose signature is right. */
export function decodeManifest(bytes: Uint8Array): UpdateResult<BundleManifest> {
  const fault = (what: string) =>
    refused("bad-manifest", `the bundle's manifest is signed, but ${what}: whoever made it has to make it again`);
  const decoded = decodeBody(bytes);
  if (decoded === undefined) return fault("is no CBOR document");
  const parsed = v.safeParse(manifestSchema, decoded.value, { abortEarly: true });
  if (!parsed.success) {
    const [issue] = parsed.issues;
    return fault(`its field ${v.getDotPath(issue) ?? "at the top"} cannot be used (${issue.message})`);
  }
  const manifest: BundleManifest = parsed.output;
  const rootBytes = partOf(manifest, "root").bytes;
  if (rootBytes % verityBlockBytes !== 0 || manifest.rootBlocks * verityBlockBytes >= rootBytes)
    return fault(`its root of ${rootBytes} bytes does not hold ${manifest.rootBlocks} blocks and their tree`);
  return { ok: true, value: manifest };
}

export function partOf(manifest: BundleManifest, name: PartName): BundlePart {
  const found = manifest.parts.find((candidate) => candidate.name === name);
  if (found === undefined) throw new Error(`a manifest without ${name}`);
  return found;
}

export function digestOf({ sha256 }: BundlePart): Uint8Array {
  return fromHex(sha256);
}

/** What the boot loader gives the kernel: which root it has to find (images/initrd/init). */
export function slotWords(rootHash: string, rootBlocks: number): string {
  return `goldcopy.root=${rootHash}:${rootBlocks}`;
}

/** The file beside the kernel that images/boot/grub.cfg reads. */
export function slotConfig(rootHash: string, rootBlocks: number): string {
  return `set words="${slotWords(rootHash, rootBlocks)}"\n`;
}
