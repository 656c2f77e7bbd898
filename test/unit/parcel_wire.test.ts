/** The parcel of a group as JSON (`manage/parcel_wire.ts`): whole again at the other end, whatever its size. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { fromWire, parcelDigitsMax, toWire } from "../../firmware/manage/parcel_wire.ts";
import { pairLimits } from "../../firmware/pair/limits.ts";
import { slabList } from "../../firmware/store/move_parcel.ts";
import type { GroupParcel } from "../../firmware/store/store.ts";

const test = suite("parcel_wire");

function parcelOf(data: readonly number[], maps: readonly number[], logs: readonly number[]): GroupParcel {
  return {
    id: "ab".repeat(16),
    number: 3,
    claim: 2,
    generation: 7,
    root: Uint8Array.from({ length: 1000 }, (_, index) => index & 255),
    dataSlabs: slabList(data),
    mapSlabs: slabList(maps),
    logSlabs: slabList(logs),
  };
}

function overTheWire(parcel: GroupParcel): { wire: Record<string, object>; back: Record<string, unknown> } {
  const wire = JSON.parse(JSON.stringify(toWire(parcel)));
  return { wire, back: fromWire(wire) };
}

const every = (step: number, from: number, count: number) => Array.from({ length: count }, (_, at) => from + step * at);

test("up to 80,000 slabs -> lists, as every version takes them", () => {
  const parcel = parcelOf(every(3, 1, 79_990), [2, 5], every(3, 8, 8));
  const { wire, back } = overTheWire(parcel);
  assert.equal(back, { ...parcel });
  for (const key of ["root", "dataSlabs", "mapSlabs", "logSlabs"]) assert.equal(Object.keys(wire[key]!), ["hex"], key);
});

test("all that a pool of 64 TiB holds, scattered -> one message, and the same slabs", () => {
  const slabEnd = 2 ** 20;
  const inTurn = [[], [], []] as number[][];
  for (let slab = 1; slab < slabEnd; slab++) inTurn[slab % 50 === 0 ? 1 : slab % 1001 === 1 ? 2 : 0]!.push(slab);
  const parcel = parcelOf(inTurn[0]!, inTurn[1]!, inTurn[2]!);
  const { wire, back } = overTheWire(parcel);
  assert.ok(JSON.stringify(wire).length < pairLimits.payloadBytesMax - 64 * 1024);
  assert.equal(Object.keys(wire["dataSlabs"]!), ["slabs"]);
  for (const key of ["root", "dataSlabs", "mapSlabs", "logSlabs"] as const)
    assert.is(Buffer.compare(back[key] as Uint8Array, parcel[key]), 0, key);
});

test("more than one message holds -> none", () => {
  assert.is(toWire({ ...parcelOf([], [], []), root: new Uint8Array(parcelDigitsMax / 2 + 1) }), null);
});

test("what is no parcel -> as it came, for the pool to judge", () => {
  const strange = { root: { hex: "0g" }, dataSlabs: { slabs: "123" }, mapSlabs: { slabs: 5 }, logSlabs: null, id: 7 };
  assert.equal(fromWire(strange), strange);
  assert.equal(fromWire({ mapSlabs: { slabs: "" }, logSlabs: { hex: "" } }), {
    mapSlabs: new Uint8Array(0),
    logSlabs: new Uint8Array(0),
  });
});

test.run();
