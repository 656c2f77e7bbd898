/** Stage 4: the owner of array oak is killed under load; its partner takes over, and the array moves back without losing a write. */
import type { FailoverJson } from "../../firmware/manage/control.ts";
import { formatCount, formatMs } from "../../firmware/shell/quantities.ts";
import { statusOf } from "../lab_site/appliances.ts";
import * as labCommands from "../lab_site/commands.ts";
import { waitUntil } from "../lab_site/wait.ts";
import { canWrite, readAcks, startLoad } from "./hosts.ts";
import { compareSides, elm, mustGoldcopy, oak, oakPartner, type Stage, settleInSync, uriOf } from "./stage.ts";
import { checkAcks, underLoad } from "./stage_restart.ts";

const mib = 1024 * 1024;

export async function failOver(stage: Stage): Promise<void> {
  const { report, workDir, lab } = stage;
  report.step("oak-a is killed (SIGKILL) under load; its partner oak-b takes over");
  const load = startLoad({
    uri: uriOf(stage, oak, "demo-2"),
    dir: workDir,
    round: 7,
    depth: 32,
    offsetBytes: 320 * mib,
    sizeBytes: 256 * mib,
  });
  await underLoad(stage, oak, 5000);
  report.command("scripts/lab kill oak-a");
  await labCommands.kill(lab.dir, oak);
  const killedMs = performance.now();
  const other = uriOf(stage, oakPartner, "demo-2");
  const writable = await waitUntil(20_000, 5, async () => ((await canWrite(other)) ? true : null));
  const takeoverMs = performance.now() - killedMs;
  report.require(writable !== null, `a host writes at oak-b ${formatMs(takeoverMs)} after oak-a was dead`);
  report.fact("local takeover to first write", formatMs(takeoverMs));
  await load.ended;
  const acks = readAcks(load);
  report.say(`${formatCount(acks.length)} writes had been acknowledged to fio when it lost its session`);
  report.require(acks.length > 0, "the owner was killed while a host was writing");
  await checkAcks(stage, oakPartner, load, acks, "oak-b has every acknowledged write");
  await settleInSync(stage, oakPartner, elm, 30_000);
  report.check(true, "replication went on by itself, from oak-b: elm is in sync again");

  report.command("scripts/lab start oak-a");
  report.say((await labCommands.start(lab.dir, oak)).text);
  await whenMirrored(stage);
  const startedMs = performance.now();
  const moved = await mustGoldcopy<FailoverJson>(stage, oakPartner, "pair failover --to oak-a");
  report.check(
    moved.owner === oak,
    `oak-a owns the array again, ${formatMs(performance.now() - startedMs)} after it was asked for`,
  );
  report.require(await canWrite(other), "a host writes at oak-b's port, which brings it to oak-a");
  await settleInSync(stage, oak, elm, 30_000);
  await compareSides(stage, oak, elm, ["demo-2"]);
}

/** Either appliance of oak can be lost from here on. */
export async function whenMirrored(stage: Stage): Promise<void> {
  const found = await waitUntil(30_000, 20, async () => {
    const status = await statusOf(stage.lab, oak);
    return status?.pair?.state === "mirrored" ? true : null;
  });
  stage.report.require(found !== null, "the write caches of oak-a and oak-b are alike again");
}
