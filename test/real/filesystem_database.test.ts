/**
 * A real filesystem and a real database on a LUN, through the host's own kernel. The appliance is killed under load: nothing that
 * the database has acknowledged is lost, the filesystem is sound, and a host that waits does not even notice.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { waitUntil } from "../../scripts/lab_site/wait.ts";
import { freePorts, mebibyte, scratch, TestAppliance, wipe } from "./support/appliance.ts";
import { type AttachedLun, type Attachment, nbdfuse, qemuIscsi, qemuNbd } from "./support/attachments.ts";
import { testUnless, testWith } from "./support/clients.ts";
import type { Database, Load, OpenDatabase } from "./support/database.ts";
import { Acknowledged, faultsOf } from "./support/ledger.ts";
import { againInside, isInside, makeExt4, mountExt4, replayAndCheck, unmount, whyNoMounts } from "./support/mounts.ts";
import { postgres } from "./support/postgres.ts";
import { sqlite } from "./support/sqlite.ts";

const whyNot = await whyNoMounts();
if (whyNot === null && !isInside()) process.exit(await againInside(import.meta.path));

const test = suite("filesystem_database");
const volume = "ledger";
/** Commits between two kills. */
const commitsAtLeast = 1000;
const commitLimitMs = 30_000;

/** A LUN with a filesystem and a database on it; takes down whatever stands when it is closed. */
class Host {
  readonly dir = scratch();
  readonly acknowledged = new Acknowledged();
  readonly attachment: Attachment;
  readonly mountPoint = join(this.dir, "mnt");
  appliance!: TestAppliance;
  database!: OpenDatabase;
  #lun: AttachedLun | null = null;
  #isMounted = false;
  #load: Load | null = null;

  constructor(attachment: Attachment) {
    this.attachment = attachment;
  }

  async begin(database: Database): Promise<void> {
    this.appliance = await TestAppliance.make(join(this.dir, "oak"), {
      diskBytes: [1024 * mebibyte],
      iscsiPorts: this.attachment.isIscsi ? await freePorts(1) : [],
    });
    await this.appliance.start();
    await this.appliance.addVolume(volume, 256 * mebibyte);
    mkdirSync(this.mountPoint);
    await makeExt4((await this.attach()).file);
    await this.mount();
    this.database = await database.open(join(this.mountPoint, "database"), this.dir);
    await this.database.create();
  }

  async attach(): Promise<AttachedLun> {
    this.#lun = await this.attachment.attach(this.appliance, volume, join(this.dir, "lun"));
    return this.#lun;
  }

  async mount(): Promise<void> {
    await mountExt4(this.#lun!.file, this.mountPoint);
    this.#isMounted = true;
  }

  async unmount(): Promise<void> {
    await unmount(this.mountPoint);
    this.#isMounted = false;
  }

  /** The host's side of the LUN dies under load. */
  async die(): Promise<void> {
    await this.#lun!.lose();
  }

  /** Everything that ran on the LUN is gone; the LUN is there again, and its filesystem is sound. */
  async recoverFilesystem(): Promise<void> {
    await this.loseEverything();
    await replayAndCheck((await this.attach()).file, this.mountPoint);
    await this.mount();
  }

  startLoad(): Load {
    this.#load = this.database.load(this.acknowledged);
    return this.#load;
  }

  /** Waits until so many more transactions are acknowledged. */
  async commits(count: number): Promise<void> {
    const target = this.acknowledged.total + count;
    const reached = await waitUntil(commitLimitMs, 5, () => (this.acknowledged.total >= target ? true : null));
    assert.ok(reached, `${this.acknowledged.total} of ${target} transactions in ${commitLimitMs} ms`);
  }

  async verify(): Promise<void> {
    const { entries, balances } = await this.database.contents();
    assert.equal(faultsOf(this.acknowledged, entries, balances), []);
  }

  async loseEverything(): Promise<void> {
    await this.database?.abandon();
    if (this.#load !== null) await this.#load.ended;
    this.#load = null;
    if (this.#isMounted) await this.unmount();
    await this.#lun?.lose();
    this.#lun = null;
  }

  /** The orderly end: the database, its files and the filesystem are checked once more. */
  async finish(): Promise<void> {
    await this.database.stop();
    this.#load = null;
    await this.database.check();
    await this.unmount();
    await replayAndCheck(this.#lun!.file, this.mountPoint);
    await this.#lun!.detach();
    this.#lun = null;
  }

  async close(): Promise<void> {
    try {
      await this.loseEverything();
    } finally {
      await this.appliance?.kill();
      wipe(this.dir);
    }
  }
}

function hostTest(name: string, attachment: Attachment, database: Database, body: (host: Host) => Promise<void>): void {
  const programs = [...attachment.programs, ...database.programs, "mkfs.ext4", "fsck.ext4", "mount", "unshare"];
  const title = `${database.name} on ext4 over ${attachment.name}, ${name}`;
  const run = async () => {
    const host = new Host(attachment);
    try {
      await host.begin(database);
      await body(host);
    } finally {
      await host.close();
    }
  };
  if (whyNot === null) testWith(test, programs, title, run);
  else testUnless(test, `nothing can be mounted here (${whyNot})`, title, run);
}

/** The host loses its disk, as with an initiator that does not reconnect. */
async function killedTwice(host: Host): Promise<void> {
  for (let round = 0; round < 2; round++) {
    const load = host.startLoad();
    await host.commits(commitsAtLeast);
    await host.appliance.kill();
    assert.is.not(await load.ended, "", "the database has noticed");
    await host.appliance.start();
    await host.recoverFilesystem();
    await host.database.start();
    await host.verify();
  }
  await host.finish();
}

/** The initiator reconnects: the database waits, and goes on; then the host dies too. */
async function waitedOut(host: Host): Promise<void> {
  const load = host.startLoad();
  for (let round = 0; round < 2; round++) {
    await host.commits(commitsAtLeast);
    await host.appliance.kill();
    await host.appliance.start();
  }
  await host.commits(commitsAtLeast);
  load.stop();
  assert.is(await load.ended, "", "the database has not noticed");
  await host.verify();
  const last = host.startLoad();
  await host.commits(commitsAtLeast);
  await host.appliance.kill();
  await host.die();
  assert.is.not(await last.ended, "", "the database has noticed");
  await host.appliance.start();
  await host.recoverFilesystem();
  await host.database.start();
  await host.verify();
  await host.finish();
}

hostTest("the appliance is killed twice -> fsck is clean, every transaction is there", nbdfuse, postgres, killedTwice);
hostTest("the appliance is killed twice -> the database waits and loses nothing", qemuNbd, sqlite, waitedOut);
hostTest("the appliance is killed twice -> the database waits and loses nothing", qemuIscsi, postgres, waitedOut);

test.run();
