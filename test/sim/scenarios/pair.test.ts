/** Stories of an array that is a pair, beside a peer: whatever becomes of one appliance, nothing is lost and hosts go on. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { SimMachine } from "../sim_array.ts";
import { pairArray, plainArray, Scene } from "./scene.ts";

const test = suite("sim_pair");

function pairScene(mode: "sync" | "async" = "async"): { scene: Scene; a: SimMachine; b: SimMachine } {
  const scene = new Scene({ arrays: [pairArray("oak"), plainArray("elm")], mode });
  const [a, b] = scene.oak.machines as [SimMachine, SimMachine];
  scene.load();
  scene.run(200);
  return { scene, a, b };
}

function untilServed(scene: Scene, machine: SimMachine): void {
  scene.until(`${machine.name} serves`, () => {
    const { live } = scene.oak;
    return live?.machine === machine && live.group()?.serving().writable === true;
  });
}

function untilWrites(scene: Scene): void {
  const written = scene.site.oracle.acknowledgedWrites;
  scene.until("hosts write", () => scene.site.oracle.acknowledgedWrites > written + 50);
}

test("a pair beside a single peer, no fault -> hosts write over both paths, and everything is whole", () => {
  const { scene } = pairScene();
  scene.run(500);
  scene.mend();
});

for (const mode of ["async", "sync"] as const) {
  test(`${mode}: the owner dies again and again -> the partner serves what hosts have seen, and the peer follows`, () => {
    const { scene, a, b } = pairScene(mode);
    for (const [victim, heir] of [
      [a, b],
      [b, a],
    ] as const) {
      victim.appliance.crash();
      untilServed(scene, heir);
      untilWrites(scene);
      scene.site.startMachine(victim);
      scene.until("mirrored again", () => scene.oak.isMirrored);
      untilWrites(scene);
    }
    scene.mend();
  });
}

test("the owner is paused for good -> it is killed before the partner serves", () => {
  const { scene, a, b } = pairScene();
  a.appliance.pause();
  untilServed(scene, b);
  assert.not(a.appliance.isUp);
  untilWrites(scene);
  scene.mend();
});

test("the interconnect is cut, then the owner dies -> the partner waits until what only the owner had is on the shelf or back", () => {
  const { scene, a, b } = pairScene();
  scene.site.cutPair(scene.oak, true, ["ic0", "ic1"]);
  scene.run(3000);
  assert.is(scene.oak.live?.machine, a);
  untilWrites(scene);
  a.appliance.crash();
  untilServed(scene, b);
  untilWrites(scene);
  scene.mend();
});

test("the interconnect is cut, and the owner's power goes before it has found out -> hosts have seen nothing that the partner lacks", () => {
  const { scene, a, b } = pairScene();
  for (const [victim, heir] of [
    [a, b],
    [b, a],
  ] as const) {
    scene.site.cutPair(scene.oak, true, ["ic0", "ic1"]);
    scene.run(300);
    victim.appliance.powerLoss();
    untilServed(scene, heir);
    scene.site.cutPair(scene.oak, false, ["ic0", "ic1"]);
    scene.site.startMachine(victim);
    scene.until("mirrored again", () => scene.oak.isMirrored);
    untilWrites(scene);
  }
  scene.mend();
});

test("a hand-over while the interconnect is slow -> the partner has it all", () => {
  const { scene, a, b } = pairScene();
  scene.site.slowPair(scene.oak, 20, ["ic0", "ic1"]);
  untilWrites(scene);
  scene.answer(scene.oak.partnershipAt(a)!.failover(null));
  untilServed(scene, b);
  scene.mend();
});

test("the power of both goes -> either alone has everything", () => {
  const { scene, a, b } = pairScene();
  for (const machine of [a, b]) {
    a.appliance.powerLoss();
    b.appliance.powerLoss();
    scene.run(20);
    scene.site.startMachine(machine);
    untilServed(scene, machine);
    untilWrites(scene);
    scene.site.start(scene.oak);
    scene.until("mirrored again", () => scene.oak.isMirrored);
  }
  scene.mend();
});

test("the owner's cache is lost with its power, then the partner's in its turn -> the other one's copy has everything", () => {
  const { scene, a, b } = pairScene();
  for (const [victim, heir] of [
    [a, b],
    [b, a],
  ] as const) {
    victim.appliance.nvram.failBattery();
    victim.appliance.powerLoss();
    untilServed(scene, heir);
    untilWrites(scene);
    victim.appliance.nvram.repairBattery();
    scene.site.startMachine(victim);
    scene.until("mirrored again", () => scene.oak.isMirrored);
  }
  scene.mend();
});

test("hand-overs to and fro under load -> nothing is lost, and the peer follows", () => {
  const { scene, a, b } = pairScene("sync");
  for (const to of [b, a, b]) {
    const from = to === a ? b : a;
    assert.equal(scene.answer(scene.oak.partnershipAt(from)!.failover(null)), { changed: true, owner: to.name });
    untilServed(scene, to);
    untilWrites(scene);
  }
  scene.mend();
});

test.run();
