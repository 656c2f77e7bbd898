/** Bundles that are wrong, hostile, or for somebody else: each is told what it is, and nothing is written. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { encodeBody } from "../../firmware/store/cbor_body.ts";
import { type BundleManifest, headBytes, partNames, signatureBytes } from "../../firmware/update/bundle_format.ts";
import { updateLimits } from "../../firmware/update/limits.ts";
import { PieceReader } from "../../firmware/update/piece_reader.ts";
import { readBundle } from "../../firmware/update/read_bundle.ts";
import { compareVersions } from "../../firmware/update/versions.ts";
import { linuxSignatureCheck } from "../../hal/linux/signature_check.ts";
import { Prng } from "../../hal/mock/prng.ts";
import { signedStart } from "../../scripts/image_build/bundle.ts";
import { mutate } from "../fuzz/mutate.ts";
import {
  imageBench,
  install,
  makeBundleBytes,
  manifestOf,
  ownKey,
  partsOf,
  rootSizeBytes,
  signingKey,
  sourceOf,
} from "./support/update_bench.ts";

const test = suite("update_bundle");

/** Refused with this code, in words that say what to do, before anything is written. */
async function refusal(bytes: Uint8Array, code: string, text: RegExp): Promise<void> {
  const image = imageBench();
  const result = await install(image, sourceOf(bytes, 1000));
  assert.not(result.ok);
  if (result.ok) return;
  assert.is(result.code, code, result.text);
  assert.match(result.text, text);
  assert.is(image.writes, 0);
}

const whole = makeBundleBytes();

test("in pieces of any length -> the same", async () => {
  for (const pieceBytes of [1, 7, 4096, whole.byteLength]) {
    const result = await install(imageBench(), sourceOf(whole, pieceBytes));
    assert.ok(result.ok, `${pieceBytes}`);
  }
});

test("another file -> no bundle", async () => {
  await refusal(new TextEncoder().encode("x".repeat(1000)), "not-a-bundle", /no update bundle; scripts\/image bundle/);
});

test("a later format -> said", async () => {
  const later = whole.slice();
  later[8] = 2;
  await refusal(later, "unknown-format", /format 2, and this version reads format 1/);
});

test("not signed -> refused; signed with another key, changed behind its signature -> refused", async () => {
  await refusal(makeBundleBytes({ key: null }), "unsigned", /not signed/);
  await refusal(
    makeBundleBytes({ key: signingKey("elm").signer }),
    "bad-signature",
    /none of the keys .*\(they are oak\)/,
  );
  for (const at of [headBytes + 3, headBytes + 200]) {
    const changed = whole.slice();
    changed[at]! ^= 1;
    await refusal(changed, "bad-signature", /none of the keys/);
  }
});

test("an image without keys -> every bundle is refused", async () => {
  const image = imageBench();
  image.keys = [];
  const result = await install(image, sourceOf(whole));
  assert.is(result.ok ? "" : result.code, "bad-signature");
});

test("cut at every byte of its beginning, and in each part -> truncated, in words", async () => {
  const start = whole.byteLength - 5000 - 3001 - 40_960;
  for (let bytes = 0; bytes < start; bytes++)
    await refusal(whole.subarray(0, bytes), "truncated", /ends in its (head|manifest|signature): it is not whole/);
  await refusal(whole.subarray(0, start), "truncated", /its part vmlinuz, 0 of 5000 bytes/);
  await refusal(whole.subarray(0, start + 5001), "truncated", /its part initrd, 1 of 3001 bytes/);
  await refusal(whole.subarray(0, whole.byteLength - 1), "truncated", /its part root, 40959 of 40960 bytes/);
});

test("more bytes behind it -> refused", async () => {
  await refusal(Uint8Array.from([...whole, 0]), "trailing-bytes", /goes on behind its last part/);
});

test("a byte of a part changed -> that part is named", async () => {
  let at = whole.byteLength;
  for (const [name, bytes] of [
    ["root", 40_960],
    ["initrd", 3001],
    ["vmlinuz", 5000],
  ] as const) {
    at -= bytes;
    const changed = whole.slice();
    changed[at]! ^= 0x80;
    await refusal(changed, "wrong-digest", new RegExp(`part ${name} is not what its manifest says`));
  }
});

test("for another machine; older; with a version missing between -> each is said", async () => {
  await refusal(
    makeBundleBytes({ changes: { machine: "goldcopy-vm-arm64" } }),
    "wrong-machine",
    /for goldcopy-vm-arm64, and this is goldcopy-vm-x86_64/,
  );
  await refusal(makeBundleBytes({ changes: { counter: 9 } }), "older", /counter 9.*\(10\).*rollback/);
  await refusal(
    makeBundleBytes({ changes: { minimum: "0.1.1" } }),
    "minimum-version",
    /needs at least 0\.1\.1 .* this is 0\.1\.0: install 0\.1\.1 first/,
  );
});

test("the same version again -> allowed", async () => {
  assert.ok(
    (await install(imageBench(), sourceOf(makeBundleBytes({ changes: { version: "0.1.0", counter: 10 } })))).ok,
  );
});

test("a root longer than a slot; a kernel longer than the ESP has room for -> no space", async () => {
  const parts = partsOf(1);
  const long = { ...parts, root: new Uint8Array(rootSizeBytes + 4096) };
  await refusal(makeBundleBytes({ parts: long }), "no-space", /root of 0\.2\.0 has 69632 bytes, and a slot has 65536/);
  const { parts: described } = manifestOf(parts);
  const [vmlinuz, initrd, root] = described as [(typeof described)[0], (typeof described)[0], (typeof described)[0]];
  const huge = [{ ...vmlinuz, bytes: updateLimits.bootBytesMax }, initrd, root];
  await refusal(makeBundleBytes({ changes: { parts: huge } }), "no-space", /kernel and initrd/);
});

test("signed, and wrong in a field -> the field is named; nothing is taken for a number that is none", async () => {
  const good = manifestOf(partsOf(1)) as unknown as Record<string, unknown>;
  const parts = good["parts"] as Record<string, unknown>[];
  const wrong: [string, unknown, RegExp][] = [
    ["version", "0.2", /field version/],
    ["version", "0.2.0\n", /field version/],
    ["commit", "", /field commit/],
    ["machine", "../etc", /field machine/],
    ["counter", -1, /field counter/],
    ["counter", 1.5, /field counter/],
    ["counter", 2 ** 53, /field counter/],
    ["counter", "20", /field counter/],
    ["rootHash", "AB".repeat(32), /field rootHash/],
    ["rootBlocks", 0, /field rootBlocks/],
    ["rootBlocks", 10, /does not hold 10 blocks and their tree/],
    ["parts", [], /field parts/],
    ["parts", [parts[1], parts[0], parts[2]], /field parts/],
    ["parts", [...parts, parts[2]], /field parts/],
    ["parts", [{ ...parts[0], bytes: 0 }, parts[1], parts[2]], /field parts.0.bytes/],
    ["parts", [parts[0], parts[1], { ...parts[2], bytes: 40_961 }], /root of 40961 bytes/],
  ];
  for (const [field, value, text] of wrong) {
    const bytes = Uint8Array.from([...signedStart(encodeBody({ ...good, [field]: value }), ownKey.signer)]);
    await refusal(bytes, "bad-manifest", text);
  }
  for (const document of [null, [], "x", 7]) {
    await refusal(signedStart(encodeBody(document), ownKey.signer), "bad-manifest", /manifest is signed, but/);
  }
  await refusal(
    signedStart(Uint8Array.of(0x9b, 0, 0, 0, 255, 255, 255, 255, 255), ownKey.signer),
    "bad-manifest",
    /no CBOR/,
  );
});

test("lengths that lie -> refused by what they say; memory is taken for what comes", async () => {
  const set = (at: number, value: number): Uint8Array => {
    const bytes = whole.slice();
    new DataView(bytes.buffer).setUint32(at, value, true);
    return bytes;
  };
  for (const manifestBytes of [0, updateLimits.manifestBytesMax + 1, 0xffffffff])
    await refusal(set(12, manifestBytes), "not-a-bundle", new RegExp(`said to have ${manifestBytes} bytes`));
  for (const bytes of [1, 63, 65, 0xffffffff]) await refusal(set(16, bytes), "bad-signature", /Ed25519 has 64/);
  // A manifest that claims petabytes, rightly signed: the source decides how much is read.
  const claims = manifestOf(partsOf(1)).parts.map((part) => ({ ...part, bytes: 2 ** 50 }));
  const bytes = signedStart(encodeBody({ ...manifestOf(partsOf(1)), parts: claims }), ownKey.signer);
  const reading = { keys: [ownKey.accepted], check: linuxSignatureCheck, judge: () => null, take: () => {} };
  const result = await readBundle(sourceOf(bytes), reading);
  assert.is(result.ok ? "" : result.code, "truncated");
});

test("a source that fails -> its reason; what is done with the pieces fails -> not mistaken for it", async () => {
  const failing = {
    name: "http://192.0.2.1/x.bundle",
    open: async function* () {
      yield whole.subarray(0, 700);
      throw new Error("the server has gone");
    },
  };
  const image = imageBench();
  const result = await install(image, failing);
  assert.equal(result, {
    ok: false,
    code: "unreadable",
    text: "http://192.0.2.1/x.bundle cannot be read: the server has gone",
  });
  const reading = { keys: [ownKey.accepted], check: linuxSignatureCheck, judge: () => null };
  const outcome = await readBundle(sourceOf(whole), {
    ...reading,
    take: () => {
      throw new Error("no such disk");
    },
  }).catch((error: Error) => error.message);
  assert.is(outcome, "no such disk");
});

test("versions -> by their numbers, not by their letters", () => {
  assert.ok(compareVersions("0.10.0", "0.9.9") > 0);
  assert.ok(compareVersions("1.0.0", "0.99.99") > 0);
  assert.ok(compareVersions("0.1.2", "0.1.10") < 0);
  assert.is(compareVersions("2.3.4", "2.3.4"), 0);
});

test("empty pieces, and a reader that stops in the middle -> the source is let go of", async () => {
  let isClosed = false;
  const pieces = (async function* () {
    try {
      for (const piece of [[], [1, 2], [], [3, 4, 5]]) yield Uint8Array.from(piece);
    } finally {
      isClosed = true;
    }
  })();
  const reader = new PieceReader(pieces);
  assert.equal(await reader.collect(3), Uint8Array.of(1, 2, 3));
  assert.not(await reader.isAtEnd());
  await reader.close();
  assert.ok(isClosed);
});

/** The bundle, mutated before and after it is signed. */
async function fuzz(seed: number, cases: number): Promise<Map<string, number>> {
  const prng = new Prng(seed, "bundles");
  const parts = partsOf(1);
  const manifest: BundleManifest = manifestOf(parts);
  const encoded = encodeBody(manifest);
  const body = partNames.map((name) => parts[name]);
  const reached = new Map<string, number>();
  const reading = { keys: [ownKey.accepted], check: linuxSignatureCheck };
  for (let index = 0; index < cases; index++) {
    const isSignedLast = prng.chance(0.5);
    const material = { pool: [[encoded]], numbers: [0n, 1n, 63n, 64n, 65n, 65536n, 65537n, 2n ** 53n] };
    const manifestBytes = isSignedLast ? joined(mutate([encoded], prng, material)) : encoded;
    const message = [signedStart(manifestBytes, ownKey.signer), ...body];
    const bytes = joined(isSignedLast ? message : mutate(message, prng, { ...material, pool: [message] }));
    let taken = 0;
    const result = await readBundle(sourceOf(bytes, 1 + prng.below(9000)), {
      ...reading,
      judge: () => null,
      take: (_part, _offset, piece) => {
        taken += piece.byteLength;
      },
    });
    const word = result.ok ? "whole" : result.code;
    reached.set(word, (reached.get(word) ?? 0) + 1);
    assert.ok(taken <= bytes.byteLength);
    // Only what is signed is ever called whole, and it is what was signed.
    if (result.ok && !isSignedLast) assert.equal(bytes, whole, `case ${index} of seed ${seed}`);
    if (!result.ok) assert.ok(result.text.length > 20 && result.text.length < 500);
  }
  return reached;
}

function joined(pieces: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(pieces));
}

test("1,500 mutated bundles of each of 2 seeds -> an answer for each, and none is whole that was not signed", async () => {
  for (const seed of [1, 2]) {
    const reached = await fuzz(seed, 1500);
    for (const code of ["not-a-bundle", "bad-signature", "bad-manifest", "truncated", "wrong-digest", "trailing-bytes"])
      assert.ok((reached.get(code) ?? 0) > 0, `${code}: ${JSON.stringify([...reached])}`);
  }
});

test("the signature's place -> 64 bytes behind the manifest", () => {
  assert.is(signedStart(Uint8Array.of(0xa0), ownKey.signer).byteLength, headBytes + 1 + signatureBytes);
});

test.run();
