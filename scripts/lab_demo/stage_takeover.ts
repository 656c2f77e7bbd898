/** Stages 6 and 7: killed for good; takeover at the other site, and the way back. */
import { join } from "node:path";
import type { MigrateJson, ResyncJson, TakeoverJson, VerifyJson } from "../../firmware/manage/control.ts";
import type { GroupDetailJson } from "../../firmware/manage/status_json.ts";
import { formatBytes, formatCount, formatMs } from "../../firmware/shell/quantities.ts";
import * as labCommands from "../lab_site/commands.ts";
import { plainLink } from "../lab_site/links.ts";
import { waitUntil } from "../lab_site/wait.ts";
import { findAcks } from "./acks.ts";
import { canWrite, isReadOnly, readAcks, run, startLoad, why } from "./hosts.ts";
import {
  compareSides,
  elm,
  goldcopy,
  groupAt,
  mustGoldcopy,
  oak,
  type Stage,
  settleInSync,
  uriOf,
  volumes,
} from "./stage.ts";
import { checkAcks, killBoth, startBoth, underLoad } from "./stage_restart.ts";

const mib = 1024 * 1024;
const slowLink = { cut: false, latencyMs: 20, jitterMs: 2, rateBytesPerSecond: 250_000, loss: 0 };

export async function takeOver(stage: Stage): Promise<void> {
  const { report, workDir, lab } = stage;
  report.step("both appliances of oak are lost; elm takes over and is written to");
  await mustGoldcopy(stage, oak, "group set-mode demo elm --mode async");
  report.command("scripts/lab shape oak elm --latency 20ms --jitter 2ms --rate 2mbit");
  await labCommands.link(lab.dir, { from: "oak", to: "elm", oneWay: false, nic: null, change: slowLink });
  const early = await goldcopy(stage, elm, "group takeover demo");
  report.check(early.code === "primary-reachable", `while oak answers, a takeover is refused: ${early.text}`);

  // One write at a time, so that the order of acknowledgements is the order of the writes.
  const uri = uriOf(stage, oak, "demo-2");
  const load = startLoad({ uri, dir: workDir, round: 4, depth: 1, offsetBytes: 832 * mib, sizeBytes: 128 * mib });
  await underLoad(stage, oak, 2000);
  await killBoth(stage);
  await load.ended;
  const acks = readAcks(load);
  await labCommands.link(lab.dir, { from: "oak", to: "elm", oneWay: false, nic: null, change: plainLink });

  const startedMs = performance.now();
  const taken = await mustGoldcopy<TakeoverJson>(stage, elm, "group takeover demo");
  const golden = uriOf(stage, elm, "demo-2");
  const writable = await waitUntil(20_000, 20, async () => ((await canWrite(golden)) ? true : null));
  const takeoverMs = performance.now() - startedMs;
  report.require(writable !== null, `a host writes on elm ${formatMs(takeoverMs)} after the takeover was asked for`);
  report.fact("takeover to first write", `${formatMs(takeoverMs)} (listening for the primary included)`);
  report.say(lossText(taken));
  const kept = await keptWrites(stage, load.round, acks);
  report.check(
    kept.isPrefix,
    `elm holds exactly the first ${formatCount(kept.present)} of oak's ${formatCount(acks.length)} acknowledged writes: order is kept, no gap`,
  );
  report.check(
    taken.loss === "possible" || kept.missing.length === 0,
    `the report is true: ${formatCount(kept.missing.length)} acknowledged writes are missing, it said "${taken.loss}"`,
  );
  report.fact(
    "lost by the takeover",
    `${formatCount(kept.missing.length)} writes of the last moments (async, slow link)`,
  );

  const more = startLoad({
    uri: golden,
    dir: workDir,
    round: 5,
    depth: 8,
    offsetBytes: 832 * mib,
    sizeBytes: 16 * mib,
  });
  const ended = await more.ended;
  report.require(ended.code === 0, `fio wrote 16 MiB on elm${ended.code === 0 ? "" : `: ${why(ended)}`}`);

  await comeBack(stage, { round: load.round, missing: kept.missing });
}

function lossText(taken: TakeoverJson): string {
  if (taken.loss === "none") return "the report: nothing is lost, proven";
  const seqs = taken.maybeLostSeqs === null ? "an unknown number of" : formatCount(taken.maybeLostSeqs);
  const bytes = taken.maybeLostBytes === null ? "unknown bytes" : formatBytes(taken.maybeLostBytes);
  const time = taken.maybeLostMs === null ? "unknown time" : `the last ${formatMs(taken.maybeLostMs)}`;
  return `the report: kept through seq ${formatCount(taken.forkSeq ?? 0)}; may be lost: ${seqs} seqs, ${bytes}, ${time}`;
}

async function keptWrites(stage: Stage, round: number, acks: readonly number[]) {
  const image = join(stage.workDir, "demo-2.raw");
  const read = await run("nbdcopy", [uriOf(stage, elm, "demo-2"), image]);
  stage.report.require(read.code === 0, `nbdcopy reads demo-2 from elm${read.code === 0 ? "" : `: ${why(read)}`}`);
  return findAcks(image, round, acks);
}

async function comeBack(stage: Stage, lost: { round: number; missing: readonly number[] }): Promise<void> {
  const { report, workDir } = stage;
  report.step("oak comes back, becomes the golden copy of elm, and the role migrates home");
  report.say(await startBoth(stage));
  const back = await waitUntil(20_000, 25, async () => await groupAt(stage, oak));
  report.require(
    back !== null && !back.writable && back.why !== null,
    `oak is not writable, and says why: ${back?.why ?? "nothing"}`,
  );
  report.check(!(await canWrite(uriOf(stage, oak, "demo-2"))), "oak refuses a host's writes");

  const resyncStartedMs = performance.now();
  const resynced = await mustGoldcopy<ResyncJson>(stage, oak, "group resync demo --from elm");
  report.fact(
    "resync of oak",
    `${formatMs(performance.now() - resyncStartedMs)}, ${formatBytes(resynced.receivedBytes)}`,
  );
  await settleInSync(stage, elm, oak, 30_000);
  await compareSides(stage, elm, oak, volumes);
  await checkSalvage(stage, lost);

  const load = startLoad({
    uri: uriOf(stage, elm, "demo-2"),
    dir: workDir,
    round: 6,
    depth: 8,
    offsetBytes: 320 * mib,
    sizeBytes: 512 * mib,
  });
  await underLoad(stage, elm, 3000);
  const migrateStartedMs = performance.now();
  const moved = await mustGoldcopy<MigrateJson>(stage, elm, "group migrate demo --to oak");
  const migrateMs = performance.now() - migrateStartedMs;
  await load.ended;
  const acks = readAcks(load);
  report.check(
    moved.primary === "oak",
    `oak is primary again, ${formatMs(migrateMs)} after it was asked for, under load`,
  );
  report.fact("migration under load", formatMs(migrateMs));
  await checkAcks(stage, oak, load, acks, "no acknowledged write was lost by the migration");
  report.check((await isReadOnly(uriOf(stage, elm, "demo-2"))) === true, "elm is the read-only golden copy again");
  report.require(await canWrite(uriOf(stage, oak, "demo-2")), "hosts write on oak");
  await settleInSync(stage, oak, elm, 30_000);
  await compareSides(stage, oak, elm, ["demo-2"]);
  const verified = await mustGoldcopy<VerifyJson>(stage, oak, "group verify demo");
  for (const { name, digest } of verified.peers[0]?.volumes ?? [])
    report.say(`${name}  digest ${digest.slice(0, 32)}...`);
  report.check(
    verified.equal,
    `both arrays hold the same at seq ${formatCount(verified.peers[0]?.seq ?? 0)}, all volumes`,
  );
}

/** What elm never got was kept on oak before it was overwritten, and hosts can read it. */
async function checkSalvage(stage: Stage, lost: { round: number; missing: readonly number[] }): Promise<void> {
  const { report, workDir } = stage;
  if (lost.missing.length === 0) return report.say("nothing was missing on elm, so there is nothing to salvage");
  const shown = await mustGoldcopy<GroupDetailJson>(stage, oak, "group show demo");
  const [salvage] = shown.salvage;
  if (!report.check(salvage !== undefined, "what elm never got was kept on oak as a salvage set")) return;
  if (salvage === undefined) return;
  report.say(`salvage ${salvage.id}: ${formatBytes(salvage.bytes)} written beyond seq ${formatCount(salvage.forkSeq)}`);
  const image = join(workDir, "salvage.raw");
  const read = await run("nbdcopy", [uriOf(stage, oak, `demo-2@${salvage.id}`), image]);
  const found = read.code === 0 ? findAcks(image, lost.round, lost.missing) : null;
  report.check(
    found !== null && found.missing.length === 0,
    found === null
      ? `demo-2@${salvage.id} can be read: ${why(read)}`
      : `demo-2@${salvage.id} holds all ${formatCount(found.acknowledged)} writes that elm never got (${formatCount(found.present)} found)`,
  );
}
