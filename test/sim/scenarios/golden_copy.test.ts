/** Stories of what a golden copy shows, and of resyncs. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { statusOf } from "../heal.ts";
import { groupName } from "../sim_array.ts";
import { Scene } from "./scene.ts";

const test = suite("sim_golden_copy");

test("records arrive ahead of their commit on a slow sync link -> the golden copy shows none of them early", () => {
  const scene = new Scene({ mode: "sync" });
  scene.load();
  scene.until("writes are protected", () => (scene.oak.eventCounts.get("sync-protected") ?? 0) > 0);
  // Acknowledgements need long, so that elm holds what oak has not committed. O1 is judged whenever elm commits.
  scene.site.world.shape("elm-a", "oak-a", { latencyMs: 30 });
  scene.run(600);
  scene.mend();
});

test("the fork before a resync cannot be saved -> status asks for a restart, which mends it", () => {
  const scene = new Scene();
  scene.load();
  scene.run(200);
  scene.writes(false);
  scene.until("all is at home", () => scene.group(scene.elm).log.destagedSeq === scene.group(scene.oak).log.headSeq);
  const disk = scene.elm.appliance.shelves[0]!.disk(0);
  disk.faults.writeErrorRate = 1;
  const failed = () => (scene.elm.eventCounts.get("replication-failed") ?? 0) > 0;
  void scene.control(scene.elm).groups.resync(groupName, { from: "oak", timeoutMs: 20_000 });
  scene.until("elm has stopped", failed);
  disk.faults.writeErrorRate = 0;
  const warnings = scene
    .control(scene.elm)
    .status()
    .warnings.map(({ code }) => code);
  assert.ok(warnings.includes("shelf-trouble"), warnings.join());
  scene.restart(scene.elm);
  scene.writes(true);
  scene.mend();
});

test("one read fails while the image comes home to be forked -> status asks for a restart though the disk works again", () => {
  const scene = new Scene();
  scene.load([scene.oak]);
  // Blocks that are at home are written in part: bringing the log home reads them.
  scene.run(1500);
  const disk = scene.elm.appliance.shelves[0]!.disk(0);
  disk.faults.tryReadRate = 0;
  disk.failNext("read", "error", "absent");
  void scene.control(scene.elm).groups.resync(groupName, { from: "oak", timeoutMs: 20_000 });
  scene.until("elm has stopped", () => (scene.elm.eventCounts.get("replication-failed") ?? 0) > 0);
  const { log } = scene.group(scene.elm);
  scene.until("all is at home", () => log.destagedSeq === log.headSeq);
  const { warnings, groups } = scene.control(scene.elm).status();
  const asked = warnings.find(({ code }) => code === "shelf-trouble");
  assert.match(asked?.text ?? "", /demo has stopped: .*absent; when the disk works again, restart the appliance/);
  assert.match(groups[0]?.why ?? "", /the group has stopped: .*absent/);
  scene.restart(scene.elm);
  scene.load([scene.elm]);
  scene.mend();
});

test("a copy is about to be replaced -> it is shown as such before its first chunk comes", () => {
  const scene = new Scene();
  scene.load();
  scene.run(200);
  const states = new Set<string>();
  void scene.control(scene.elm).groups.resync(groupName, { from: "oak", timeoutMs: 20_000 });
  // R4 is judged all the time: oak must not call a copy in sync that is being replaced.
  scene.until("the resync has ended", () => {
    states.add(statusOf(scene.elm)?.state ?? "none");
    return (scene.oak.eventCounts.get("resync-verified") ?? 0) > 0;
  });
  assert.ok(states.has("inconsistent") || states.has("resyncing"), [...states].join());
  scene.mend();
});

test("the link is lost again and again during a resync -> it is never called complete early, and ends", () => {
  const scene = new Scene({ thinkMs: 1 });
  scene.load();
  scene.run(500);
  void scene.control(scene.elm).groups.resync(groupName, { from: "oak", timeoutMs: 60_000 });
  scene.site.world.shape("oak-a", "elm-a", { rateBytesPerSecond: 3_000_000, latencyMs: 5 });
  for (let turn = 0; turn < 12; turn++) {
    scene.run(60 + 20 * (turn % 4));
    scene.cut();
    scene.run(3);
    scene.join();
    scene.site.world.network.breakOne(scene.site.world.prng(`break ${turn}`));
  }
  scene.site.world.shape("oak-a", "elm-a", { rateBytesPerSecond: null, latencyMs: 0 });
  scene.mend();
});

test.run();
