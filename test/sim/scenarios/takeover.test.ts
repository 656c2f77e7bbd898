/** Stories of takeovers, of their reports, and of ex-primaries. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Scene } from "./scene.ts";

const test = suite("sim_takeover");

function stopInOrder(scene: Scene): void {
  scene.site.answer(scene.control(scene.oak).stop());
  scene.oak.appliance.crash();
}

test("the primary has stopped in order -> a takeover loses nothing, and says so", () => {
  const scene = new Scene();
  scene.load();
  scene.run(300);
  stopInOrder(scene);
  const report = scene.takeOver(scene.elm);
  assert.is(report.loss, "none");
  scene.mend();
});

test("a primary that had stopped in order is confirmed, cut off at once, and lost -> no takeover says that nothing is lost", () => {
  const scene = new Scene();
  scene.load();
  scene.run(300);
  stopInOrder(scene);
  let cutOff = false;
  scene.site.onEvent.push((array, code) => {
    if (array !== scene.oak || code !== "primary-confirmed") return;
    cutOff = true;
    scene.cut();
  });
  scene.site.start(scene.oak);
  scene.until("oak is confirmed and cut off", () => cutOff);
  const written = scene.site.oracle.acknowledgedWrites;
  scene.until("hosts write to oak", () => scene.site.oracle.acknowledgedWrites > written + 20);
  scene.oak.appliance.powerLoss();
  const report = scene.takeOver(scene.elm);
  assert.is(report.loss, "possible");
  scene.mend();
});

test("a primary comes back without its cache and is connected for long -> a takeover's report covers the writes that it lost", () => {
  const scene = new Scene();
  scene.load();
  scene.run(200);
  scene.cut();
  const written = scene.site.oracle.acknowledgedWrites;
  scene.until("hosts write to oak alone", () => scene.site.oracle.acknowledgedWrites > written + 20);
  const { nvram } = scene.oak.appliance;
  nvram.failBattery();
  scene.oak.appliance.powerLoss();
  scene.site.forgetLicences.add("oak");
  scene.run(10);
  nvram.repairBattery();
  scene.oak.acceptCacheLoss = true;
  scene.site.start(scene.oak);
  scene.join();
  scene.run(5000);
  assert.is(scene.group(scene.oak).serving().writable, false);
  // The writes are 5 s old: L3 is judged by what is lost.
  const report = scene.takeOver(scene.elm);
  assert.is(report.loss, "possible");
  assert.ok(report.maybeLostMs === null || report.maybeLostMs >= 5000, `${report.maybeLostMs}`);
  scene.mend();
});

test("an ex-primary starts after a takeover, the link still cut -> it is not writable, and becomes the golden copy", () => {
  const scene = new Scene();
  scene.load();
  scene.run(200);
  scene.cut();
  scene.run(100);
  scene.oak.appliance.powerLoss();
  scene.takeOver(scene.elm);
  scene.site.start(scene.oak);
  scene.run(2500);
  assert.is(scene.group(scene.oak).serving().writable, false);
  scene.mend();
});

test("a sync primary stops while its peer lacks a write -> no host is told that the write is done", () => {
  const scene = new Scene({ mode: "sync" });
  scene.load();
  scene.until("writes are protected", () => (scene.oak.eventCounts.get("sync-protected") ?? 0) > 0);
  for (let turn = 0; turn < 4; turn++) {
    // What is sent is under way for long: D4 is judged at every acknowledgement.
    scene.site.world.shape("oak-a", "elm-a", { latencyMs: 80 });
    scene.run(40);
    scene.site.answer(scene.control(scene.oak).stop());
    scene.oak.appliance.crash();
    scene.site.world.shape("oak-a", "elm-a", { latencyMs: 0 });
    scene.site.start(scene.oak);
    scene.until("oak serves again", () => scene.oak.live?.group()?.serving().writable === true);
    scene.run(300);
  }
  scene.mend();
});

test.run();
