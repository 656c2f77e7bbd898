/**
 * A real Linux host with open-iscsi and multipath-tools on both appliances of a pair: it writes to ext4 and syncs while the owner is killed,
 * comes back, and gets the array back. Every synced record is found, and multipath shows where the owner is.
 *
 * The host is a guest with the settings of `docs/multipath.md`; nothing in it knows of this test.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { demand, statusOf } from "../../scripts/lab_site/appliances.ts";
import * as labCommands from "../../scripts/lab_site/commands.ts";
import { timeLeft, whenWhole } from "../../scripts/lab_site/settling.ts";
import { type Lab, requireLab } from "../../scripts/lab_site/site.ts";
import { type ApplianceView, labView } from "../../scripts/lab_site/views.ts";
import { waitUntil } from "../../scripts/lab_site/wait.ts";
import { testWith } from "./support/clients.ts";
import { Guest, guestPrograms, outside } from "./support/guest.ts";
import { Multipath } from "./support/multipath.ts";

const test = suite("guest_multipath");
const mountPoint = "/mnt";
/** Writers at once, each with a file of its own. */
const fileCount = 3;
/** Between two events of the test each file gets at least so many more synced records. */
const recordsBetween = 8;
/** An emulated host beside other tests: a second of its time may last several. */
const limitMs = 120_000;

class Host {
  readonly guest: Guest;
  readonly disk: Multipath;
  readonly #lab: Lab;

  private constructor(guest: Guest, disk: Multipath, lab: Lab) {
    this.guest = guest;
    this.disk = disk;
    this.#lab = lab;
  }

  /** Sessions with a portal of each appliance, multipath on what is there, ext4 on that, writers on this. */
  static async begin(guest: Guest, lab: Lab, appliances: readonly ApplianceView[]): Promise<Host> {
    for (const { iscsi, iqn } of appliances) {
      // SendTargets would name portals of the loopback, which is another one in the guest.
      const portal = `${outside}:${iscsi?.split(":")[1]},1`;
      await guest.runOk("iscsiadm", "-m", "node", "-o", "new", "-T", iqn ?? "", "-p", portal);
    }
    await guest.runOk("iscsiadm", "-m", "node", "-l");
    const disk = await Multipath.whenThere(guest, { lun: 0, paths: appliances.length, limitMs });
    await guest.runOk("udevadm", "settle");
    await guest.runOk("mkfs.ext4", "-q", disk.device);
    await guest.runOk("mount", disk.device, mountPoint);
    await guest.startWriting(mountPoint, fileCount);
    return new Host(guest, disk, lab);
  }

  /** Waits until every writer has synced more records than now. */
  async writesOn(): Promise<void> {
    const { guest } = this;
    const target = guest.synced.map((count) => count + recordsBetween);
    const reached = await waitUntil(limitMs, 10, () =>
      guest.broken.length > 0 || target.every((count, file) => guest.synced[file]! >= count) ? true : null,
    );
    assert.equal(guest.broken, []);
    assert.ok(reached, `${guest.synced} of ${target} records in ${limitMs} ms\n${guest.console()}`);
  }

  /** Waits until multipath has found that `owner` is the one to go to, with working groups of the expected priorities; shows it. */
  async prefers(owner: string, expected: readonly number[]): Promise<void> {
    const portals = (await labView(this.#lab)).appliances.find(({ name }) => name === owner)?.iscsiPortals ?? [];
    const ports = portals.map((portal) => portal.split(":")[1] ?? "");
    await this.disk.whenPreferred(ports, expected, limitMs);
    const pauseMs = Math.round(this.guest.longestPauseMs);
    this.guest.longestPauseMs = 0;
    console.log(`\n${await this.disk.show()}writes stood still for ${pauseMs} ms at most`);
  }

  async end(): Promise<void> {
    const { guest } = this;
    await guest.stopWriting();
    assert.equal(guest.broken, []);
    // Nothing is found in the guest's memory: the filesystem is gone from it in between.
    await guest.runOk("umount", mountPoint);
    await guest.runOk("fsck.ext4", "-fn", this.disk.device);
    await guest.runOk("mount", "-o", "ro", this.disk.device, mountPoint);
    const found = await guest.find(mountPoint, fileCount);
    assert.equal(
      found,
      guest.synced.map((records, file) => ({ file, records, fault: null })),
    );
  }
}

async function withHost(body: (host: Host, lab: Lab) => Promise<void>): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "goldcopy-guest-"));
  const labDir = join(dir, "lab");
  let guest: Guest | null = null;
  try {
    await labCommands.up({ dir: labDir, profile: "pair", mode: null, persistence: null });
    guest = await Guest.boot(dir);
    const lab = requireLab(labDir);
    // One disk is enough for udev and multipath in an emulated host.
    await demand(lab, "oak-a", "POST", "/v1/hosts/any/unmap", { volume: "demo-2" });
    const { appliances } = await labView(lab);
    const oak = appliances.filter(({ array }) => array === "oak");
    await body(await Host.begin(guest, lab, oak), lab);
  } catch (error) {
    if (guest !== null) console.log(guest.console());
    throw error;
  } finally {
    guest?.close();
    await labCommands.down(labDir, true);
    rmSync(dir, { recursive: true, force: true });
  }
}

testWith(
  test,
  guestPrograms,
  "the owner killed, back, and given the array again -> every synced byte, and the right priorities",
  () =>
    withHost(async (host, lab) => {
      await host.prefers("oak-a", [50, 10]);
      await host.writesOn();

      await labCommands.kill(lab.dir, "oak-a");
      await host.writesOn();
      await host.prefers("oak-b", [50]);

      await labCommands.start(lab.dir, "oak-a");
      await whenWhole(lab, timeLeft(limitMs));
      await host.prefers("oak-b", [50, 10]);
      await host.writesOn();

      await demand(lab, "oak-b", "POST", "/v1/pair/failover", { to: null, timeoutMs: limitMs });
      await host.writesOn();
      await host.prefers("oak-a", [50, 10]);
      await host.writesOn();
      assert.is((await statusOf(lab, "oak-a"))?.pair?.state, "mirrored");
      await host.end();
    }),
);

test.run();
