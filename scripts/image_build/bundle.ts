/** Signs what a slot holds as an update bundle (firmware/update/bundle_format.ts), and makes the keys for it. The same bytes from the same. */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import {
  appendFileSync,
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { encodeBody } from "../../firmware/store/cbor_body.ts";
import {
  type BundleManifest,
  makeHead,
  type PartName,
  partNames,
  signatureBytes,
} from "../../firmware/update/bundle_format.ts";
import { BuildError } from "../debian/build_error.ts";
import { repositoryRoot } from "../tools.ts";
import type { Manifest } from "./build.ts";
import { partitionStarts } from "./disk.ts";
import { sha256Of } from "./formats.ts";
import { directBootOf } from "./machine.ts";

/** What a bundle begins with: head, manifest and signature. `key` null: not signed. */
export function bundleStart(manifest: BundleManifest, key: KeyObject | null): Uint8Array {
  return signedStart(encodeBody(manifest), key);
}

/** Of a manifest that may be anything. */
export function signedStart(manifest: Uint8Array, key: KeyObject | null): Uint8Array {
  const head = makeHead({ manifestBytes: manifest.byteLength, signatureBytes: key === null ? 0 : signatureBytes });
  const message = Buffer.concat([head, manifest]);
  return key === null ? message : Buffer.concat([message, sign(null, message, key)]);
}

export function makeBundle(
  path: string,
  files: Readonly<Record<PartName, string>>,
  about: Omit<BundleManifest, "parts">,
  key: KeyObject,
): BundleManifest {
  const parts = partNames.map((name) => ({ name, bytes: statSync(files[name]).size, sha256: sha256Of(files[name]) }));
  const { version, commit, machine, minimum, counter, rootHash, rootBlocks } = about;
  const manifest = { version, commit, machine, minimum, counter, rootHash, rootBlocks, parts };
  writeFileSync(path, bundleStart(manifest, key));
  for (const name of partNames) appendFileSync(path, readFileSync(files[name]));
  return manifest;
}

/** Its other half is images/update_keys/development.pem. */
export const developmentPrivateKey = join(repositoryRoot, "images/update_keys/development.key");

/** Out of slot a of a raw image that was never started, and the manifest beside it. */
export function bundleOfImage(wanted: { image: string; out: string; minimum: string; key: KeyObject }): BundleManifest {
  const { image, out, minimum, key } = wanted;
  const described = image.replace(/\.raw$/, ".json");
  for (const path of [image, described])
    if (!existsSync(path)) throw new BuildError(`${path} is not there: scripts/image build --format raw makes it`);
  const { version, commit, machine, counter, rootHash, rootBlocks, rootBytes } = JSON.parse(
    readFileSync(described, "utf8"),
  ) as Manifest;
  if (machine === undefined)
    throw new BuildError(`${described} was made before there were updates: build the image again`);
  const work = mkdtempSync(join(tmpdir(), "goldcopy-bundle-"));
  try {
    const { kernel, initrd } = directBootOf(image, work);
    const root = join(work, "root");
    copyRoot(image, root, rootBytes);
    const about = { version, commit, machine, counter, minimum, rootHash, rootBlocks };
    return makeBundle(out, { vmlinuz: kernel, initrd, root }, about, key);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function copyRoot(image: string, path: string, bytes: number): void {
  const buffer = Buffer.alloc(bytes);
  const fd = openSync(image, "r");
  const count = readSync(fd, buffer, 0, bytes, partitionStarts().rootA);
  closeSync(fd);
  if (count !== bytes) throw new BuildError(`${image} ends in its root: it is not whole; build it again`);
  writeFileSync(path, buffer);
}

/** Never over a key that is there: it could be the only one that appliances accept. */
export function makeKeyPair(path: string): { readonly privatePath: string; readonly publicPath: string } {
  const paths = { privatePath: `${path}.key`, publicPath: `${path}.pem` };
  for (const present of Object.values(paths).filter(existsSync))
    throw new BuildError(`${present} is there already: choose another name, or move it away`);
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  const fd = openSync(paths.privatePath, "wx", 0o600);
  writeSync(fd, privateKey.export({ format: "pem", type: "pkcs8" }).toString());
  closeSync(fd);
  writeFileSync(paths.publicPath, publicKey.export({ format: "pem", type: "spki" }));
  return paths;
}

export function readPrivateKey(path: string): KeyObject {
  if (!existsSync(path)) throw new BuildError(`${path} is not there: scripts/image key makes one`);
  let key: KeyObject;
  try {
    key = createPrivateKey(readFileSync(path));
  } catch {
    throw new BuildError(`${path} is no private key in PEM: scripts/image key makes one`);
  }
  if (key.asymmetricKeyType !== "ed25519")
    throw new BuildError(
      `${path} is a key for ${key.asymmetricKeyType}, and bundles are signed with Ed25519: scripts/image key makes one`,
    );
  return key;
}

/** In PEM, as an image holds it. */
export function publicPemOf(key: KeyObject): string {
  return createPublicKey(key).export({ format: "pem", type: "spki" }).toString();
}
