/**
 * Reads a bundle from its beginning to its end, and believes nothing of it: first the signature, then what the manifest asks of this
 * appliance, then each part against its digest. Memory is bounded by the manifest's limit and the source's pieces.
 */
import type { BundleSource, SignatureCheck, UpdateKey } from "../../hal/api/appliance_image.ts";
import { toHex } from "../codec/bytes.ts";
import { type BundleManifest, type BundlePart, decodeManifest, headBytes, parseHead } from "./bundle_format.ts";
import { PieceReader } from "./piece_reader.ts";
import { refused, type UpdateRefusal, type UpdateResult, whyFailed } from "./refusal.ts";

export interface BundleReading {
  readonly keys: readonly UpdateKey[];
  readonly check: SignatureCheck;
  /** Asked before any part is read. */
  judge(manifest: BundleManifest): UpdateRefusal | null;
  /** Each piece of each part, in order; it is not known yet whether the part is right. */
  take(part: BundlePart, offsetBytes: number, piece: Uint8Array): void | Promise<void>;
}

export interface ReadBundle {
  readonly manifest: BundleManifest;
  /** Whose signature it is. */
  readonly key: string;
}

/** Rejects only with what `take` rejects with. */
export async function readBundle(source: BundleSource, reading: BundleReading): Promise<UpdateResult<ReadBundle>> {
  let reader: PieceReader | null = null;
  try {
    reader = new PieceReader(readable(source));
    return await readAll(reader, source.name, reading);
  } catch (error) {
    if (error instanceof SourceFault) return refused("unreadable", error.message);
    throw error;
  } finally {
    await reader?.close();
  }
}

class SourceFault extends Error {}

/** The source's faults are told from those of whoever takes the pieces. */
async function* readable(source: BundleSource): AsyncGenerator<Uint8Array> {
  try {
    for await (const piece of source.open()) yield piece;
  } catch (error) {
    throw new SourceFault(`${source.name} cannot be read: ${whyFailed(error)}`);
  }
}

async function readAll(reader: PieceReader, name: string, reading: BundleReading): Promise<UpdateResult<ReadBundle>> {
  const truncated = (where: string) =>
    refused("truncated", `the bundle ${name} ends in ${where}: it is not whole; get it again`);
  const head = await reader.collect(headBytes);
  if (head === null) return truncated("its head");
  const lengths = parseHead(head);
  if (!lengths.ok) return lengths;
  const manifestBytes = await reader.collect(lengths.value.manifestBytes);
  if (manifestBytes === null) return truncated("its manifest");
  const signature = await reader.collect(lengths.value.signatureBytes);
  if (signature === null) return truncated("its signature");
  const key = signerOf(reading, head, manifestBytes, signature);
  if (typeof key !== "string") return key;
  const decoded = decodeManifest(manifestBytes);
  if (!decoded.ok) return decoded;
  const manifest = decoded.value;
  const refusal = reading.judge(manifest);
  if (refusal !== null) return refusal;
  for (const part of manifest.parts) {
    const hash = reading.check.sha256();
    let offsetBytes = 0;
    const isWhole = await reader.each(part.bytes, async (piece) => {
      hash.update(piece);
      await reading.take(part, offsetBytes, piece);
      offsetBytes += piece.byteLength;
    });
    if (!isWhole) return truncated(`its part ${part.name}, ${offsetBytes} of ${part.bytes} bytes`);
    if (toHex(hash.digest()) !== part.sha256)
      return refused(
        "wrong-digest",
        `the bundle's part ${part.name} is not what its manifest says (SHA-256): the bundle is damaged; get it again`,
      );
  }
  if (!(await reader.isAtEnd()))
    return refused("trailing-bytes", `the bundle ${name} goes on behind its last part: it is damaged; get it again`);
  return { ok: true, value: { manifest, key } };
}

function signerOf(
  { keys, check }: BundleReading,
  head: Uint8Array,
  manifest: Uint8Array,
  signature: Uint8Array,
): string | UpdateRefusal {
  const message = new Uint8Array(head.byteLength + manifest.byteLength);
  message.set(head);
  message.set(manifest, head.byteLength);
  const signer = keys.find(({ publicKey }) => check.ed25519(publicKey, message, signature));
  if (signer !== undefined) return signer.name;
  const known = keys.length === 0 ? "there are none" : `they are ${keys.map(({ name }) => name).join(", ")}`;
  return refused(
    "bad-signature",
    `the bundle's signature is of none of the keys that are accepted here (${known}): get the bundle from whoever made this appliance`,
  );
}
