/** What the owners of the two halves ask of each other (`half_calls.ts`), when an owner goes in the midst of it. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Tenure } from "../../firmware/manage/tenure.ts";
import { GroupMover } from "../../firmware/pair/group_mover.ts";
import { cededIn, claimsIn, HalfCalls } from "../../firmware/pair/half_calls.ts";
import type { HostFront } from "../../firmware/pair/host_front.ts";
import type { HalfNumber } from "../../firmware/pair/limits.ts";
import type { Engine } from "../../firmware/pair/partnership_options.ts";
import { SeatedUnits } from "../../firmware/pair/seated_units.ts";
import { SpaceBalance } from "../../firmware/pair/space_balance.ts";
import { World } from "../../hal/mock/world.ts";
import { ManualClock } from "./support/manual_clock.ts";

const test = suite("pair_half_calls");
const noHardware = { cache: { sizeBytes: 65536, domain: "battery" }, shelves: [], hbaPorts: [], nics: [] } as const;
const transfer = JSON.stringify({ parcel: {}, volumes: [], mappings: [], reservations: {}, wasServed: true });

test("the half is handed over while a group comes -> whoever brings it is told, and the next owner's claims do not wait for it", async () => {
  const claims = {
    groupClaims: () => [],
    claims: () => new Uint8Array(1),
    usage: () => ({ spareBytes: 0 }),
    slabBytes: 1,
  };
  const never = { pool: claims, transfers: { adopt: () => new Promise(() => {}) } } as unknown as Engine;
  let engine: Engine | null = never;
  const tenure = new Tenure();
  const calls = new HalfCalls({
    half: 1,
    engine: () => engine,
    tenure,
    front: {} as HostFront,
    move: () => Promise.reject(),
    isAsking: () => false,
    hasCeded: () => {},
    ready: async () => {},
  });
  const adopting = calls.answer("/half/adopt", transfer);
  const asking = calls.answer("/half/claims", "{}");
  engine = null;
  calls.engineEnded();
  tenure.end();
  for (const answer of [await adopting, await asking]) assert.is(answer.status, 503);
  assert.is((await calls.answer("/half/claims", "{}")).status, 503, "nobody owns it here");
  engine = never;
  assert.is((await calls.answer("/half/claims", "{}")).status, 200);
});

test("answers that are none -> nothing is claimed, and nothing ceded", () => {
  const claims = { groups: [{ id: "0".repeat(32), claim: 3, leaving: true }], slabs: "0f", freeBytes: 0, slabBytes: 1 };
  assert.equal(claimsIn({ status: 200, body: claims }), claims);
  assert.equal(cededIn({ status: 200, body: { slabs: [1, 2] } }), [1, 2]);
  const bodies = [null, undefined, 7, "", [], {}, { groups: null }, { slabs: null }, { slabs: ["1"] }];
  const bad = [
    { groups: [null] },
    { groups: [{ id: "x", claim: 1, leaving: true }] },
    { slabs: "0g" },
    { slabBytes: 0 },
  ];
  for (const body of [...bodies, ...bad.map((part) => ({ ...claims, ...part }))]) {
    assert.is(claimsIn({ status: 200, body }), null, JSON.stringify(body));
    assert.is(cededIn({ status: 200, body }), null, JSON.stringify(body));
  }
  assert.is(claimsIn({ status: 503, body: claims }), null);
  assert.is(claimsIn(null), null);
});

test("the other half's claims cannot be understood -> a group on its way stays on its way, and nobody is asked for space", async () => {
  const leaving = { id: "1".repeat(32), claim: 1, leaving: true };
  const unexpected = () => assert.unreachable("it is not known where the group is");
  const transfers = { openClosed: async () => {}, claims: () => [leaving], end: unexpected, cancel: unexpected };
  const pool = { usage: () => ({ totalBytes: 8, spareBytes: 0 }), claims: () => new Uint8Array(1) };
  const engine = { transfers, pool } as unknown as Engine;
  const asked: string[] = [];
  const parts = {
    clock: new ManualClock(),
    events: { emit: unexpected },
    half: 0,
    engine: () => engine,
    tenure: new Tenure(),
    askOther: async (path: string) => {
      asked.push(path);
      return { status: 200, body: null };
    },
    hold: async () => {},
  } as const;
  await new GroupMover(parts).settle();
  const balance = new SpaceBalance(parts);
  await balance.look();
  assert.is(await balance.more(), false);
  assert.equal(asked, Array(4).fill("/half/claims"));
});

test("a volume comes back before its leaving has quite ended -> it is held until both moves have let go, or were lost", async () => {
  const { clock } = new World({ seed: 1 }).addAppliance({ name: "oak-a", ...noHardware }).boot();
  const units = new SeatedUnits(clock, 2, null);
  const callsOf = (half: HalfNumber) =>
    new HalfCalls({
      half,
      engine: () => null,
      isAsking: () => false,
      hasCeded: () => {},
      tenure: new Tenure(),
      front: units as unknown as HostFront,
      move: () => Promise.reject(),
      ready: async () => {},
    });
  const [first, second] = [callsOf(0), callsOf(1)];
  const ask = (calls: HalfCalls, isHeld: boolean) =>
    calls.answer("/half/hold", JSON.stringify({ uuids: ["aa".repeat(16)], isHeld }));
  for (const ends of [() => ask(first, false), async () => first.partnerLost()]) {
    await ask(first, true);
    await ask(second, true);
    await ends();
    assert.ok(units.holdsVolumes);
    await ask(second, false);
    assert.not.ok(units.holdsVolumes);
  }
});

test("a partner that is older than the volumes' UUIDs -> what it asks is understood, without them", async () => {
  const asked: unknown[] = [];
  const take = async (what: unknown) => {
    asked.push(what);
    return { ok: true, value: null };
  };
  const calls = new HalfCalls({
    half: 0,
    isAsking: () => false,
    hasCeded: () => {},
    engine: () => ({ transfers: { adopt: take, forget: take } }) as unknown as Engine,
    tenure: new Tenure(),
    front: {} as HostFront,
    move: () => Promise.reject(),
    ready: async () => {},
  });
  assert.is((await calls.answer("/half/adopt", transfer)).status, 200);
  assert.is((await calls.answer("/half/forget", JSON.stringify({ volumes: ["db"] }))).status, 200);
  assert.equal(asked, [
    { ...JSON.parse(transfer), uuids: [] },
    { volumes: ["db"], uuids: [] },
  ]);
});

test.run();
