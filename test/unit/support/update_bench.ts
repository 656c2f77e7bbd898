/** An appliance image with a simulated machine, and bundles to update it with: small ones, with the real format and real signatures. */
import { createHash, generateKeyPairSync, type KeyObject } from "node:crypto";
import type { UpdateTools } from "../../../firmware/shell/commands_update.ts";
import { type BundleManifest, partNames, slotConfig } from "../../../firmware/update/bundle_format.ts";
import { type Installed, installBundle } from "../../../firmware/update/install.ts";
import { readNotes } from "../../../firmware/update/notes.ts";
import type { UpdateResult } from "../../../firmware/update/refusal.ts";
import type { BundleSource, ImageRelease, SlotName, UpdateKey } from "../../../hal/api/appliance_image.ts";
import { linuxSignatureCheck } from "../../../hal/linux/signature_check.ts";
import { MockImage } from "../../../hal/mock/appliance_image.ts";
import { Prng } from "../../../hal/mock/prng.ts";
import { bundleStart } from "../../../scripts/image_build/bundle.ts";

export const machine = "goldcopy-vm-x86_64";
export const rootSizeBytes = 64 * 1024;

export interface SigningKey {
  readonly signer: KeyObject;
  readonly accepted: UpdateKey;
}

export function signingKey(name: string): SigningKey {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  const spki = publicKey.export({ format: "der", type: "spki" });
  return { signer: privateKey, accepted: { name, publicKey: Uint8Array.from(spki.subarray(-32)) } };
}

/** Of all bundles here, unless a test says otherwise. */
export const ownKey = signingKey("oak");

type Parts = Readonly<Record<(typeof partNames)[number], Uint8Array>>;

export function partsOf(seed: number): Parts {
  const prng = new Prng(seed, "bundle");
  const bytes = (count: number) => Uint8Array.from({ length: count }, () => prng.below(256));
  return { vmlinuz: bytes(5000), initrd: bytes(3001), root: bytes(40_960) };
}

export function manifestOf(parts: Parts, changes: Partial<BundleManifest> = {}): BundleManifest {
  return {
    version: "0.2.0",
    commit: "0123456789abcdef",
    machine,
    minimum: "0.1.0",
    counter: 20,
    rootHash: "ab".repeat(32),
    rootBlocks: 8,
    parts: partNames.map((name) => ({ name, bytes: parts[name].byteLength, sha256: sha256Hex(parts[name]) })),
    ...changes,
  };
}

export function sha256Hex(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

export function makeBundleBytes(
  options: { seed?: number; changes?: Partial<BundleManifest>; key?: KeyObject | null; parts?: Parts } = {},
): Uint8Array {
  const parts = options.parts ?? partsOf(options.seed ?? 1);
  const key = options.key === undefined ? ownKey.signer : options.key;
  const start = bundleStart(manifestOf(parts, options.changes), key);
  return Uint8Array.from(Buffer.concat([start, ...partNames.map((name) => parts[name])]));
}

/** In pieces of `pieceBytes`. */
export function sourceOf(bytes: Uint8Array, pieceBytes = 4096): BundleSource {
  return {
    name: "test.bundle",
    open: async function* () {
      for (let at = 0; at < bytes.byteLength; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
    },
  };
}

export const runningRelease: ImageRelease = { version: "0.1.0", commit: "fedcba9876543210", counter: 10, machine };

/** Slot a runs and is good; slot b holds what ran before it, and is good too. */
export function imageBench(release: ImageRelease = runningRelease): MockImage {
  const image = new MockImage({ release, keys: [ownKey.accepted], rootSizeBytes });
  fill(image, "a", 101);
  fill(image, "b", 102);
  return image;
}

function fill(image: MockImage, slot: SlotName, seed: number): void {
  const { vmlinuz, initrd, root } = partsOf(seed);
  const medium = image.media[slot];
  medium.root.set(root);
  medium.durable.set(root);
  medium.boot.set("vmlinuz", vmlinuz);
  medium.boot.set("initrd", initrd);
  medium.boot.set("slot.cfg", new TextEncoder().encode(slotConfig("cd".repeat(32), 8)));
}

/** What a cut or an update must leave alone, or must have written. */
export function contentsOf(image: MockImage, slot: SlotName, rootBytes: number): Record<string, string> {
  const { durable, boot } = image.media[slot];
  const files = [...boot].map(([name, bytes]) => [name, sha256Hex(bytes)] as const);
  return { root: sha256Hex(durable.subarray(0, rootBytes)), ...Object.fromEntries(files) };
}

export async function install(image: MockImage, source: BundleSource): Promise<UpdateResult<Installed>> {
  const notes = await readNotes(image);
  if (!notes.ok) return notes;
  return installBundle({ slots: image, check: linuxSignatureCheck, notes: notes.value, source, tell: () => {} });
}

/** An ordinary server. */
export const noImage: UpdateTools = {
  image: () => null,
  source: (name) => ({ ...sourceOf(makeBundleBytes()), name }),
  check: linuxSignatureCheck,
  keyFile: () => ownKey.accepted,
};
