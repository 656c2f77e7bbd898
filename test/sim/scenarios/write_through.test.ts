/** Stories of the cache's battery that the simulation has found. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Scene } from "./scene.ts";

const test = suite("sim_write_through");

test("a battery that comes and goes under load, then the power goes -> nothing acknowledged is lost", () => {
  const scene = new Scene({ depth: 8, thinkMs: 0.5 });
  scene.load();
  const { nvram } = scene.oak.appliance;
  for (let turn = 0; turn < 20; turn++) {
    nvram.failBattery();
    scene.run(3 + (turn % 7));
    nvram.repairBattery();
    scene.run(1 + (turn % 5));
  }
  nvram.failBattery();
  scene.run(2);
  scene.until("all is on the shelf", () => scene.group(scene.oak).writeThrough.atRiskBytes === 0);
  scene.run(20);
  scene.oak.appliance.powerLoss();
  scene.run(10);
  nvram.repairBattery();
  // The cache holds noise now. The operator gives it up, which costs nothing.
  scene.oak.acceptCacheLoss = true;
  scene.mend();
});

test("the peer is away while the battery is dead -> the log keeps to its bounds, and the peer comes back by a resync", () => {
  const scene = new Scene({ shelfLogBytes: 512 * 1024, thinkMs: 0.5 });
  scene.load();
  scene.oak.appliance.nvram.failBattery();
  scene.cut();
  // The bounds themselves are looked at all the time (B1).
  scene.until("the peer is given up", () => (scene.oak.eventCounts.get("peer-suspended") ?? 0) > 0, 60_000);
  scene.run(500);
  scene.oak.appliance.nvram.repairBattery();
  scene.mend();
  assert.ok((scene.oak.eventCounts.get("resync-ended") ?? 0) > 0);
});

test("the battery of a golden copy is dead -> what it hears while it copies changes no bytes under way", () => {
  const scene = new Scene({ mode: "sync", thinkMs: 0.5, depth: 8 });
  scene.load();
  scene.elm.appliance.nvram.failBattery();
  scene.run(600);
  scene.elm.appliance.nvram.repairBattery();
  scene.mend();
});

test.run();
