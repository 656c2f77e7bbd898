/** Stories of groups and volumes that have just been made. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { Scene } from "./scene.ts";

const test = suite("sim_new_volume");

test("a group's creation is answered -> it is open for writing", () => {
  const scene = new Scene();
  const { groups } = scene.control(scene.oak);
  scene.answer(groups.create({ name: "second" }));
  const entry = scene.oak.live!.running!.groups.find("second");
  assert.is(entry?.group.serving().writable, true);
});

test("sectors of a volume that has never been at home are read around the first writes -> zeros, and what was written", () => {
  // Hosts begin at once, before anything has been destaged; every read is judged sector by sector.
  const scene = new Scene({ thinkMs: 0.2, depth: 8 });
  scene.load();
  scene.run(400);
  assert.ok(scene.site.oracle.checkedReads > 100, `${scene.site.oracle.checkedReads} reads`);
  scene.mend();
});

test.run();
