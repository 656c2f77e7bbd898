/** Hosts that come in while nobody serves the array: they wait, and are served as soon as somebody does. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { pairLimits } from "../../firmware/pair/limits.ts";
import { WaitingSessions } from "../../firmware/pair/waiting_sessions.ts";
import type { StreamHandler } from "../../hal/api/byte_stream.ts";
import type { HostStream } from "../../hal/api/hba.ts";
import { ManualClock } from "./support/manual_clock.ts";
import { PairBench, type PairMachine } from "./support/pair_bench.ts";

const test = suite("pair_waiting");
const mebibyte = 1048576;

class FakeStream implements HostStream {
  readonly remote = "192.0.2.1:5000";
  readonly calls: string[] = [];
  write(bytes: Uint8Array): number {
    return bytes.byteLength;
  }
  end(): void {
    this.calls.push("end");
  }
  abort(): void {
    this.calls.push("abort");
  }
  pause(): void {
    this.calls.push("pause");
  }
  resume(): void {
    this.calls.push("resume");
  }
  giveBack(): void {}
  startTls(): void {}
}

function recorder(heard: string[]): StreamHandler {
  return {
    onData: (chunk) => heard.push(`data ${Buffer.from(chunk)}`),
    onDrain: () => heard.push("drain"),
    onEnd: () => heard.push("end"),
    onClose: () => heard.push("close"),
  };
}

test("what a waiting host sends -> held back, and given in order to who serves it", () => {
  const clock = new ManualClock();
  const waiting = new WaitingSessions(clock);
  const stream = new FakeStream();
  const heard: string[] = [];
  let server: StreamHandler | null = null;
  const handler = waiting.add(stream, () => server)!;
  handler.onData(Buffer.from("one"));
  handler.onData(Buffer.from("two"));
  handler.onEnd();
  waiting.look();
  assert.equal([stream.calls, heard], [["pause"], []]);
  server = recorder(heard);
  waiting.look();
  handler.onDrain();
  handler.onClose();
  assert.equal(stream.calls, ["pause", "resume"]);
  assert.equal(heard, ["data one", "data two", "end", "drain", "close"]);
  assert.is(clock.timerCount, 0);
});

test("nobody comes -> the session ends when it has waited long enough; one that has gone is not offered", () => {
  const clock = new ManualClock();
  const waiting = new WaitingSessions(clock);
  const [patient, gone] = [new FakeStream(), new FakeStream()];
  let offered = 0;
  const find = () => {
    offered++;
    return null;
  };
  waiting.add(patient, find);
  waiting.add(gone, find)!.onClose();
  waiting.look();
  assert.is(offered, 1);
  clock.step();
  assert.is(clock.nowMs(), pairLimits.waitMs);
  assert.equal([patient.calls, gone.calls], [["abort"], []]);
  waiting.look();
  assert.is(offered, 1);
});

/** A host that connects now: whether it is greeted by an NBD server, and whether its connection ends. */
function arrive(bench: PairBench, machine: PairMachine) {
  const seen = { greeted: false, closed: false };
  bench.world.connectHost(
    machine.address,
    () => ({
      onData: () => {
        seen.greeted = true;
      },
      onDrain: () => {},
      onEnd: () => {},
      onClose: () => {
        seen.closed = true;
      },
    }),
    () => {
      seen.closed = true;
    },
  );
  return seen;
}

function mirroredBench(seed: number): PairBench {
  const bench = new PairBench(seed);
  bench.startBoth();
  bench.addVolume("v1", 64 * mebibyte);
  return bench;
}

test("a host comes to the standby when the owner has died -> it waits for the takeover, and stays", () => {
  const bench = mirroredBench(21);
  bench.a.machine.crash();
  bench.until("the standby knows", () => bench.b.saw("partner-lost"));
  const host = arrive(bench, bench.b);
  bench.until("an answer", () => host.greeted || host.closed);
  bench.runFor(pairLimits.rolesMs);
  assert.equal(host, { greeted: true, closed: false });
});

test("hosts come in at any time of a hand-over, to either appliance -> they wait, and none is sent away", () => {
  const bench = mirroredBench(22);
  let isDone = false;
  void bench.owner.partnership!.failover(null).then(() => {
    isDone = true;
  });
  const hosts: ReturnType<typeof arrive>[] = [];
  while (!isDone) {
    hosts.push(arrive(bench, bench.a), arrive(bench, bench.b));
    bench.runFor(0.2);
  }
  bench.runFor(pairLimits.waitMs);
  assert.is(bench.owner, bench.b);
  assert.ok(hosts.length > 10, `${hosts.length} hosts`);
  assert.equal(
    hosts.filter(({ closed }) => closed),
    [],
  );
  assert.ok(hosts.every(({ greeted }) => greeted));
});

test("hosts come to an appliance while a group moves -> they wait until it has, or long enough", () => {
  const bench = mirroredBench(24);
  const { uuid } = bench.owner.partnership!.engine!.groups.all()[0]!.volumes()[0]!;
  const hold = (isHeld: boolean) =>
    bench.answer(bench.a.partnership!.askPartner("POST", "/half/hold", JSON.stringify({ uuids: [uuid], isHeld }))!);
  assert.is(hold(true).status, 200);
  const host = arrive(bench, bench.b);
  bench.runFor(pairLimits.waitMs - 500);
  assert.equal(host, { greeted: false, closed: false });
  assert.is(hold(false).status, 200);
  bench.until("it is served", () => host.greeted, 100);
  hold(true);
  const other = arrive(bench, bench.b);
  bench.until("it has waited long enough", () => other.greeted, pairLimits.waitMs + 100);
  assert.not(host.closed || other.closed);
});

test("a host comes to an appliance that is cut off for long -> it is served with what that one owns, at once", () => {
  const bench = mirroredBench(23);
  bench.world.cut("oak-a", "oak-b");
  bench.until("isolated", () => bench.b.state === "isolated");
  const early = arrive(bench, bench.b);
  bench.runFor(pairLimits.waitMs - 500);
  assert.equal(early, { greeted: false, closed: false });
  bench.until("it has waited long enough for the other half", () => early.greeted, 1000);
  const late = arrive(bench, bench.b);
  bench.until("it does not wait", () => late.greeted, 100);
  assert.not(early.closed || late.closed);
});

test.run();
