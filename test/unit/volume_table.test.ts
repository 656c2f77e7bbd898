import { encode } from "cbor-x/encode";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { newGroupDocument, readGroupDocument } from "../../firmware/volume/group_document.ts";
import type { GroupVolume } from "../../firmware/volume/group_port.ts";
import {
  changed,
  decodeChange,
  encodeChange,
  nextNumberAfter,
  type VolumeChange,
  volumesMax,
} from "../../firmware/volume/volume_table.ts";
import { Prng } from "../../hal/mock/prng.ts";

const test = suite("volume_table");

function volume(number: number, sizeBytes = 1 << 20): GroupVolume {
  return { number, uuid: "0".repeat(31) + (number % 10), name: `v${number}`, sizeBytes };
}

const samples: VolumeChange[] = [
  { op: "create", volume: volume(3) },
  { op: "resize", number: 3, sizeBytes: 1 << 21 },
  { op: "delete", number: 3 },
  { op: "table", volumes: [volume(1), volume(2)], nextNumber: 9 },
];

test("every change -> comes back as it was", () => {
  for (const change of samples) assert.equal(decodeChange(encodeChange(change)), change);
});

test("bytes changed, cut or made up -> a change that keeps the rules, or none; never an exception", () => {
  const prng = new Prng(1, "cbor");
  let accepted = 0;
  for (let round = 0; round < 20_000; round++) {
    let bytes: Uint8Array;
    if (prng.chance(0.3)) bytes = Uint8Array.from({ length: prng.below(60) }, () => prng.below(256));
    else {
      bytes = encodeChange(samples[prng.below(samples.length)]!);
      for (let flips = prng.below(4); flips > 0; flips--) bytes[prng.below(bytes.length)] = prng.below(256);
      if (prng.chance(0.2)) bytes = bytes.subarray(0, prng.below(bytes.length));
    }
    const change = decodeChange(bytes);
    if (change === null) continue;
    accepted++;
    const volumes = changed([volume(1), volume(3)], change);
    const document = { ...newGroupDocument("demo"), volumes };
    assert.type(readGroupDocument(document), "object", "the root with this table can be read back");
  }
  assert.ok(accepted > 100);
});

test("volumes that the store could not take -> not a change", () => {
  const bad: unknown[] = [
    { op: "create", volume: { ...volume(0) } },
    { op: "create", volume: volume(1 << 20) },
    { op: "create", volume: volume(1, 1000) },
    { op: "create", volume: volume(1, 2 ** 45) },
    { op: "resize", number: 1, sizeBytes: 1025 },
    { op: "resize", number: 1, sizeBytes: Number.NaN },
    { op: "resize", number: 1, sizeBytes: 2 ** 52 },
    { op: "table", volumes: [volume(1), volume(1)] },
    { op: "table", volumes: Array.from({ length: volumesMax + 1 }, (_, index) => volume(index + 1)) },
    { op: "table", volumes: [volume(1)], nextNumber: 0 },
    { op: "rename", number: 1 },
    [1, 2, 3],
    null,
  ];
  for (const one of bad) assert.is(decodeChange(Uint8Array.from(encode(one))), null, JSON.stringify(one));
});

test("more creations than a group holds -> the table stays within its limit on every copy", () => {
  let volumes: GroupVolume[] = [];
  for (let number = 1; number <= volumesMax + 5; number++) {
    const change = decodeChange(encodeChange({ op: "create", volume: volume(number) }));
    assert.ok(change !== null);
    volumes = changed(volumes, change);
  }
  assert.is(volumes.length, volumesMax);
});

test("a change names a number -> it is used from then on", () => {
  assert.equal(samples.map(nextNumberAfter), [4, 1, 1, 9]);
});

test.run();
