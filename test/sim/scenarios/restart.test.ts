/** Stories of starts that are interrupted. */
import { suite } from "uvu";
import { plainArray, Scene } from "./scene.ts";

const test = suite("sim_restart");

test("the power goes again and again while an array with a flushed cache starts -> nothing acknowledged is lost", () => {
  const arrays = ["oak", "elm"].map((name) => ({ ...plainArray(name), domain: "flush" as const, persistMs: 3 }));
  const scene = new Scene({ arrays });
  scene.load();
  for (let turn = 0; turn < 6; turn++) {
    scene.run(60);
    scene.oak.appliance.powerLoss();
    for (let afterMs = 1; afterMs <= 9; afterMs += 2) {
      scene.run(1);
      scene.site.start(scene.oak);
      scene.run(afterMs);
      scene.oak.appliance.powerLoss();
    }
    scene.run(1);
    scene.site.start(scene.oak);
    scene.until("oak serves again", () => scene.oak.live?.group()?.serving().writable === true);
  }
  scene.mend();
});

test.run();
