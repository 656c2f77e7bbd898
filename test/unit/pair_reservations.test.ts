/** Persistent reservations of a pair's hosts: they are the array's, and outlast the appliance that served them (SPC-5 5.14). */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { ScsiStatus } from "../../firmware/frontend/scsi/task.ts";
import { benchWithHost } from "./support/pair_bench.ts";
import { PairInitiator } from "./support/pair_initiator.ts";
import { cdb, reserveList } from "./support/scsi_bench.ts";

const test = suite("pair_reservations");
const { good, reservationConflict } = ScsiStatus;
const exclusive = 1;
const block = new Uint8Array(512).fill(7);

/** `holder` has reserved LUN 0 for its writes, without APTPL, through the first appliance. */
function reserved(seed: number) {
  const { bench, host } = benchWithHost(seed);
  host.rest();
  const [holder, other] = [new PairInitiator(bench, "holder"), new PairInitiator(bench, "other")];
  holder.login(bench.a);
  assert.is(holder.run(cdb.reserveOut(0, 0), Uint8Array.from(reserveList(0, 1, 0))).status, good);
  assert.is(holder.run(cdb.reserveOut(1, exclusive), Uint8Array.from(reserveList(1, 0))).status, good);
  return { bench, holder, other };
}

function stillHolds({ bench, holder, other }: ReturnType<typeof reserved>, owner: "a" | "b"): void {
  for (const at of [bench.a, bench.b]) {
    if (!at.machine.isUp) continue;
    other.login(at);
    assert.is(other.run(cdb.write10(0, 1), block).status, reservationConflict, `at ${at.name}`);
  }
  holder.login(bench[owner]);
}

test("a planned failover and back -> the reservation holds at both appliances; its holder writes where it registered", () => {
  const site = reserved(60);
  const { bench, holder } = site;
  bench.succeed(bench.a.partnership!.failover(null));
  bench.until("the partner owns", () => bench.b.role === "owner");
  stillHolds(site, "a");
  assert.is(holder.run(cdb.write10(0, 1), block).status, good);
  bench.untilMirrored();
  bench.succeed(bench.b.partnership!.failover(null));
  bench.until("the first one owns again", () => bench.a.role === "owner");
  stillHolds(site, "a");
  assert.is(holder.run(cdb.write10(0, 1), block).status, good);
});

test("the owner is killed -> the reservation holds at its successor, and its holder finds it through the port that it registered at", () => {
  const site = reserved(61);
  const { bench, holder } = site;
  bench.a.machine.crash();
  bench.until("the partner owns", () => bench.b.role === "owner");
  stillHolds(site, "b");
  assert.is(holder.run(cdb.write10(0, 1), block).status, reservationConflict, "its other port is not registered");
  bench.start(bench.a);
  bench.untilMirrored();
  holder.login(bench.a);
  assert.is(holder.run(cdb.write10(0, 1), block).status, good);
});

test("both lose power -> a reservation without APTPL is gone, also after a takeover later", () => {
  const site = reserved(62);
  const { bench, other } = site;
  bench.a.machine.crash();
  bench.b.machine.crash();
  bench.startBoth();
  other.login(bench.a);
  assert.is(other.run(cdb.write10(0, 1), block).status, good);
  bench.succeed(bench.a.partnership!.failover(null));
  bench.until("the partner owns", () => bench.b.role === "owner");
  other.login(bench.b);
  assert.is(other.run(cdb.write10(0, 1), block).status, good);
});

test.run();
