/**
 * A pair of real processes, and a golden copy elsewhere, under a host with two paths that knows what every read has to find: whatever
 * happens to either appliance and to what is between them, nothing that was acknowledged is lost, nothing old is read, and nobody is
 * told an error.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { PairStatusJson } from "../../firmware/manage/status_json.ts";
import { labUp } from "../../scripts/benchmarks/bench_lab.ts";
import { otherOf, PairSite, type Partner, type PathProtocol, partners } from "../../scripts/benchmarks/pair_site.ts";
import { mixedLoad, VerifiedLoad } from "../../scripts/benchmarks/paths/verified_load.ts";
import { pathIn } from "../../scripts/lab_site/site.ts";
import { waitUntil } from "../../scripts/lab_site/wait.ts";

const test = suite("pair_failover");

const sizeBytes = 16 * 1024 ** 2;
const answers = 1500;
const conditionLimitMs = 30_000;

let dir = "";
let site: PairSite;

test.before(async () => {
  dir = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "goldcopy-failover-"));
  site = new PairSite(await labUp(join(dir, "lab"), ["--profile", "pair"]));
});
test.after(async () => {
  await site?.down();
  rmSync(dir, { recursive: true, force: true });
});

interface Host {
  readonly load: VerifiedLoad;
  /** When it began. */
  readonly owner: Partner;
}

/** Does `blows` under load, then reads everything. `first`: whose path the host tries first. */
async function underLoad(
  protocol: PathProtocol,
  first: "owner" | "standby",
  blows: (host: Host) => Promise<void>,
): Promise<void> {
  const owner = await site.repair();
  const paths = await site.paths(protocol);
  const load = new VerifiedLoad({ ...mixedLoad, sizeBytes, urls: first === "owner" ? paths : paths.reverse() });
  try {
    await load.start();
    await load.more(answers);
    await blows({ load, owner });
    await load.more(answers);
    const { violations, errors, told } = await load.finish();
    assert.equal(violations, { lostWrites: 0, staleReads: 0, wrongBytes: 0 }, told.join("; "));
    assert.is(errors, 0, told.join("; "));
  } finally {
    load.stop();
  }
}

async function whenPair(partner: Partner, what: string, isSo: (pair: PairStatusJson) => boolean): Promise<void> {
  let last: PairStatusJson | null = null;
  const found = await waitUntil(conditionLimitMs, 20, async () => {
    last = await site.pairOf(partner);
    return last !== null && isSo(last) ? true : null;
  });
  assert.ok(found, `${partner} is not ${what}: ${JSON.stringify(last)}`);
}

/** How often an event is in the log. */
function eventCount(partner: Partner, code: string): number {
  return readFileSync(pathIn(site.lab, partner, "events.log"), "utf8").split(`"code":"${code}"`).length - 1;
}

const takeovers = () => partners.map((partner) => eventCount(partner, "pair-takeover"));

for (const protocol of ["nbd", "iscsi"] as const) {
  test(`the owner is killed, again and again, each time repaired, over ${protocol} -> the other one serves`, async () => {
    await underLoad(protocol, "owner", async ({ load, owner }) => {
      let current = owner;
      for (let kill = 0; kill < 3; kill++) {
        await site.kill(current);
        await load.more(answers);
        assert.is(await site.owner(), otherOf(current));
        assert.is(load.path, site.url(otherOf(current), protocol));
        current = await site.repair();
      }
    });
  });
}

test("the standby is killed -> hosts at the owner notice nothing, those at the standby come to the owner", async () => {
  for (const first of ["owner", "standby"] as const) {
    await underLoad("nbd", first, async ({ load, owner }) => {
      await site.kill(otherOf(owner));
      await load.more(answers);
      assert.is(load.path, site.url(owner, "nbd"));
      assert.is(load.report().breaks, first === "owner" ? 0 : 1);
      assert.is(await site.repair(), owner);
    });
  }
});

test("the owner is paused -> fenced dead, it cannot be resumed; started again it follows", async () => {
  await underLoad("iscsi", "owner", async ({ load, owner }) => {
    await site.bench.run(["pause", owner]);
    await load.more(answers);
    assert.is(await site.owner(), otherOf(owner));
    const resumed = await site.bench.run(["resume", owner]).then(
      () => "resumed",
      (error: Error) => error.message,
    );
    assert.match(resumed, "exit 1");
    assert.match(resumed, "was fenced dead while it was paused");
    assert.is(await site.repair(), otherOf(owner));
    assert.is((await site.pairOf(owner))?.role, "standby");
  });
});

test("the owner's main loop stands still for longer than the limit -> its partner hears that it is only late, and takes nothing over", async () => {
  await underLoad("nbd", "owner", async ({ load, owner }) => {
    const before = takeovers();
    const lateBefore = eventCount(otherOf(owner), "partner-late");
    const lostBefore = eventCount(otherOf(owner), "partner-lost");
    await site.bench.run(["stall", owner, "1500ms"]);
    const told = await waitUntil(conditionLimitMs, 20, () =>
      eventCount(otherOf(owner), "partner-late") > lateBefore ? true : null,
    );
    assert.ok(told, "its partner has seen it");
    await load.more(answers);
    assert.is(await site.owner(), owner);
    assert.is(load.report().breaks, 0);
    assert.equal(takeovers(), before);
    assert.is(eventCount(otherOf(owner), "partner-lost"), lostBefore);
  });
});

test("the owner's main loop hangs -> fenced dead, though its heartbeats come, and its partner serves", async () => {
  await underLoad("nbd", "owner", async ({ load, owner }) => {
    await site.bench.run(["stall", owner, "9m"]);
    await load.more(answers);
    assert.is(await site.owner(), otherOf(owner));
    const log = readFileSync(pathIn(site.lab, otherOf(owner), "events.log"), "utf8");
    assert.match(log, new RegExp(`${owner} hangs: its main loop has not turned for \\d+ ms`));
    assert.is(await site.repair(), otherOf(owner));
    assert.is((await site.pairOf(owner))?.role, "standby");
  });
});

test("the interconnect is cut -> nobody takes over, writes go on at the owner; joined -> mirrored", async () => {
  await underLoad("nbd", "standby", async ({ load, owner }) => {
    const before = takeovers();
    await site.bench.run(["cut", "oak-a", "oak-b"]);
    await whenPair(owner, "degraded", ({ state, role }) => state === "degraded" && role === "owner");
    await whenPair(otherOf(owner), "isolated", ({ state }) => state === "isolated");
    await load.more(answers);
    assert.is(load.path, site.url(owner, "nbd"));
    await whenPair(owner, "degraded", ({ state, role }) => state === "degraded" && role === "owner");
    await whenPair(otherOf(owner), "isolated", ({ state }) => state === "isolated");
    await site.bench.run(["join", "oak-a", "oak-b"]);
    assert.is(await site.mirrored(), owner);
    assert.equal(takeovers(), before);
  });
});

for (const noticed of [false, true]) {
  const when = noticed ? "when it has gone on by itself" : "before it has noticed";
  test(`the interconnect is cut, then the owner is killed ${when} -> the other one takes over with everything`, async () => {
    await underLoad("nbd", "owner", async ({ load, owner }) => {
      await site.bench.run(["cut", "oak-a", "oak-b"]);
      if (noticed) {
        await whenPair(owner, "degraded", ({ state }) => state === "degraded");
        await load.more(answers);
      }
      await site.kill(owner);
      await load.more(answers);
      assert.is(await site.owner(), otherOf(owner));
      await site.bench.run(["join", "oak-a", "oak-b"]);
      assert.is(await site.repair(), otherOf(owner));
    });
  });
}

test("one interconnect NIC is cut -> mirrored all the time, and no session breaks", async () => {
  await underLoad("iscsi", "standby", async ({ load, owner }) => {
    const before = eventCount(owner, "pair-unmirrored");
    const isUp = (pair: PairStatusJson) => pair.nics.find(({ name }) => name === "ic0")?.up;
    await site.bench.run(["cut", "oak-a", "oak-b", "--nic", "ic0"]);
    await whenPair(owner, "without ic0", (pair) => isUp(pair) === false);
    await load.more(answers);
    assert.is((await site.pairOf(owner))?.state, "mirrored");
    await site.bench.run(["join", "oak-a", "oak-b", "--nic", "ic0"]);
    await whenPair(owner, "with ic0", (pair) => isUp(pair) === true);
    await load.more(answers);
    assert.is(load.report().breaks, 0);
    assert.is(eventCount(owner, "pair-unmirrored"), before);
  });
});

test("handed over there and back -> mirrored all the time, hosts go on", async () => {
  await underLoad("iscsi", "owner", async ({ load, owner }) => {
    const before = takeovers();
    assert.is(await site.handOver(), otherOf(owner));
    await load.more(answers);
    assert.is(await site.mirrored(), otherOf(owner));
    assert.is(await site.handOver(), owner);
    await load.more(answers);
    assert.is(await site.mirrored(), owner);
    assert.equal(takeovers(), before);
  });
});

test("both are killed, and started again -> everything that was acknowledged is there", async () => {
  await underLoad("nbd", "owner", async ({ load, owner }) => {
    await site.kill(otherOf(owner));
    await load.more(answers);
    await site.kill(owner);
    await site.repair();
    await load.more(answers);
    await Promise.all(partners.map((partner) => site.kill(partner)));
    await site.repair();
    await load.more(answers);
  });
});

test.run();
