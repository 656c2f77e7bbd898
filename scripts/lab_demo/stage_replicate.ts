/** Stages 1 and 2: real data in, the mirror queue draining, the golden copy equal; async, then sync. */
import { join } from "node:path";
import { formatBytes, formatCount, formatMs } from "../../firmware/shell/quantities.ts";
import * as labCommands from "../lab_site/commands.ts";
import { plainLink } from "../lab_site/links.ts";
import { repositoryRoot } from "../tools.ts";
import { isReadOnly, readAcks, run, startLoad, why } from "./hosts.ts";
import { compareSides, elm, groupAt, mustGoldcopy, oak, type Stage, settleInSync, uriOf, volumes } from "./stage.ts";

const mib = 1024 * 1024;
/** A line between two sites: narrower than what a host writes, so that the mirror queue can be seen. */
const narrowLink = { cut: false, latencyMs: 2, jitterMs: 0, rateBytesPerSecond: 60_000_000, loss: 0 };

/** A real tree with large and small files. */
const treeDir = join(repositoryRoot, "node_modules");

export async function writeRealData(stage: Stage): Promise<void> {
  const { report, workDir } = stage;
  report.step("Hosts write: a real filesystem to demo-1, random data to demo-2");
  const image = join(workDir, "tree.ext4");
  report.command(`mke2fs -t ext4 -d ${treeDir} tree.ext4 1G`);
  const made = await run("mke2fs", ["-q", "-F", "-t", "ext4", "-d", treeDir, image, "1G"]);
  report.require(made.code === 0, `mke2fs made an ext4 image of a real tree${made.code === 0 ? "" : `: ${why(made)}`}`);
  const target = uriOf(stage, oak, "demo-1");
  report.command(`nbdcopy tree.ext4 ${target}`);
  const startedMs = performance.now();
  const copied = await run("nbdcopy", ["--destination-is-zero", image, target]);
  const copyMs = performance.now() - startedMs;
  report.require(copied.code === 0, `nbdcopy wrote it to demo-1${copied.code === 0 ? "" : `: ${why(copied)}`}`);
  report.fact("filesystem copied by nbdcopy", formatMs(copyMs));

  await settleInSync(stage, oak, elm, 60_000);
  report.command("scripts/lab shape oak elm --latency 2ms --rate 480mbit");
  await labCommands.link(stage.lab.dir, { from: "oak", to: "elm", oneWay: false, nic: null, change: narrowLink });
  report.command(
    `fio --ioengine=nbd --rw=randwrite --bs=4k --size=256M --verify=pattern ... ${uriOf(stage, oak, "demo-2")}`,
  );
  const load = startLoad({
    uri: uriOf(stage, oak, "demo-2"),
    dir: workDir,
    round: 1,
    depth: 32,
    offsetBytes: 0,
    sizeBytes: 256 * mib,
  });
  const loadStartedMs = performance.now();
  const lag = await watchLag(stage, load.ended);
  const ended = await load.ended;
  const seconds = (performance.now() - loadStartedMs) / 1000;
  report.require(
    ended.code === 0,
    `fio wrote 256 MiB of random data to demo-2${ended.code === 0 ? "" : `: ${why(ended)}`}`,
  );
  const writes = readAcks(load).length;
  report.fact("random 4 KiB writes, async", `${formatCount(writes)} in ${seconds.toFixed(1)} s`);
  report.say(
    `elm was at most ${formatCount(lag.seqs)} writes (${formatBytes(lag.bytes)}, ${formatMs(lag.ms)}) behind meanwhile`,
  );
  report.fact(
    "largest lag seen, async",
    `${formatCount(lag.seqs)} seqs, ${formatBytes(lag.bytes)}, ${formatMs(lag.ms)}`,
  );
}

interface Lag {
  readonly seqs: number;
  readonly bytes: number;
  readonly ms: number;
}

/** The largest lag that status shows until `ended`. */
async function watchLag(stage: Stage, ended: Promise<unknown>): Promise<Lag> {
  const most = { seqs: 0, bytes: 0, ms: 0 };
  let isRunning = true;
  void ended.finally(() => {
    isRunning = false;
  });
  while (isRunning) {
    const peer = (await groupAt(stage, oak))?.peers[0];
    most.seqs = Math.max(most.seqs, peer?.lagSeqs ?? 0);
    most.bytes = Math.max(most.bytes, peer?.lagBytes ?? 0);
    most.ms = Math.max(most.ms, peer?.lagMs ?? 0);
    await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 50))]);
  }
  return most;
}

export async function showGoldenCopy(stage: Stage): Promise<void> {
  const { report, workDir } = stage;
  report.step("The mirror queue drains; the golden copy on elm is read-only and equal");
  await showDrain(stage);
  await labCommands.link(stage.lab.dir, { from: "oak", to: "elm", oneWay: false, nic: null, change: plainLink });
  const golden = uriOf(stage, elm, "demo-1");
  report.check((await isReadOnly(golden)) === true, "elm offers demo-1 read-only (nbdinfo)");
  const refused = await run("nbdcopy", [join(workDir, "tree.ext4"), golden]);
  report.check(refused.code !== 0, `elm refuses a host's writes: ${why(refused)}`);
  await compareSides(stage, oak, elm, volumes);
  const copy = join(workDir, "golden.ext4");
  const read = await run("nbdcopy", [golden, copy]);
  const checked = await run("e2fsck", ["-f", "-n", copy]);
  report.check(read.code === 0 && checked.code === 0, "e2fsck finds the filesystem on the golden copy clean");

  report.say("");
  await mustGoldcopy(stage, oak, "group set-mode demo elm --mode sync");
  await settleInSync(stage, oak, elm, 20_000);
  const load = startLoad({
    uri: uriOf(stage, oak, "demo-2"),
    dir: workDir,
    round: 2,
    depth: 16,
    offsetBytes: 256 * mib,
    sizeBytes: 32 * mib,
  });
  const startedMs = performance.now();
  const ended = await load.ended;
  const seconds = (performance.now() - startedMs) / 1000;
  const after = await groupAt(stage, oak);
  report.require(ended.code === 0, `fio wrote 32 MiB in sync mode${ended.code === 0 ? "" : `: ${why(ended)}`}`);
  report.fact("random 4 KiB writes, sync", `${formatCount(readAcks(load).length)} in ${seconds.toFixed(1)} s`);
  report.check(after?.peers[0]?.lagSeqs === 0, "in sync mode the lag is 0 when the last write is acknowledged");
  await settleInSync(stage, oak, elm, 20_000);
  report.command(`qemu-img compare ${uriOf(stage, oak, "demo-2")} ${uriOf(stage, elm, "demo-2")}`);
  const sides = [uriOf(stage, oak, "demo-2"), uriOf(stage, elm, "demo-2")];
  const compared = await run("qemu-img", ["compare", "-f", "raw", "-F", "raw", ...sides]);
  report.check(compared.code === 0, `qemu-img: ${why(compared)}`);
}

/** Prints the lag as it falls to nothing. */
async function showDrain(stage: Stage): Promise<void> {
  const startedMs = performance.now();
  let last = "";
  const drained = settleInSync(stage, oak, elm, 60_000);
  let isRunning = true;
  drained.then(
    () => {
      isRunning = false;
    },
    () => {
      isRunning = false;
    },
  );
  while (isRunning) {
    const group = await groupAt(stage, oak);
    const peer = group?.peers[0];
    const line =
      peer === undefined || group === null
        ? ""
        : `${peer.state}: ${formatCount(peer.lagSeqs ?? 0)} seqs behind, log ${formatBytes(group.logBytes)}`;
    if (line !== last && line !== "") stage.report.say(line);
    last = line;
    await Promise.race([drained.catch(() => null), new Promise((resolve) => setTimeout(resolve, 500))]);
  }
  const group = await drained;
  stage.report.check(true, `elm holds everything through seq ${formatCount(group.commitSeq)}`);
  stage.report.fact("mirror queue drained after", formatMs(performance.now() - startedMs));
}
