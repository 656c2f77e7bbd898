/** Commands to disks from another thread: each is answered once and in time, also where the thread is held up, or there is none. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { ScsiCommand, ScsiOutcome } from "../../hal/linux/scsi_generic.ts";
import { graceMs, ScsiPort, type ScsiWorker } from "../../hal/linux/scsi_port.ts";
import type { ScsiRequest } from "../../hal/linux/scsi_worker.ts";
import { ManualClock } from "./support/manual_clock.ts";

const test = suite("scsi_port");

const limitMs = 5000;
const good: ScsiOutcome = { kind: "answered", status: 0, sense: null, data: new Uint8Array(0) };

class HeldWorker implements ScsiWorker {
  onmessage: ((event: MessageEvent<ScsiOutcome>) => void) | null = null;
  onerror: ((event: ErrorEvent) => void) | null = null;
  readonly sent: number[] = [];
  isTerminated = false;
  postMessage(request: ScsiRequest): void {
    this.sent.push(request.fd);
  }
  ref(): void {}
  unref(): void {}
  terminate(): void {
    this.isTerminated = true;
  }
  answer(): void {
    this.onmessage?.({ data: good } as MessageEvent<ScsiOutcome>);
  }
}

function benchOf(): { clock: ManualClock; worker: HeldWorker; port: ScsiPort; told: string[]; ask(fd: number): void } {
  const clock = new ManualClock();
  const worker = new HeldWorker();
  const port = new ScsiPort(clock, () => worker);
  const told: string[] = [];
  const command: ScsiCommand = { cdb: new Uint8Array(6), limitMs };
  const ask = (fd: number) => port.execute(fd, command, ({ kind }) => told.push(`${fd} ${kind}`));
  return { clock, worker, port, told, ask };
}

test("several -> sent one after the other, each answered after the call", () => {
  const { clock, worker, told, ask } = benchOf();
  for (const fd of [1, 2, 3]) ask(fd);
  assert.equal(worker.sent, []);
  clock.runDeferred();
  assert.equal(worker.sent, [1]);
  worker.answer();
  assert.equal(worker.sent, [1, 2]);
  worker.answer();
  worker.answer();
  assert.equal(told, ["1 answered", "2 answered", "3 answered"]);
  assert.is(clock.timerCount, 0);
});

test("the device hangs -> timeout for it and for those behind it, which are never sent; then it goes on", () => {
  const { clock, worker, told, ask } = benchOf();
  ask(1);
  ask(2);
  clock.step();
  clock.step();
  assert.is(clock.nowMs(), limitMs + graceMs);
  assert.equal(told, ["1 timeout", "2 timeout"]);
  ask(3);
  clock.runDeferred();
  assert.equal(worker.sent, [1], "the thread waits still");
  worker.answer();
  assert.equal(worker.sent, [1, 3]);
  worker.answer();
  assert.equal(told, ["1 timeout", "2 timeout", "3 answered"]);
});

test("the thread dies, or cannot begin -> failed, for all that wait and all that come", () => {
  const { clock, worker, told, ask } = benchOf();
  ask(1);
  ask(2);
  clock.runDeferred();
  worker.onerror?.({} as ErrorEvent);
  ask(3);
  clock.runDeferred();
  assert.equal(told, ["1 failed", "2 failed", "3 failed"]);
  const none = new ManualClock();
  const kinds: string[] = [];
  const port = new ScsiPort(none, () => {
    throw new Error("no thread");
  });
  port.execute(1, { cdb: new Uint8Array(6), limitMs }, ({ kind }) => kinds.push(kind));
  none.runDeferred();
  assert.equal(kinds, ["failed"]);
});

test("closed -> what waits fails, the thread ends", () => {
  const { clock, worker, port, told, ask } = benchOf();
  ask(1);
  ask(2);
  clock.runDeferred();
  port.close();
  assert.equal(told, ["1 failed", "2 failed"]);
  assert.ok(worker.isTerminated);
  assert.equal(worker.sent, [1]);
});

test.run();
