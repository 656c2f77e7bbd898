/** An address that moves with the array: a host that knows no other one loses nothing, whatever becomes of either appliance. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { ScsiStatus } from "../../firmware/frontend/scsi/task.ts";
import { benchWithHost, type PairBench, type PairMachine, serviceAddress } from "./support/pair_bench.ts";
import { PairInitiator } from "./support/pair_initiator.ts";
import { cdb, reserveList } from "./support/scsi_bench.ts";

const test = suite("pair_service_address");

const options = { hasService: true };
const singlePath = (seed: number) => benchWithHost(seed, options, [serviceAddress.port]);
const holder = (bench: PairBench) => bench.world.network.moving.holderOf(serviceAddress.ip);
const events = (machine: PairMachine, code: string) => machine.events.filter((event) => event.code === code).length;
const warnings = (machine: PairMachine) => machine.partnership!.warnings().map(({ code }) => code);

test("the owner's process dies -> its partner has the address, what is left there is gone when its time is over", () => {
  const { bench, host } = singlePath(1);
  assert.is(holder(bench), "oak-a");
  assert.is(events(bench.b, "service-address-taken"), 0);
  bench.a.machine.crash();
  bench.until("the partner owns", () => bench.b.role === "owner");
  assert.is(holder(bench), "oak-b");
  const { acks } = host;
  bench.until("writes go on", () => host.acks > acks + 300);
  assert.ok(host.longestGapMs < 1000, `the host waited ${host.longestGapMs} ms`);
  bench.runFor(6000);
  bench.b.machine.crash();
  bench.runFor(6000);
  assert.is(holder(bench), null);
  bench.start(bench.b);
  bench.until("the host is back", () => host.acks > acks + 600);
  host.rest();
  assert.is(host.verify(), null);
});

test("handed over there and back -> the address goes along, and hosts find somebody all the time", () => {
  const { bench, host } = singlePath(2);
  for (const to of [bench.b, bench.a]) {
    const { acks } = host;
    bench.succeed(bench.owner.partnership!.failover(null));
    assert.is(bench.owner, to);
    assert.is(holder(bench), to.name);
    bench.until("writes go on", () => host.acks > acks + 300);
    bench.untilMirrored();
  }
  assert.is(events(bench.a, "service-address-released"), 1);
  assert.is(events(bench.b, "service-address-released"), 1);
  assert.ok(host.longestGapMs < 500, `the host waited ${host.longestGapMs} ms`);
  host.rest();
  assert.is(host.verify(), null);
});

test("the power of the owner goes -> connections to it end when the partner has told its neighbours", () => {
  const { bench, host } = singlePath(3);
  bench.a.machine.powerLoss();
  bench.until("the partner owns", () => bench.b.role === "owner");
  const { acks } = host;
  bench.until("writes go on", () => host.acks > acks + 300);
  assert.ok(host.longestGapMs < 3000, `the host waited ${host.longestGapMs} ms`);
  host.rest();
  assert.is(host.verify(), null);
});

test("the former owner starts again at once -> what it had left is gone, it follows, and the host stays where it is", () => {
  const { bench, host } = singlePath(4);
  bench.a.machine.crash();
  bench.start(bench.a);
  bench.untilMirrored();
  const owner = bench.owner;
  assert.is(holder(bench), owner.name);
  const { acks } = host;
  bench.until("writes go on", () => host.acks > acks + 300);
  bench.runFor(12_000);
  assert.is(holder(bench), owner.name);
  host.rest();
  assert.is(host.verify(), null);
});

test("the owner hangs for longer than a hold while it is alone -> it has the address again when it goes on", () => {
  const { bench, host } = singlePath(5);
  bench.b.machine.crash();
  bench.until("unmirrored", () => bench.a.state === "degraded");
  bench.a.machine.pause();
  bench.runFor(7000);
  assert.is(holder(bench), null);
  bench.a.machine.resume();
  bench.until("the address is back", () => holder(bench) === "oak-a");
  const { acks } = host;
  bench.until("writes go on", () => host.acks > acks + 300);
  host.rest();
  assert.is(host.verify(), null);
});

test("the interface is gone -> a warning says so, its own ports serve; it comes back -> hosts reach it again", () => {
  const { bench, host } = singlePath(6);
  bench.b.machine.serviceFaults.broken = true;
  bench.a.machine.crash();
  bench.until("the partner owns", () => bench.b.role === "owner");
  bench.until("a warning", () => warnings(bench.b).includes("service-address"));
  assert.is(events(bench.b, "service-address-failed"), 1);
  const other = bench.host("v1", 10, [bench.b.address]);
  other.run();
  bench.until("its own port serves", () => other.acks > 20);
  other.rest();
  bench.runFor(3000);
  assert.is(events(bench.b, "service-address-failed"), 1);
  bench.b.machine.serviceFaults.broken = false;
  const { acks } = host;
  bench.until("writes go on", () => host.acks > acks + 300);
  assert.not(warnings(bench.b).includes("service-address"));
});

test("a SCSI host that knows one port -> it is the same port at either appliance, and a registration is found again", () => {
  const { bench, host } = singlePath(8);
  host.rest();
  const initiator = new PairInitiator(bench, "holder");
  const block = new Uint8Array(512).fill(7);
  const reachesLun = (owner: PairMachine) => {
    initiator.loginAt(serviceAddress.iscsi);
    assert.is(initiator.run(cdb.write10(0, 1), block).status, ScsiStatus.good);
    const group = owner.partnership!.portGroups().find(({ state }) => state === "active-optimized");
    assert.equal(group?.ports.at(-1), 33);
    assert.is(bench.other(owner).name === "oak-a" ? 2 : 1, group?.id);
  };
  initiator.loginAt(serviceAddress.iscsi);
  assert.is(initiator.run(cdb.reserveOut(0, 0), Uint8Array.from(reserveList(0, 1, 0))).status, ScsiStatus.good);
  assert.is(initiator.run(cdb.reserveOut(1, 1), Uint8Array.from(reserveList(1, 0))).status, ScsiStatus.good);
  reachesLun(bench.a);
  bench.succeed(bench.a.partnership!.failover(null));
  assert.not(initiator.isOpen);
  reachesLun(bench.b);
  // Only through that port is it registered.
  initiator.login(bench.b);
  assert.is(initiator.run(cdb.write10(0, 1), block).status, ScsiStatus.reservationConflict);
});

test("the start is refused -> the address is not kept, and the partner may have it", () => {
  const { bench, host } = singlePath(7);
  host.rest();
  // The owner restarts alone and dies before the shelf has everything: the partner's copy is from before.
  bench.b.machine.crash();
  bench.a.machine.crash();
  bench.start(bench.a);
  bench.until("it owns", () => bench.a.role === "owner");
  bench.a.machine.crash();
  bench.runFor(6000);
  bench.start(bench.b);
  bench.until("refused", () => bench.b.ended !== null);
  bench.start(bench.a);
  bench.start(bench.b);
  bench.untilMirrored();
  assert.is(holder(bench), bench.owner.name);
});

test.run();
