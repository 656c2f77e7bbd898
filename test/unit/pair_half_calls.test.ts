/** What the owners of the two halves ask of each other (`half_calls.ts`), when an owner goes in the midst of it. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Tenure } from "../../firmware/manage/tenure.ts";
import { HalfCalls } from "../../firmware/pair/half_calls.ts";
import type { HostFront } from "../../firmware/pair/host_front.ts";
import type { Engine } from "../../firmware/pair/partnership_options.ts";

const test = suite("pair_half_calls");
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
    engine: () => engine,
    tenure,
    front: {} as HostFront,
    move: () => Promise.reject(),
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

test("a partner that is older than the volumes' UUIDs -> what it asks is understood, without them", async () => {
  const asked: unknown[] = [];
  const take = async (what: unknown) => {
    asked.push(what);
    return { ok: true, value: null };
  };
  const calls = new HalfCalls({
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
