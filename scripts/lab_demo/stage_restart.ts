/** Stage 5: both appliances of oak are killed under load; every acknowledged write is there after the restart, and replication goes on by itself. */
import { join } from "node:path";
import { formatCount, formatMs } from "../../firmware/shell/quantities.ts";
import * as labCommands from "../lab_site/commands.ts";
import { waitUntil } from "../lab_site/wait.ts";
import { findAcks } from "./acks.ts";
import { canWrite, type Load, readAcks, run, startLoad, why } from "./hosts.ts";
import { compareSides, elm, groupAt, oak, oakPartner, type Stage, settleInSync, uriOf } from "./stage.ts";

const mib = 1024 * 1024;

export async function crashAndRestart(stage: Stage): Promise<void> {
  const { report, workDir } = stage;
  report.step("both appliances of oak are killed (SIGKILL) under load and started again");
  const uri = uriOf(stage, oak, "demo-2");
  const load = startLoad({ uri, dir: workDir, round: 3, depth: 32, offsetBytes: 320 * mib, sizeBytes: 512 * mib });
  await underLoad(stage, oak, 5000);
  await killBoth(stage);
  await load.ended;
  const acks = readAcks(load);
  report.say(`${formatCount(acks.length)} writes had been acknowledged to fio when it lost its session`);
  report.require(acks.length > 0, "the array was killed while a host was writing");

  const startedMs = performance.now();
  const started = await startBoth(stage);
  const writable = await waitUntil(20_000, 20, async () => ((await canWrite(uri)) ? true : null));
  const restartMs = performance.now() - startedMs;
  report.say(started);
  report.require(writable !== null, `a host writes again ${formatMs(restartMs)} after the start`);
  report.fact("restart to first write", formatMs(restartMs));
  await checkAcks(stage, oak, load, acks, "after the restart every acknowledged write is on oak");

  await settleInSync(stage, oak, elm, 30_000);
  report.check(true, "replication went on by itself: elm is in sync again");
  await compareSides(stage, oak, elm, ["demo-2"]);
}

/** The standby first: the owner's death would have it take over. */
export async function killBoth({ report, lab }: Stage): Promise<void> {
  report.command("scripts/lab kill oak-b; scripts/lab kill oak-a");
  await Promise.all([labCommands.kill(lab.dir, oakPartner), labCommands.kill(lab.dir, oak)]);
}

export async function startBoth({ report, lab }: Stage): Promise<string> {
  report.command("scripts/lab start oak-a & scripts/lab start oak-b");
  const started = await Promise.all([labCommands.start(lab.dir, oak), labCommands.start(lab.dir, oakPartner)]);
  return started.map(({ text }) => text).join("\n");
}

/** Returns when `count` more seqs have been written at `appliance`: the load is really running. */
export async function underLoad(stage: Stage, appliance: string, count: number): Promise<void> {
  const first = (await groupAt(stage, appliance))?.commitSeq ?? 0;
  const reached = await waitUntil(20_000, 20, async () => {
    const group = await groupAt(stage, appliance);
    return group !== null && group.commitSeq >= first + count ? true : null;
  });
  stage.report.require(reached !== null, `a load is running on ${appliance}`);
}

/** Reads demo-2 as a host does and looks for every acknowledged write. */
export async function checkAcks(
  stage: Stage,
  appliance: string,
  load: Load,
  acks: readonly number[],
  claim: string,
): Promise<void> {
  const image = join(stage.workDir, "demo-2.raw");
  const read = await run("nbdcopy", [uriOf(stage, appliance, "demo-2"), image]);
  stage.report.require(
    read.code === 0,
    `nbdcopy reads demo-2 from ${appliance}${read.code === 0 ? "" : `: ${why(read)}`}`,
  );
  const found = findAcks(image, load.round, acks);
  stage.report.check(
    found.missing.length === 0,
    `${claim} (${formatCount(found.present)} of ${formatCount(found.acknowledged)} found)`,
  );
}
