/** What the owners of the two halves ask of each other (`half_calls.ts`), when an owner goes in the midst of it. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Tenure } from "../../firmware/manage/tenure.ts";
import { HalfCalls } from "../../firmware/pair/half_calls.ts";
import type { HostFront } from "../../firmware/pair/host_front.ts";
import type { HalfNumber } from "../../firmware/pair/limits.ts";
import type { Engine } from "../../firmware/pair/partnership_options.ts";
import { SeatedUnits } from "../../firmware/pair/seated_units.ts";
import { World } from "../../hal/mock/world.ts";

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

test.run();
