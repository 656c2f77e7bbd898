/**
 * A pair of virtual machines is updated as its runbook says, one partner at a time, while a host with a path to each of them writes and
 * checks what it reads: no I/O error, no lost write, and two adjacent versions side by side in between.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createConnection, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { PairJson } from "../../firmware/manage/status_json.ts";
import { imagePackages } from "../../images/recipe.ts";
import { VerifiedLoad } from "../../scripts/benchmarks/paths/verified_load.ts";
import { clientEnvironment } from "../../scripts/clients.ts";
import { debianTree } from "../../scripts/debian/packages.ts";
import { defaultOut, imagePrograms } from "../../scripts/image_build/build.ts";
import { emulator } from "../../scripts/image_build/machine.ts";
import { releaseHere } from "../../scripts/image_build/release.ts";
import { makeSlot } from "../../scripts/image_build/slot.ts";
import type { LabView } from "../../scripts/lab_site/views.ts";
import { waitUntil } from "../../scripts/lab_site/wait.ts";
import { mebibyte } from "../real/support/appliance.ts";
import { runOk, testWith } from "../real/support/clients.ts";
import { developmentBundle } from "../real/support/development_bundle.ts";
import { VirtualConsole } from "../real/support/virtual_console.ts";

// The builder's tools lie where a plain user's PATH does not look.
process.env["PATH"] = clientEnvironment["PATH"];

const test = suite("pair_update");
const scripts = join(import.meta.dir, "../../scripts");
const programs = [...imagePrograms, emulator, "apt-get", "dpkg-deb"];
const dir = mkdtempSync(join(tmpdir(), "goldcopy-pair-"));
const labDir = join(dir, "lab");
/** Of one step: an installation takes an emulated machine that serves a host a minute or two. */
const stepLimitMs = 500_000;
/** An emulated login takes a second; a restart is planned, and its path is closed. */
const waits = { openLimitMs: 10_000, answerLimitMs: 40_000 };
/** Where QEMU's network has this machine's loopback. */
const hostOfGuest = "10.0.2.2";
const newVersion = "0.2.0";
const startedMs = performance.now();
const tell = (what: string) => console.log(`${((performance.now() - startedMs) / 1000).toFixed(0)} s: ${what}`);

let web: Bun.Server<undefined> | null = null;
const sockets: Socket[] = [];

async function lab(...words: string[]): Promise<string> {
  return (await runOk(join(scripts, "lab"), [...words, "--dir", labDir], { limitMs: stepLimitMs })).stdout;
}

test.after(async () => {
  for (const socket of sockets) socket.destroy();
  web?.stop(true);
  await lab("down", "--wipe");
  rmSync(dir, { recursive: true, force: true });
});

/** The version after the one that the lab's machines run. */
async function makeNextBundle(path: string): Promise<void> {
  const work = join(dir, "work");
  mkdirSync(work);
  mkdirSync(defaultOut, { recursive: true });
  const here = releaseHere();
  const next = { ...here, version: newVersion, name: `${newVersion} (test)`, counter: here.counter + 1 };
  developmentBundle(path, await makeSlot(work, debianTree(defaultOut, imagePackages), next), next);
  rmSync(work, { recursive: true });
}

async function consoleOf(name: string): Promise<VirtualConsole> {
  const socket = createConnection(join(labDir, name, "console.sock"));
  sockets.push(socket);
  const console = new VirtualConsole((text) => void socket.write(text));
  socket.on("data", (chunk: Buffer) => console.take(chunk));
  socket.on("error", (error) => console.take(error.message));
  socket.on("close", () => console.end());
  await console.type("s");
  await console.shows(/\[s\]tatus[^\n]*> /);
  return console;
}

async function until(what: string, condition: () => Promise<boolean>): Promise<void> {
  const found = await waitUntil(stepLimitMs, 1000, async () => ((await condition().catch(() => false)) ? true : null));
  if (found === null) throw new Error(`waited in vain for ${what}`);
}

testWith(
  test,
  programs,
  "one partner after the other, under load on both paths -> both run the new version, no I/O error, every acknowledged write is there",
  async () => {
    const profile = join(dir, "site.toml");
    writeFileSync(
      profile,
      `cache = "32MiB"\ndisks = 1\ndisk_size = "1GiB"\nvolumes = [{ name = "demo-1", size = "${16 * mebibyte}B" }]\n`,
    );
    const bundle = join(dir, "next.bundle");
    await makeNextBundle(bundle);
    tell("a bundle of the next version is signed");
    const server = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      idleTimeout: 0,
      fetch: () => new Response(Bun.file(bundle)),
    });
    web = server;
    const url = `http://${hostOfGuest}:${server.port}/next.bundle`;

    const { appliances } = JSON.parse(await lab("up", "--vm", "--profile", profile, "--json")) as LabView;
    const view = (name: string) => appliances.find((appliance) => appliance.name === name)!;
    tell("three machines are up");
    const isMirrored = async (name: string) => {
      const args = ["pair", "status", "--json", "--at", view(name).at];
      const { stdout } = await runOk(join(scripts, "goldcopy"), args, { limitMs: stepLimitMs });
      return (JSON.parse(stdout) as PairJson).state === "mirrored";
    };
    const consoles = { "oak-a": await consoleOf("oak-a"), "oak-b": await consoleOf("oak-b") } as const;
    for (const console of Object.values(consoles))
      await until("a version that is known to work", async () =>
        /state +good/.test(await console.goldcopy("update status", stepLimitMs)),
      );
    tell("both run a version that is known to work");

    const load = new VerifiedLoad({
      urls: [`iscsi://${view("oak-b").iscsi}/${view("oak-b").iqn}/0`, `${view("oak-a").nbd}/demo-1`],
      depth: 1,
      writeShare: 0.7,
      sizeBytes: mebibyte,
      deadMs: stepLimitMs,
      waits,
    });
    await load.start();
    await load.more(50);

    // Each one's partner runs the other version meanwhile.
    for (const [name, partner] of [
      ["oak-b", "oak-a"],
      ["oak-a", "oak-b"],
    ] as const) {
      const console = consoles[name];
      load.mark();
      await console.begin(`update install ${url} --restart`);
      await console.shows(new RegExp(`${newVersion} is in slot b; the next restart starts it, now`), stepLimitMs);
      tell(`${name} has the new version in its other slot, has handed over to ${partner}, and restarts`);
      const answered = load.answers;
      await console.shows(new RegExp(`goldcopy: ${newVersion} \\(test\\), slot b`), stepLimitMs);
      await console.shows(new RegExp(`goldcopy: ${newVersion} in slot b works`), stepLimitMs);
      assert.ok(load.answers > answered, `hosts go on at ${partner}`);
      await until(`the mirror at ${name}`, () => isMirrored(name));
      tell(
        `${name} runs it, on trial no more, and the pair is mirrored: the longest gap was ${load.gap.ms.toFixed(0)} ms`,
      );
      await load.more(50);
    }
    await runOk(join(scripts, "goldcopy"), ["pair", "failover", "--home", "--at", view("oak-a").at], {
      limitMs: stepLimitMs,
    });
    await load.more(50);
    const report = await load.finish();
    tell(
      `${report.acknowledgedWrites} acknowledged writes, ${report.reads} reads, ${report.breaks} breaks, ${report.errors} errors`,
    );
    assert.equal(report.told, []);
    assert.is(report.errors, 0);
    assert.equal(report.violations, { lostWrites: 0, staleReads: 0, wrongBytes: 0 });
    for (const console of Object.values(consoles))
      assert.match(
        await console.goldcopy("update status", stepLimitMs),
        new RegExp(`state +good[\\s\\S]*running +slot b: ${newVersion}[\\s\\S]*other +slot a: 0\\.1\\.0`),
      );
  },
);

test.run();
