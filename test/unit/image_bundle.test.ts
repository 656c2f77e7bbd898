/** Keys and bundles as files: what scripts/image makes of them is what an appliance reads. */
import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { partNames } from "../../firmware/update/bundle_format.ts";
import { readBundle } from "../../firmware/update/read_bundle.ts";
import type { UpdateKey } from "../../hal/api/appliance_image.ts";
import { linuxBundleSource } from "../../hal/linux/bundle_source.ts";
import { linuxSignatureCheck, readKeyFile } from "../../hal/linux/signature_check.ts";
import { BuildError } from "../../scripts/debian/build_error.ts";
import { developmentPrivateKey, makeBundle, makeKeyPair, readPrivateKey } from "../../scripts/image_build/bundle.ts";
import { developmentKey } from "../../scripts/image_build/slot.ts";
import { manifestOf, partsOf } from "./support/update_bench.ts";

const test = suite("image_bundle");
const dir = mkdtempSync(join(tmpdir(), "goldcopy-bundle-"));
const at = (name: string) => join(dir, name);

test.after(() => rmSync(dir, { recursive: true, force: true }));

const parts = partsOf(1);
const files = { vmlinuz: at("vmlinuz"), initrd: at("initrd"), root: at("root") };
for (const name of partNames) writeFileSync(files[name], parts[name]);

function keyOf(path: string): UpdateKey {
  const key = readKeyFile(path);
  if ("fault" in key) throw new Error(key.fault);
  return key;
}

function reads(name: string, keys: readonly UpdateKey[]) {
  return readBundle(linuxBundleSource(name), { keys, check: linuxSignatureCheck, judge: () => null, take: () => {} });
}

function buildFault(act: () => unknown): string {
  try {
    act();
  } catch (error) {
    if (error instanceof BuildError) return error.message;
    throw error;
  }
  return "";
}

test("a key pair -> signs what its public half accepts, and no other; the private half is for its owner alone", async () => {
  const { privatePath, publicPath } = makeKeyPair(at("oak"));
  assert.is(statSync(privatePath).mode & 0o777, 0o600);
  const made = makeBundle(at("oak.bundle"), files, manifestOf(parts), readPrivateKey(privatePath));
  assert.equal(made, manifestOf(parts));
  assert.equal(await reads(at("oak.bundle"), [keyOf(developmentKey), keyOf(publicPath)]), {
    ok: true,
    value: { manifest: made, key: "oak" },
  });
  const other = await reads(at("oak.bundle"), [keyOf(developmentKey)]);
  assert.is(other.ok ? "" : other.code, "bad-signature");
});

test("made twice -> the same bytes", () => {
  const key = readPrivateKey(developmentPrivateKey);
  for (const name of ["one", "two"]) makeBundle(at(name), files, manifestOf(parts), key);
  assert.ok(readFileSync(at("one")).equals(readFileSync(at("two"))));
});

test("the development key -> its two halves belong together, and it is named so", async () => {
  makeBundle(at("development.bundle"), files, manifestOf(parts), readPrivateKey(developmentPrivateKey));
  const result = await reads(at("development.bundle"), [keyOf(developmentKey)]);
  assert.is(result.ok ? result.value.key : result.text, "development");
});

test("a key that is there already, that is missing, that is of another kind -> said", () => {
  makeKeyPair(at("twice"));
  const before = readFileSync(at("twice.key"));
  assert.match(
    buildFault(() => makeKeyPair(at("twice"))),
    /twice\.key is there already/,
  );
  assert.ok(readFileSync(at("twice.key")).equals(before));
  assert.match(
    buildFault(() => readPrivateKey(at("none.key"))),
    /is not there: scripts\/image key/,
  );
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
  writeFileSync(at("rsa.key"), rsa.privateKey.export({ format: "pem", type: "pkcs8" }));
  writeFileSync(at("rsa.pem"), rsa.publicKey.export({ format: "pem", type: "spki" }));
  writeFileSync(at("text"), "hello\n");
  assert.match(
    buildFault(() => readPrivateKey(at("rsa.key"))),
    /a key for rsa, and bundles are signed with Ed25519/,
  );
  assert.match(
    buildFault(() => readPrivateKey(at("text"))),
    /no private key in PEM/,
  );
  const faultOf = (name: string) => {
    const key = readKeyFile(at(name));
    return "fault" in key ? key.fault : "";
  };
  assert.match(faultOf("rsa.pem"), /a key for rsa; updates are signed with Ed25519/);
  assert.match(faultOf("text"), /no public key in PEM/);
  assert.match(faultOf("none.pem"), /no such file/);
});

test("from a web server -> as from a file; what it answers instead is said", async () => {
  const key = readPrivateKey(developmentPrivateKey);
  makeBundle(at("web.bundle"), files, manifestOf(parts), key);
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: (request) =>
      request.url.endsWith("/web.bundle")
        ? new Response(Bun.file(at("web.bundle")))
        : new Response("", { status: 404 }),
  });
  const keys = [keyOf(developmentKey)];
  const base = `http://127.0.0.1:${server.port}`;
  assert.ok((await reads(`${base}/web.bundle`, keys)).ok);
  const missing = await reads(`${base}/other.bundle`, keys);
  assert.equal(missing, {
    ok: false,
    code: "unreadable",
    text: `${base}/other.bundle cannot be read: the server answers 404`,
  });
  await server.stop(true);
  const gone = await reads(`${base}/web.bundle`, keys);
  assert.match(gone.ok ? "" : gone.text, /web\.bundle cannot be read: no answer \(/);
});

test("a file that is not there, a folder, the disk on an ordinary server -> said", async () => {
  for (const [name, text] of [
    [at("none"), /no such file/],
    [dir, /cannot be read: it is a directory/],
    ["disk", /only an appliance image looks for a disk/],
  ] as const) {
    const result = await reads(name, []);
    assert.is(result.ok ? "" : result.code, "unreadable");
    assert.match(result.ok ? "" : result.text, text);
  }
});

test("bytes that are no key, a signature of another length -> no signature", () => {
  const { ed25519 } = linuxSignatureCheck;
  const { publicKey } = keyOf(developmentKey);
  const message = Uint8Array.of(1, 2, 3);
  assert.not(ed25519(new Uint8Array(31), message, new Uint8Array(64)));
  assert.not(ed25519(new Uint8Array(32), message, new Uint8Array(64)));
  assert.not(ed25519(publicKey, message, new Uint8Array(0)));
  assert.not(ed25519(publicKey, message, new Uint8Array(63)));
});

test.run();
