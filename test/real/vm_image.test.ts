/**
 * The image as users get it: built, booted in an emulated machine, used by real hosts through forwarded ports, restarted, and cut from its
 * power under load. What is wrong with a machine, a profile or a root is said on the console.
 */

import { randomBytes } from "node:crypto";
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { VerifiedLoad } from "../../scripts/benchmarks/paths/verified_load.ts";
import { clientEnvironment } from "../../scripts/clients.ts";
import { environmentBlock } from "../../scripts/image_build/boot_loader.ts";
import { buildImage, type Manifest } from "../../scripts/image_build/build.ts";
import { partitionStarts } from "../../scripts/image_build/disk.ts";
import { directBootOf, emulator } from "../../scripts/image_build/machine.ts";
import { makeSeed } from "../../scripts/image_build/seed.ts";
import { makeEmpty } from "../../scripts/image_build/slot.ts";
import { freePorts, mebibyte } from "./support/appliance.ts";
import { runOk, testWith } from "./support/clients.ts";
import { VirtualAppliance } from "./support/virtual_appliance.ts";
import { consoleLimitMs } from "./support/virtual_console.ts";
import { managementPort, managementSecret, shelfSerial, virtualProfile } from "./support/virtual_profile.ts";

// The builder's tools lie where a plain user's PATH does not look.
process.env["PATH"] = clientEnvironment["PATH"];

const test = suite("vm_image");
const programs = [emulator, "qemu-img", "nbdcopy", "nbdinfo", "iscsi-ls", "mcopy", "mkfs.vfat", "dpkg-deb", "apt-get"];
const target = "iqn.2026-11.org.goldcopy:oak";
const volumeBytes = 16 * mebibyte;
const compressedBytesMax = 150 * mebibyte;
/** The address that QEMU's network gives. */
const guestAddress = "10.0.2.15";
const guestPorts = { nbd: 10809, iscsi: 3260 } as const;

const dir = mkdtempSync(join(tmpdir(), "goldcopy-image-"));
let manifest: Manifest;
let raw = "";
const running = new Set<VirtualAppliance>();

function start(machine: Parameters<typeof VirtualAppliance.start>[0], more: readonly string[] = []): VirtualAppliance {
  const started = VirtualAppliance.start(machine, more);
  running.add(started);
  return started;
}

/** A system disk of its own, on the built image. */
async function systemDisk(name: string, base = raw): Promise<string> {
  const path = join(dir, `${name}.qcow2`);
  await runOk("qemu-img", ["create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", path]);
  return path;
}

function seed(name: string, nbdListen: string): string {
  const folder = join(dir, name);
  mkdirSync(folder);
  writeFileSync(
    join(folder, "goldcopy.toml"),
    virtualProfile(nbdListen, { listen: `${guestAddress}:${guestPorts.iscsi}`, protocol: "iscsi" }),
  );
  writeFileSync(join(folder, "meta-data"), "instance-id: oak-a-1\nlocal-hostname: oak-a\n");
  const path = join(dir, `${name}.img`);
  makeSeed(folder, path);
  return path;
}

async function copyOf(name: string): Promise<string> {
  const path = join(dir, name);
  await runOk("cp", ["--sparse=always", raw, path]);
  return path;
}

/** In the image's slot a. */
function flipByte(image: string, offsetBytes: number): void {
  const at = partitionStarts().rootA + offsetBytes;
  const byte = Buffer.alloc(1);
  const fd = openSync(image, "r+");
  readSync(fd, byte, 0, 1, at);
  byte[0]! ^= 1;
  writeSync(fd, byte, 0, 1, at);
  closeSync(fd);
}

test.before(async () => {
  const built = await buildImage({ out: dir, formats: ["raw", "qcow2"], say: () => {} });
  manifest = built.manifest;
  raw = built.path("raw") ?? "";
});

test.after.each(async () => {
  for (const appliance of running) await appliance.cutPower();
  running.clear();
});

test.after(() => rmSync(dir, { recursive: true, force: true }));

testWith(test, programs, "the image -> small, and described by its manifest", async () => {
  const qcow2 = manifest.files.find(({ name }) => name.endsWith(".qcow2"));
  console.log(
    `qcow2 ${((qcow2?.bytes ?? 0) / mebibyte).toFixed(1)} MiB, root ${(manifest.rootBytes / mebibyte).toFixed(1)} MiB`,
  );
  assert.ok(qcow2 !== undefined && qcow2.bytes < compressedBytesMax);
  assert.is(statSync(join(dir, qcow2.name)).size, qcow2.bytes);
  assert.match(manifest.words, manifest.rootHash);
});

testWith(
  test,
  programs,
  "a seed and a disk -> hosts read and write; restarted, cut from its power, given a wrong seed -> every acknowledged write is there",
  async () => {
    const [nbd, iscsi] = (await freePorts(2)) as [number, number];
    const shelf = join(dir, "shelf.img");
    makeEmpty(shelf, 512 * mebibyte);
    const machine = {
      image: await systemDisk("oak"),
      disks: [{ file: shelf, serial: shelfSerial }],
      forwards: [
        { host: nbd, guest: guestPorts.nbd },
        { host: iscsi, guest: guestPorts.iscsi },
      ],
    };
    const urls = [`nbd://127.0.0.1:${nbd}/demo`, `iscsi://127.0.0.1:${iscsi}/${target}/0`];

    let oak = start({ ...machine, seed: seed("seed", `0.0.0.0:${guestPorts.nbd}`) });
    await oak.shows(/goldcopy: oak-a of array oak serves/);
    console.log(`serves ${oak.ageS.toFixed(1)} s after the start of QEMU (BIOS)`);
    await oak.shows(/\[s\]tatus[^\n]*> /);
    for (const words of [`volume create demo --size ${volumeBytes}`, "host add any --any", "host map any demo"])
      await oak.goldcopy(words);

    const written = join(dir, "written");
    writeFileSync(written, randomBytes(volumeBytes));
    await runOk("nbdcopy", [written, urls[0]!], { limitMs: consoleLimitMs });
    // The portals that it names are the guest's: the LUNs behind them are looked at below.
    assert.match((await runOk("iscsi-ls", [`iscsi://127.0.0.1:${iscsi}`])).stdout, target);
    // Written over one protocol, read over the other.
    await runOk("qemu-img", ["compare", "-f", "raw", "-F", "raw", written, urls[1]!], { limitMs: consoleLimitMs });

    await oak.type("r");
    await oak.type("yes");
    await oak.shows(/goldcopy: stopped/);
    await oak.shows(/goldcopy: oak-a of array oak serves/);
    await runOk("qemu-img", ["compare", "-f", "raw", "-F", "raw", written, urls[0]!], { limitMs: consoleLimitMs });

    const load = new VerifiedLoad({
      urls,
      depth: 8,
      writeShare: 0.7,
      sizeBytes: 4 * mebibyte,
      deadMs: consoleLimitMs,
    });
    await load.start();
    await load.more(1000);
    await oak.cutPower();
    // On UEFI this time, and with a seed that is wrong: what was stored holds.
    oak = start({ ...machine, seed: seed("wrong_seed", "0.0.0.0:port"), firmware: "uefi" });
    await oak.shows(
      /a profile is not used: goldcopy.toml of the seed \S+: hba\[0\].listen: "0.0.0.0:port" is not HOST:PORT/,
    );
    await oak.shows(/going on with the stored configuration/);
    await oak.shows(/goldcopy: oak-a of array oak serves/);
    console.log(`serves ${oak.ageS.toFixed(1)} s after the start of QEMU (UEFI, a wrong seed first, recovery)`);
    await load.more(200);
    const report = await load.finish();
    console.log(`${report.acknowledgedWrites} acknowledged writes, ${report.breaks} breaks`);
    assert.equal(report.told, []);
    assert.ok(report.breaks > 0);

    // An orderly end, from the menu.
    await oak.type("p");
    await oak.type("yes");
    await oak.shows(/goldcopy: stopped/);
    await oak.whenGone();
  },
);

testWith(test, programs, "a processor older than x86-64-v2 -> it is said on the console", async () => {
  const appliance = start({ image: raw, direct: directBootOf(raw, dir), cpu: "qemu64" }, ["-snapshot"]);
  await appliance.shows(
    /goldcopy: this CPU \(QEMU Virtual CPU[^)]*\) is not x86-64-v2: it lacks .*ssse3.*newer CPU type/,
  );
});

testWith(
  test,
  programs,
  "a firmware that cannot start -> tried again, then degraded with the reason on the console",
  async () => {
    const elsewhere = "192.0.2.1:10809";
    const shelf = join(dir, "third_shelf.img");
    makeEmpty(shelf, 512 * mebibyte);
    const appliance = start({
      image: await systemDisk("degraded"),
      disks: [{ file: shelf, serial: shelfSerial }],
      seed: seed("elsewhere", elsewhere),
      direct: directBootOf(raw, dir),
    });
    for (let ends = 1; ends < 5; ends++)
      await appliance.shows(
        /the firmware has ended \(exit code 1\) after \d+ s: hba0: [^\n]*192\.0\.2\.1[^\n]*\n[^\n]*starting it again/,
      );
    await appliance.shows(/goldcopy: DEGRADED: the firmware has ended 5 times: hba0: [^\n]*192\.0\.2\.1/);
    await appliance.shows(/\nDEGRADED: the firmware has ended 5 times/);
  },
);

testWith(
  test,
  programs,
  "a firmware whose main loop hangs -> ended by its supervisor, with the reason on the console, and started again",
  async () => {
    const [management] = (await freePorts(1)) as [number];
    const shelf = join(dir, "fourth_shelf.img");
    makeEmpty(shelf, 512 * mebibyte);
    const appliance = start({
      image: await systemDisk("hung"),
      disks: [{ file: shelf, serial: shelfSerial }],
      seed: seed("hung_seed", `0.0.0.0:${guestPorts.nbd}`),
      forwards: [{ host: management, guest: managementPort }],
      direct: directBootOf(raw, dir),
    });
    await appliance.shows(/goldcopy: oak-a of array oak serves/);
    console.log(`serves ${appliance.ageS.toFixed(1)} s after the start of QEMU (no boot loader)`);
    const answer = await fetch(`http://127.0.0.1:${management}/v1/lab/stall`, {
      method: "POST",
      headers: { authorization: `Basic ${btoa(`test:${managementSecret}`)}`, "content-type": "application/json" },
      body: JSON.stringify({ forMs: 600_000 }),
    });
    assert.is(answer.status, 200, await answer.text());
    await appliance.shows(
      /the firmware has ended \(exit code 137\) after \d+ s: its main loop has not turned for 60 s\n[^\n]*starting it again \(1 of 5\)/,
    );
    await appliance.shows(/goldcopy: oak-a of array oak serves/);
  },
);

testWith(
  test,
  programs,
  "a flipped byte in the root -> it is said and never run; after three starts the other slot comes, and the console asks for the configuration",
  async () => {
    const image = await copyOf("flipped.raw");
    const starts = partitionStarts();
    const esp = `${image}@@${starts.esp}`;
    // As an update will do it: the other slot is written whole, then the boot loader is told.
    const { kernel, initrd } = directBootOf(raw, dir);
    const root = Buffer.alloc(manifest.rootBytes);
    const from = openSync(raw, "r");
    readSync(from, root, 0, root.byteLength, starts.rootA);
    closeSync(from);
    const to = openSync(image, "r+");
    writeSync(to, root, 0, root.byteLength, starts.rootB);
    closeSync(to);
    await runOk("mmd", ["-i", esp, "::/slot-b"]);
    await runOk("mcopy", ["-i", esp, kernel, initrd, join(dir, "slot.cfg"), "::/slot-b"]);
    const environment = join(dir, "grubenv");
    writeFileSync(environment, environmentBlock({ next: "a", tries: "0", good_a: "1", good_b: "0", extra: "panic=1" }));
    await runOk("mcopy", ["-n", "-o", "-i", esp, environment, "::/goldcopy/grubenv"]);
    flipByte(image, 1000);

    const shelf = join(dir, "second_shelf.img");
    makeEmpty(shelf, 512 * mebibyte);
    const appliance = start({ image, disks: [{ file: shelf, serial: shelfSerial }] });
    for (let tries = 1; tries <= 3; tries++) await appliance.shows(/verity: \S+: data block 0 is corrupted/);
    await appliance.shows(/goldcopy: slot a was started and did not work: slot b is started/);
    await appliance.shows(/goldcopy: 0\.\d+\.\d+ [^\n]*slot b/);

    await appliance.shows(/disk SHELF-0-0[\s\S]*array name \[oak\]: $/);
    await appliance.type("not a name");
    await appliance.shows(/appliance name[^\n]*: $/);
    await appliance.type("oak-a");
    await appliance.shows(/address[^\n]*: $/);
    await appliance.type("dhcp");
    await appliance.shows(/"not a name" is not a name of 1 to 24 letters/);
    await appliance.shows(/> $/);
    await appliance.type("s");
    for (const answer of ["elm", "elm-a", "dhcp"]) {
      await appliance.shows(/\[[a-z-]+\]: $/);
      await appliance.type(answer);
    }
    await appliance.shows(/goldcopy: elm-a of array elm serves/);

    // It works: it is not counted out any more.
    await appliance.shows(/goldcopy: \S+ in slot b works/);
    await appliance.type("p");
    await appliance.type("yes");
    await appliance.whenGone();
    const kept = join(dir, "grubenv.kept");
    await runOk("mcopy", ["-n", "-o", "-i", esp, "::/goldcopy/grubenv", kept]);
    assert.match(readFileSync(kept, "utf8"), /^next=b$/m);
    assert.match(readFileSync(kept, "utf8"), /^tries=0$/m);
    assert.match(readFileSync(kept, "utf8"), /^good_b=1$/m);
  },
);

test.run();
