/**
 * The default site as three virtual machines with the appliance image: a pair on one shared disk, each with the other one's monitor as its
 * power port, and the remote array. Hosts come in by forwarded ports; machines lose their power under load, stand still and are fenced.
 */
import { randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { EventJson } from "../../firmware/manage/events.ts";
import type { GroupJson, PairJson, StatusJson } from "../../firmware/manage/status_json.ts";
import { VerifiedLoad } from "../../scripts/benchmarks/paths/verified_load.ts";
import { clientEnvironment } from "../../scripts/clients.ts";
import { emulator } from "../../scripts/image_build/machine.ts";
import { stillLiving } from "../../scripts/lab_site/proc.ts";
import type { ApplianceView, LabView } from "../../scripts/lab_site/views.ts";
import { waitUntil } from "../../scripts/lab_site/wait.ts";
import { mebibyte } from "./support/appliance.ts";
import { type Ran, run, runOk, testWith } from "./support/clients.ts";

process.env["PATH"] = clientEnvironment["PATH"];

const test = suite("lab_vm");
const root = join(import.meta.dir, "../..");
const programs = [emulator, "qemu-img", "nbdcopy", "mcopy", "mkfs.vfat", "mksquashfs", "veritysetup"];
const dir = mkdtempSync(join(tmpdir(), "goldcopy-vm-"));
const labDir = join(dir, "lab");
/** Of one step; what takes a minute on an idle machine. */
const stepLimitMs = 400_000;
const volumeBytes = 16 * mebibyte;
const loadBytes = 2 * mebibyte;
/** An emulated login takes a second; a fencing takes twice the pair's limit of 5 s, and a start. */
const waits = { openLimitMs: 10_000, answerLimitMs: 40_000 };
const startedMs = performance.now();
const tell = (what: string) => console.log(`${((performance.now() - startedMs) / 1000).toFixed(0)} s: ${what}`);

const lab = (...words: string[]): Promise<Ran> =>
  run(join(root, "scripts", "lab"), [...words, "--dir", labDir], { limitMs: stepLimitMs });

async function labOk(...words: string[]): Promise<string> {
  const { code, stdout, stderr } = await lab(...words);
  assert.is(code, 0, `scripts/lab ${words.join(" ")}: ${stdout}${stderr}`);
  return stdout;
}

async function view(): Promise<LabView> {
  return JSON.parse(await labOk("status", "--json")) as LabView;
}

let appliances: readonly ApplianceView[] = [];

function find(name: string): ApplianceView {
  const found = appliances.find((appliance) => appliance.name === name);
  if (found === undefined) throw new Error(`there is no ${name}`);
  return found;
}

/** The command line, as a person has it on the host. */
async function goldcopy<T>(name: string, words: string): Promise<T> {
  const args = [...words.split(" "), "--json", "--at", find(name).at];
  const { stdout } = await runOk(join(root, "scripts", "goldcopy"), args, { limitMs: stepLimitMs });
  return JSON.parse(stdout) as T;
}

async function groupAt(name: string): Promise<GroupJson> {
  const status = await goldcopy<StatusJson>(name, "status");
  const found = status.groups.find((group) => group.name === "demo");
  if (found === undefined) throw new Error(`${name} has no group demo`);
  return found;
}

async function until(what: string, condition: () => Promise<boolean>): Promise<void> {
  let why: unknown = null;
  const found = await waitUntil(stepLimitMs, 500, async () => {
    try {
      return (await condition()) ? true : null;
    } catch (error) {
      why = error;
      return null;
    }
  });
  if (found === null) throw new Error(`waited in vain for ${what}: ${String(why)}`);
}

const mirrored = (name: string) =>
  until(`the mirror at ${name}`, async () => (await goldcopy<PairJson>(name, "pair status")).state === "mirrored");

const eventsOf = (name: string) => goldcopy<readonly EventJson[]>(name, "log");

const nbd = (name: string) => `${find(name).nbd}/demo-1`;
const iscsi = (name: string) => `iscsi://${find(name).iscsi}/${find(name).iqn}/0`;

async function boxes(): Promise<{ pid: number; startTicks: number }[]> {
  return ["oak-a", "oak-b", "elm-a"].map((name) =>
    JSON.parse(readFileSync(join(labDir, name, "process.json"), "utf8")),
  );
}

test.after(async () => {
  await lab("down", "--wipe");
  rmSync(dir, { recursive: true, force: true });
});

testWith(
  test,
  programs,
  "machines lose power under load, stand still, are fenced, come back, and are lost with their site -> every acknowledged write is there",
  async () => {
    const profile = join(dir, "site.toml");
    writeFileSync(
      profile,
      `cache = "32MiB"\ndisks = 1\ndisk_size = "1GiB"\nvolumes = [{ name = "demo-1", size = "${volumeBytes}B" }]\n`,
    );
    appliances = (JSON.parse(await labOk("up", "--vm", "--profile", profile, "--json")) as LabView).appliances;
    tell("three machines are up");
    assert.equal(
      appliances.map(({ name, state, pair }) => [name, state, pair?.state ?? null]),
      [
        ["oak-a", "up", "mirrored"],
        ["oak-b", "up", "mirrored"],
        ["elm-a", "up", null],
      ],
    );
    const owner = (await groupAt("oak-a")).owner;
    const partner = owner === "oak-a" ? "oak-b" : "oak-a";

    // Written over one protocol at one appliance, read over the other one at its partner.
    const written = join(dir, "written");
    writeFileSync(written, randomBytes(volumeBytes));
    await runOk("nbdcopy", [written, nbd(owner)], { limitMs: stepLimitMs });
    await runOk("qemu-img", ["compare", "-f", "raw", "-F", "raw", written, iscsi(partner)], { limitMs: stepLimitMs });
    tell("written over NBD, read over iSCSI at the partner");

    const load = new VerifiedLoad({
      urls: [iscsi(owner), nbd(partner)],
      depth: 8,
      writeShare: 0.7,
      sizeBytes: loadBytes,
      deadMs: stepLimitMs,
      waits,
    });
    await load.start();
    await load.more(300);
    load.mark();
    assert.is((await labOk("kill", owner)).trim(), `${owner} is dead`);
    await load.more(300);
    tell(`${owner} lost its power under load: the longest gap was ${Math.round(load.gap.ms)} ms`);
    const report = await load.finish();
    assert.equal(report.violations, { lostWrites: 0, staleReads: 0, wrongBytes: 0 });
    assert.ok(report.breaks > 0);
    tell(
      `${report.acknowledgedWrites} acknowledged writes, ${report.breaks} breaks, ${report.errors} errors, all found`,
    );
    const takeover = (await eventsOf(partner)).find(({ code }) => code === "pair-takeover");
    assert.match(takeover?.text ?? "", `${owner} was switched off: ${partner} takes`);
    assert.is((await view()).appliances.find(({ name }) => name === owner)?.state, "down");

    assert.match(await labOk("start", owner), `${owner} is up`);
    await mirrored(owner);
    tell(`${owner} is back, and mirrored`);

    // A processor that stands still: its partner has to make sure of it through the monitor.
    await labOk("pause", partner);
    await until(`a takeover by ${owner}`, async () =>
      (await eventsOf(owner)).some(
        ({ code, text }) => code === "pair-takeover" && text.includes(`${partner} was switched off`),
      ),
    );
    const resumed = await lab("resume", partner);
    assert.is(resumed.code, 1);
    assert.match(resumed.stderr, `${partner} was fenced dead while it was paused`);
    await until("a writable group", async () => (await groupAt(owner)).writable);
    tell(`${partner} stood still and was switched off by ${owner}`);
    await until("elm in sync", async () => (await groupAt(owner)).peers.every(({ state }) => state === "in-sync"));
    const last = join(dir, "last");
    await runOk("nbdcopy", [nbd(owner), last], { limitMs: stepLimitMs });

    await labOk("kill", owner);
    await goldcopy("elm-a", "group takeover demo");
    const copy = join(dir, "copy");
    await runOk("nbdcopy", [nbd("elm-a"), copy], { limitMs: stepLimitMs });
    assert.ok(readFileSync(copy).equals(readFileSync(last)), "elm has what oak had");
    await runOk("nbdcopy", [written, nbd("elm-a")], { limitMs: stepLimitMs });
    await runOk("qemu-img", ["compare", "-f", "raw", "-F", "raw", written, iscsi("elm-a")], { limitMs: stepLimitMs });
    tell("both of oak are without power, elm has taken over");

    const refused = await lab("cut", "oak-a", "elm-a");
    assert.is(refused.code, 1);
    assert.match(refused.stderr, "oak-a is off, and a virtual machine keeps its links itself");

    const running = await boxes();
    await labOk("down", "--wipe");
    assert.equal(running.map(stillLiving), [null, null, null]);
    assert.is(existsSync(labDir), false);
  },
);

test.run();
