/**
 * An appliance that is updated as its operator does it: over the console, from a web server and from a disk, with signed bundles. Cut from
 * its power in the middle of an installation; a good version; back to the one before; a version that never serves. Its data is there all
 * along.
 */
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { imagePackages } from "../../images/recipe.ts";
import { clientEnvironment } from "../../scripts/clients.ts";
import { debianTree } from "../../scripts/debian/packages.ts";
import { defaultOut, imagePrograms } from "../../scripts/image_build/build.ts";
import { makeDisk } from "../../scripts/image_build/disk.ts";
import { emulator } from "../../scripts/image_build/machine.ts";
import { runProgram } from "../../scripts/image_build/program.ts";
import { type Release, releaseHere } from "../../scripts/image_build/release.ts";
import { putRelease } from "../../scripts/image_build/root.ts";
import { makeSeed } from "../../scripts/image_build/seed.ts";
import { makeEmpty, makeSlot, packRoot, type Slot } from "../../scripts/image_build/slot.ts";
import { freePorts, mebibyte } from "./support/appliance.ts";
import { runOk, testWith } from "./support/clients.ts";
import { developmentBundle } from "./support/development_bundle.ts";
import { VirtualAppliance } from "./support/virtual_appliance.ts";
import { consoleLimitMs } from "./support/virtual_console.ts";
import { shelfSerial, virtualProfile } from "./support/virtual_profile.ts";

// The builder's tools lie where a plain user's PATH does not look.
process.env["PATH"] = clientEnvironment["PATH"];

const test = suite("image_update");
const programs = [...imagePrograms, emulator, "nbdcopy", "apt-get", "dpkg-deb"];
const nbdPort = 10809;
const volumeBytes = 4 * mebibyte;
/** Where QEMU's network has this machine's loopback. */
const hostOfGuest = "10.0.2.2";

const profile = virtualProfile(`0.0.0.0:${nbdPort}`, { listen: "0.0.0.0:10810", protocol: "nbd" });

const dir = mkdtempSync(join(tmpdir(), "goldcopy-update-"));
const raw = join(dir, "system.raw");
const work = join(dir, "work");
let oak: VirtualAppliance | null = null;
let server: BundleServer | null = null;

test.after(async () => {
  await oak?.cutPower();
  await server?.stop();
  rmSync(dir, { recursive: true, force: true });
});

/** 0.1.0 on the disk; bundles of 0.2.0, and of 0.3.0, whose firmware ends as soon as it is started. */
async function build(): Promise<void> {
  mkdirSync(work);
  mkdirSync(defaultOut, { recursive: true });
  const tree = debianTree(defaultOut, imagePackages);
  const release = { ...releaseHere(), version: "0.1.0", name: "0.1.0 (test)", counter: 100 };
  const slot = await makeSlot(work, tree, release);
  makeDisk(work, raw, { tree, slot, epoch: release.epoch });
  const root = join(work, "root");
  bundleOf(root, slot, { ...release, version: "0.2.0", name: "0.2.0 (test)", counter: 101 });
  const firmware = join(root, "usr/lib/goldcopy/main.js");
  rmSync(firmware);
  writeFileSync(firmware, 'console.error("goldcopy: this version is broken"); process.exit(1);\n');
  bundleOf(root, slot, { ...release, version: "0.3.0", name: "0.3.0 (test)", counter: 102 });
}

function bundleOf(rootDir: string, { kernel, initrd }: Slot, release: Release): void {
  putRelease(rootDir, release);
  const root = join(work, "next_root.img");
  const packed = packRoot(rootDir, root, release);
  developmentBundle(join(dir, `${release.version}.bundle`), { kernel, initrd, root, ...packed }, release);
}

interface BundleServer {
  readonly port: number;
  /** It has begun to stall. */
  readonly stalled: Promise<void>;
  stop(): Promise<void>;
}

/** Gives the bundles; of `stalling.bundle` the whole at first, and then only a beginning. */
function bundleServer(): BundleServer {
  let asked = 0;
  let stall: () => void = () => {};
  const stalled = new Promise<void>((resolve) => {
    stall = resolve;
  });
  const web = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    idleTimeout: 0,
    fetch: (request) => {
      const name = new URL(request.url).pathname.slice(1);
      if (name !== "stalling.bundle") return new Response(Bun.file(join(dir, name)));
      const whole = Bun.file(join(dir, "0.2.0.bundle"));
      if (++asked === 1) return new Response(whole);
      let given = 0;
      return new Response(
        new ReadableStream({
          // Asked when there is room on the way: all but a few MiB of what was given has arrived.
          pull: async (controller) => {
            // Kernel and initrd have 17 MiB: this ends in the root.
            if (given === 40 * mebibyte) {
              stall();
              return new Promise<void>(() => {});
            }
            const piece = whole.slice(given, given + mebibyte);
            given += mebibyte;
            controller.enqueue(new Uint8Array(await piece.arrayBuffer()));
          },
        }),
      );
    },
  });
  return { port: web.port ?? 0, stalled, stop: () => web.stop(true) };
}

function makeUpdateDisk(path: string, bundlePath: string): void {
  makeEmpty(path, 128 * mebibyte);
  runProgram("mkfs.vfat", ["-n", "GCUPDATE", path], 0);
  runProgram("mcopy", ["-i", path, bundlePath, "::"], 0);
}

/** A disk without a serial number. */
function driveWords(path: string): string[] {
  return ["-drive", `if=none,id=update,file=${path},format=raw,readonly=on`, "-device", "virtio-blk-pci,drive=update"];
}

testWith(
  test,
  programs,
  "cut in an installation, updated, rolled back, given a version that never serves -> it serves its data after each",
  async () => {
    await build();
    const bundles = bundleServer();
    server = bundles;
    const [nbd] = (await freePorts(1)) as [number];
    const shelf = join(dir, "shelf.img");
    makeEmpty(shelf, 512 * mebibyte);
    const seedFolder = join(dir, "seed");
    mkdirSync(seedFolder);
    writeFileSync(join(seedFolder, "goldcopy.toml"), profile);
    const seed = join(dir, "seed.img");
    makeSeed(seedFolder, seed);
    const machine = {
      image: raw,
      seed,
      disks: [{ file: shelf, serial: shelfSerial }],
      forwards: [{ host: nbd, guest: nbdPort }],
    };
    const url = `nbd://127.0.0.1:${nbd}/demo`;
    const written = join(dir, "written");
    writeFileSync(written, randomBytes(volumeBytes));
    // 0.3.0 comes on a disk, the others from a web server.
    const updateDisk = join(dir, "update.img");
    makeUpdateDisk(updateDisk, join(dir, "0.3.0.bundle"));
    const bundle = (name: string) => `http://${hostOfGuest}:${bundles.port}/${name}`;
    const serves = async (appliance: VirtualAppliance, version: string, slot: string) => {
      await appliance.shows(new RegExp(`goldcopy: ${version.replaceAll(".", "\\.")} \\(test\\), slot ${slot}`));
      await appliance.shows(/goldcopy: oak-a of array oak serves/);
      console.log(`${version} serves from slot ${slot}, ${appliance.ageS.toFixed(0)} s after the start of QEMU`);
    };
    const dataIsThere = async () => {
      const read = join(dir, "read");
      await runOk("nbdcopy", [url, read], { limitMs: consoleLimitMs });
      await runOk("cmp", [written, read]);
    };
    const first = VirtualAppliance.start(machine);
    oak = first;
    await serves(first, "0.1.0", "a");
    await first.shows(/goldcopy: 0\.1\.0 in slot a works/);
    for (const words of [`volume create demo --size ${volumeBytes}`, "host add any --any", "host map any demo"])
      await first.goldcopy(words);
    await runOk("nbdcopy", [written, url], { limitMs: consoleLimitMs });
    assert.match(await first.goldcopy("update status"), /state +good[\s\S]*other +slot b: nothing, empty/);

    // The power goes while the root is written.
    await first.begin(`update install ${bundle("stalling.bundle")}`);
    await bundles.stalled;
    await first.cutPower();
    const second = VirtualAppliance.start(machine, driveWords(updateDisk));
    oak = second;
    await serves(second, "0.1.0", "a");
    await dataIsThere();
    assert.match(await second.goldcopy("update status"), /state +good[\s\S]*other +slot b: 0\.2\.0, unfinished/);
    assert.match(await second.goldcopy("update rollback"), /slot b holds no version .*\(no-other-version\)/);

    await second.begin(`update install ${bundle("0.2.0.bundle")} --restart`);
    await second.shows(/0\.2\.0 is in slot b; the next restart starts it, now/);
    await serves(second, "0.2.0", "b");
    await second.shows(/goldcopy: 0\.2\.0 in slot b works/);
    await dataIsThere();
    assert.match(await second.goldcopy("update status"), /state +good[\s\S]*other +slot a: .*good/);

    await second.begin("update rollback --restart");
    await second.shows(/the next restart starts slot a, now/);
    await serves(second, "0.1.0", "a");
    await dataIsThere();

    await second.begin("update install disk --restart");
    await second.shows(/goldcopy: 0\.3\.0 \(test\), slot b/);
    await second.shows(/0\.3\.0 in slot b does not work \(the firmware has ended \d+ times: this version is broken\)/);
    await second.shows(/goldcopy: slot b was started and did not work: slot a is started/);
    await serves(second, "0.1.0", "a");
    await dataIsThere();
    assert.match(
      await second.goldcopy("update status"),
      /state +fallen-back[\s\S]*why +the firmware has ended[\s\S]*other +slot b: 0\.3\.0, failed/,
    );
  },
);

test.run();
