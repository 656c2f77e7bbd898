/**
 * Shelves that evict a lost partner (`fencing = "atomic"`), on a real kernel: in a guest, Linux' own SCSI target keeps the reservations of a disk that
 * two initiators reach. First the fence of the HAL under the compliance suite; then a pair of appliances under a load that knows what
 * every read has to find, whose owner is stopped, evicted, and woken.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { placeOf } from "../../scripts/benchmarks/load/plan.ts";
import { NbdPath } from "../../scripts/benchmarks/paths/nbd_path.ts";
import { VerifiedLoad } from "../../scripts/benchmarks/paths/verified_load.ts";
import type { Ran } from "../../scripts/guest_image/agent/words.ts";
import { shelfFolder, shelfGuestImage } from "../../scripts/guest_image/shelf_image.ts";
import { mebibyte } from "./support/appliance.ts";
import { testWith } from "./support/clients.ts";
import { Guest, guestPrograms } from "./support/guest.ts";
import { GuestPair, type GuestPartner, guestPartners, portsOf } from "./support/guest_pair.ts";

const test = suite("shelf_reservations");

const volume = "demo-1";
const volumeBytes = 16 * mebibyte;
const load = { depth: 4, writeShare: 0.7, sizeBytes: mebibyte } as const;
/** An emulated login takes a second; a takeover takes twice the pair's limit of 8 s, and a start. */
const waits = { openLimitMs: 15_000, answerLimitMs: 60_000 };
const deadMs = 300_000;
const answers = 200;
const suiteLimitMs = 600_000;
const startedMs = performance.now();
const tell = (what: string) => console.log(`${((performance.now() - startedMs) / 1000).toFixed(0)} s: ${what}`);

interface Shelf {
  readonly guest: Guest;
  readonly pair: GuestPair;
  /** By which device each reaches the disk. */
  readonly disks: Record<GuestPartner, string>;
}

async function withShelf(body: (shelf: Shelf) => Promise<void>): Promise<void> {
  const dir = mkdtempSync(join(tmpdir(), "goldcopy-shelf-"));
  let guest: Guest | null = null;
  try {
    const image = await shelfGuestImage(dir, ["test/compliance/fence_guest.ts"]);
    const ports = await GuestPair.ports();
    guest = await Guest.boot(dir, { image, memoryMib: 2048, cpus: 2, ports: portsOf(ports) });
    const said = await guest.runOk(`${shelfFolder}/begin`, String(512 * mebibyte));
    const device = (side: string): string => new RegExp(`^${side} (/dev/\\w+)$`, "m").exec(said)?.[1] ?? "";
    const disks = { "oak-a": device("a"), "oak-b": device("b") };
    assert.ok(disks["oak-a"] !== "" && disks["oak-b"] !== "", said);
    tell(`a guest with Linux ${guest.release}, and a disk that is ${JSON.stringify(disks)}`);
    await body({ guest, pair: await GuestPair.make(guest, ports, disks), disks });
  } catch (error) {
    if (guest !== null) console.log(guest.console());
    throw error;
  } finally {
    guest?.close();
    rmSync(dir, { recursive: true, force: true });
  }
}

/** Of sg_persist: the disk had to say first what happened before (a unit attention). */
const exitAttention = 6;

async function persistIn({ guest, disks }: Shelf, what: string): Promise<string> {
  for (;;) {
    const { code, out, err } = await guest.run("sg_persist", "--no-inquiry", "--in", what, disks["oak-b"]);
    if (code === 0) return out;
    assert.is(code, exitAttention, `sg_persist ${what}: ${out}${err}`);
  }
}

/** What another program finds registered with the disk: how many. They hold the right reservation. */
async function registered(shelf: Shelf): Promise<number> {
  const keys = await persistIn(shelf, "--read-keys");
  assert.match(await persistIn(shelf, "--read-reservation"), /LU_SCOPE, {2}type: Write Exclusive, all registrants/);
  return Number(/(\d+) registered reservation keys? follow/.exec(keys)?.[1] ?? 0);
}

type Fate = "open" | "answered" | "refused" | "over";

/** A read that is sent to a stopped appliance: what comes of it when that wakes. */
class WaitingRead {
  readonly #path: NbdPath;
  readonly #settled = Promise.withResolvers<Fate>();
  fate: Fate = "open";

  constructor(url: string) {
    const settle = (fate: Fate): void => {
      if (this.fate === "open") this.fate = fate;
      this.#settled.resolve(this.fate);
    };
    this.#path = new NbdPath(
      { place: placeOf(url), blockBytes: 4096, depth: 1, index: 0 },
      {
        answered: () => settle("answered"),
        refused: () => settle("refused"),
        handled: () => {},
        broken: () => settle("over"),
      },
    );
  }

  async open(): Promise<void> {
    await this.#path.open();
  }

  send(): void {
    this.#path.read(0, 0);
    this.#path.push();
  }

  whenSettled(): Promise<Fate> {
    return this.#settled.promise;
  }
}

async function pairUnderLoad(shelf: Shelf): Promise<void> {
  const { guest, pair, disks } = shelf;
  for (const name of guestPartners) await pair.start(name);
  for (const name of guestPartners) await pair.whenPair(name, "mirrored", ({ state }) => state === "mirrored");
  assert.is(await registered(shelf), 2);
  tell("the pair is mirrored, and both are registered with the disk");

  await pair.demand("oak-a", "POST", "/v1/volumes", { name: volume, sizeBytes: volumeBytes, owner: "oak-a" });
  await pair.demand("oak-a", "POST", "/v1/hosts", { name: "any", any: true });
  await pair.demand("oak-a", "POST", "/v1/hosts/any/map", { volume });
  const urls = guestPartners.map((name) => pair.url(name, volume));
  const host = new VerifiedLoad({ ...load, urls, waits, deadMs });
  try {
    await host.start();
    await host.more(answers);
    assert.is(host.path, urls[0]);
    const old = new WaitingRead(urls[0]!);
    await old.open();
    tell("a load has begun at oak-a; it is stopped");

    await pair.signal("oak-a", "STOP");
    old.send();
    await host.more(answers);
    assert.is(host.path, urls[1]);
    await pair.whenPair("oak-b", "owner of both halves", ({ halves }) =>
      halves.every(({ owner }) => owner === "oak-b"),
    );
    assert.is(await registered(shelf), 1, "oak-a is evicted");
    assert.match(await pair.eventsOf("oak-b"), /oak-a was evicted from the shelf/);
    await host.more(answers);
    tell("oak-b has evicted it, and serves; oak-a is woken");

    assert.is(old.fate, "open");
    await pair.signal("oak-a", "CONT");
    assert.is(await old.whenSettled(), "over", "the woken one says nothing that is old");
    await pair.whenEnded("oak-a");
    assert.match(
      await pair.said("oak-a"),
      /shelf0\/0 takes nothing from this appliance any more: oak-b has evicted it/,
    );
    await host.more(answers);
    assert.is(await registered(shelf), 1);
    assert.is(host.path, urls[1]);
    tell("oak-a has ended; it is started again");

    await pair.start("oak-a");
    await pair.whenPair("oak-b", "mirrored", ({ state }) => state === "mirrored");
    assert.is(await registered(shelf), 2);
    tell("the pair is mirrored again; oak-b is killed");

    await pair.signal("oak-b", "KILL");
    await host.more(answers);
    assert.is(host.path, urls[0]);
    assert.is(await registered(shelf), 1, "the killed one's registration is gone");
    const { violations, errors, told, acknowledgedWrites } = await host.finish();
    assert.equal(violations, { lostWrites: 0, staleReads: 0, wrongBytes: 0 }, told.join("; "));
    assert.is(errors, 0, told.join("; "));
    tell(`oak-a serves; ${acknowledgedWrites} writes were acknowledged, and every block is as it should be`);
  } finally {
    host.stop();
  }

  // To the disk two processes of one machine would be one initiator.
  await pair.whenEnded("oak-b");
  await pair.setDisk("oak-b", disks["oak-a"]);
  await pair.start("oak-b");
  await pair.whenEvent("oak-b", `shelf0/0: ${disks["oak-a"]}: something else on this machine uses it`);
  assert.is(await registered(shelf), 1);
  assert.not.match(guest.console(), /BUG:|blocked for more than/);
}

testWith(
  test,
  guestPrograms,
  "the fence under the compliance suite; a pair whose owner is stopped, evicted, woken, and whose next one is killed -> every acknowledged write, nothing old",
  () =>
    withShelf(async (shelf) => {
      const { guest, disks } = shelf;
      const argv = ["env", "NO_COLOR=1", "bun", `${shelfFolder}/fence_guest.js`, disks["oak-a"], disks["oak-b"]];
      const { code, out, err } = (await guest.order({ do: "run", argv }, suiteLimitMs)) as Ran;
      assert.is(code, 0, `${out}${err}`);
      assert.match(out, /linux: fence of a disk {2}[•\s]+\((\d+) \/ \1\)/);
      assert.not.match(out, /Total:\s+0\b/);
      tell(`the compliance suite has passed: ${/\(\d+ \/ \d+\)/.exec(out)?.[0]}`);
      // What the suite has written, at the disk's beginning: a pool is made on a blank disk alone.
      await guest.runOk("dd", "if=/dev/zero", `of=${disks["oak-a"]}`, "bs=1M", "count=1", "oflag=direct");
      await pairUnderLoad(shelf);
    }),
);

test.run();
