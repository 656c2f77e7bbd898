/** SHA-256 in pieces and Ed25519, native; and the PEM files that public keys lie in. */
import { createPublicKey, type KeyObject, verify } from "node:crypto";
import { closeSync, openSync, readSync } from "node:fs";
import { basename } from "node:path";
import type { SignatureCheck, UpdateKey } from "../api/appliance_image.ts";
import { causeOf } from "./address.ts";

/** A public key in PEM has 113 bytes. */
const keyFileBytesMax = 4096;
/** SubjectPublicKeyInfo of an Ed25519 key (RFC 8410 4) before its 32 bytes. */
const spkiHead = Buffer.from("302a300506032b6570032100", "hex");
const publicKeyBytes = 32;

export const linuxSignatureCheck: SignatureCheck = {
  sha256() {
    const hasher = new Bun.CryptoHasher("sha256");
    return { update: (bytes) => void hasher.update(bytes), digest: () => new Uint8Array(hasher.digest()) };
  },
  ed25519(publicKey, message, signature) {
    try {
      return verify(null, message, keyObject(publicKey), signature);
    } catch {
      // Bytes that are no point of the curve are no key, and sign nothing.
      return false;
    }
  },
};

function keyObject(publicKey: Uint8Array): KeyObject {
  return createPublicKey({ key: Buffer.concat([spkiHead, publicKey]), format: "der", type: "spki" });
}

/** Named as its file, without `.pem`. */
export function readKeyFile(path: string): UpdateKey | { readonly fault: string } {
  try {
    const bytes = new Uint8Array(keyFileBytesMax);
    const fd = openSync(path, "r");
    const length = readSync(fd, bytes);
    closeSync(fd);
    const key = createPublicKey(Buffer.from(bytes.subarray(0, length)));
    if (key.asymmetricKeyType !== "ed25519")
      return { fault: `a key for ${key.asymmetricKeyType}; updates are signed with Ed25519 (scripts/image key)` };
    const publicKey = Uint8Array.from(key.export({ format: "der", type: "spki" }).subarray(-publicKeyBytes));
    return { name: basename(path).replace(/\.pem$/, ""), publicKey };
  } catch (error) {
    const code = (error as NodeJS.ErrnoException | null)?.code ?? "";
    return { fault: /^E[A-Z]+$/.test(code) ? causeOf(error) : "no public key in PEM; scripts/image key makes one" };
  }
}
