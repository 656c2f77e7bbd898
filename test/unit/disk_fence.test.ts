/**
 * The fence of a SCSI disk against this array's own device server (SPC-5 5.14 by other hands), and against devices that lie, forget, or
 * answer what makes no sense.
 */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { DiskError } from "../../hal/api/shelf.ts";
import { type AskScsi, ReservationFence, whyNoFence } from "../../hal/linux/disk_fence.ts";
import type { ScsiCommand, ScsiOutcome } from "../../hal/linux/scsi_generic.ts";
import { decodeSense } from "../../hal/linux/scsi_generic.ts";
import { type BenchNexus, be, cdb, reserveList, ScsiBench } from "./support/scsi_bench.ts";

const test = suite("disk_fence");

type Twist = (command: ScsiCommand, answer: () => ScsiOutcome) => ScsiOutcome;
type Outcome = DiskError["code"] | "good";

const plain: Twist = (_, answer) => answer();

/** One initiator's way to the disk; `twist` is what goes wrong on it. */
class Way {
  readonly nexus: BenchNexus;
  readonly fence: ReservationFence;
  readonly commands: number[] = [];
  twist: Twist = plain;
  lastText = "";

  constructor(bench: ScsiBench, name: string) {
    this.nexus = bench.nexus(name).ready();
    this.fence = new ReservationFence("shelf0/0", this.ask);
  }

  readonly ask: AskScsi = async (command) => {
    this.commands.push(command.cdb[1]!);
    return this.twist(command, () => this.#run(command));
  };

  #run({ cdb, dataOut }: ScsiCommand): ScsiOutcome {
    const { status, sense, dataIn } = this.nexus.run([...cdb], dataOut === undefined ? {} : { data: dataOut });
    return { kind: "answered", status, sense: decodeSense(sense), data: dataIn };
  }

  register(key: number): Promise<Outcome> {
    return this.#outcome((done) => this.fence.register(new Uint8Array(8).fill(key), done));
  }
  look(): Promise<Outcome> {
    return this.#outcome((done) => this.fence.look(done));
  }
  evictOthers(): Promise<Outcome> {
    return this.#outcome((done) => this.fence.evictOthers(done));
  }

  #outcome(start: (done: (error: DiskError | null) => void) => void): Promise<Outcome> {
    return new Promise((resolve) =>
      start((error) => {
        this.lastText = error?.text ?? "";
        resolve(error?.code ?? "good");
      }),
    );
  }

  get writes(): boolean {
    return this.nexus.run(cdb.write10(0, 1), { data: new Uint8Array(512) }).status === 0;
  }
}

const action = { readKeys: 0, readReservation: 1, reportCapabilities: 2 } as const;
const isOut = ({ cdb }: ScsiCommand): boolean => cdb[0] === 0x5f;
const isIn = (command: ScsiCommand, which: number): boolean => !isOut(command) && command.cdb[1] === which;
const answered = (status: number, data: readonly number[] = []): ScsiOutcome => ({
  kind: "answered",
  status,
  sense: null,
  data: Uint8Array.from(data),
});
const withSense = (key: number, code: number): ScsiOutcome => ({
  kind: "answered",
  status: 2,
  sense: { key, code },
  data: new Uint8Array(0),
});

function trio(): { bench: ScsiBench; a: Way; b: Way; c: Way } {
  const bench = new ScsiBench();
  return { bench, a: new Way(bench, "a"), b: new Way(bench, "b"), c: new Way(bench, "c") };
}

test("registered, evicted, registered by its next life -> who may write, and what each is told", async () => {
  const { a, b, c } = trio();
  assert.is(await a.look(), "evicted", "it has registered nothing");
  assert.is(await a.register(1), "good");
  assert.not(b.writes);
  assert.is(await b.register(2), "good");
  assert.is(await c.register(3), "good");
  assert.ok(a.writes && b.writes && c.writes);
  assert.is(await b.evictOthers(), "good");
  assert.is(await a.look(), "evicted");
  assert.is(await c.evictOthers(), "evicted");
  assert.match(a.lastText, /^shelf0\/0: look: this appliance is not registered any more$/);
  assert.not(a.writes || c.writes);
  assert.ok(b.writes);
  assert.is(await a.register(4), "good");
  assert.is(await a.evictOthers(), "good");
  assert.is(await b.look(), "evicted");
  assert.not(b.writes);
});

test("registrations -> with APTPL: the array starts again, and they are there", async () => {
  const { bench, a } = trio();
  assert.is(await a.register(1), "good");
  const kept = [...bench.kept.values()];
  assert.is(kept.length, 1);
  bench.start();
  const [again, other] = [new Way(bench, "a"), new Way(bench, "b")];
  assert.ok(again.writes);
  assert.not(other.writes);
});

test("a disk that says it has done what it has not -> it is found out", async () => {
  const { a, b } = trio();
  assert.is(await a.register(1), "good");
  assert.is(await b.register(2), "good");
  // As LIO did with a service action key of zero.
  b.twist = (command, answer) => (isOut(command) && command.cdb[1] === 5 ? answered(0) : answer());
  assert.is(await b.evictOthers(), "failed");
  assert.match(b.lastText, /kept registrations/);
  assert.ok(a.writes);
  b.twist = plain;
  assert.is(await b.evictOthers(), "good");
  assert.not(a.writes);
});

test("a disk that takes no reservation, or forgets registrations without power -> registered with it is nobody", async () => {
  const bench = new ScsiBench();
  const a = new Way(bench, "a");
  a.twist = (command, answer) => (isOut(command) && command.cdb[1] === 1 ? answered(0) : answer());
  assert.is(await a.register(1), "failed");
  assert.match(a.lastText, /takes no reservation/);
  a.twist = (command, answer) =>
    isIn(command, action.reportCapabilities) ? answered(0, [0, 8, 0x0d, 0x80, 0xea, 1, 0, 0]) : answer();
  assert.is(await a.register(1), "failed");
  assert.match(a.lastText, /loss of power/);
  assert.is(await a.look(), "evicted");
  a.twist = plain;
  assert.is(await a.register(1), "good");
});

test("the disk is reserved in another way -> said so, and nobody is evicted; by SPC-2 RESERVE too", async () => {
  const { a, b, c } = trio();
  const host = c.nexus;
  const key = 9;
  assert.is(host.run(cdb.reserveOut(0, 0), { data: reserveList(0, key) }).status, 0);
  assert.is(host.run(cdb.reserveOut(1, 5), { data: reserveList(key, 0) }).status, 0);
  assert.is(await a.register(1), "failed");
  assert.match(a.lastText, /reserved in another way \(type 5\); clear that/);
  assert.is(host.run(cdb.reserveOut(3, 0), { data: reserveList(key, 0) }).status, 0);
  assert.is(host.run([0x16, 0, 0, 0, 0, 0]).status, 0);
  assert.is(await b.register(1), "failed");
  assert.match(b.lastText, /SPC-2 RESERVE/);
});

test("unit attentions -> asked again; one that never ends -> failed", async () => {
  const { a } = trio();
  let attentions = 0;
  a.twist = (_, answer) => (attentions++ % 3 < 2 ? withSense(6, attentions % 2 === 0 ? 0x2a03 : 0x2a05) : answer());
  assert.is(await a.register(1), "good");
  assert.is(await a.evictOthers(), "good");
  let asked = 0;
  a.twist = () => {
    asked++;
    return withSense(6, 0x2900);
  };
  assert.is(await a.look(), "failed");
  assert.match(a.lastText, /status 02h \(sense 6h, 29h\/00h\)/);
  assert.is(asked, 17);
});

test("every command of each operation is lost, late, or answered with nonsense -> an error of that kind, and another attempt works", async () => {
  const errors: [string, ScsiOutcome, Outcome][] = [
    ["late", { kind: "timeout", text: "no answer in time" }, "timeout"],
    ["away", { kind: "absent", text: "it is not there" }, "absent"],
    ["broken", { kind: "failed", text: "the way to it has failed" }, "failed"],
    ["busy", answered(8), "failed"],
    ["hardware error", withSense(4, 0x4400), "failed"],
  ];
  for (const [name, outcome, expected] of errors) {
    for (let at = 0; ; at++) {
      const { a, b } = trio();
      assert.is(await a.register(1), "good");
      let commands = 0;
      b.twist = (_, answer) => (commands++ === at ? outcome : answer());
      const registered = await b.register(2);
      if (commands > at) assert.is(registered, expected, `${name} at ${at} of register`);
      if (registered !== "good") assert.is(await b.register(2), "good", `after ${name} at ${at} of register`);
      const evicted = await b.evictOthers();
      if (registered === "good" && commands > at) assert.is(evicted, expected, `${name} at ${at} of evict`);
      if (evicted !== "good") assert.is(await b.evictOthers(), "good", `after ${name} at ${at} of evict`);
      assert.not(a.writes);
      assert.ok(b.writes);
      if (commands <= at) break;
    }
  }
});

test("answers that are cut short, or without the own key -> failed or evicted, never good", async () => {
  const { a, b } = trio();
  assert.is(await a.register(1), "good");
  assert.is(await b.register(2), "good");
  const whole = [...be(2, 4), ...be(16, 4), ...new Array(8).fill(1), ...new Array(8).fill(2)];
  for (let length = 0; length < whole.length; length++) {
    a.twist = (command, answer) => (isIn(command, action.readKeys) ? answered(0, whole.slice(0, length)) : answer());
    assert.is(await a.look(), length < 16 ? "failed" : "good", `${length} bytes`);
    assert.is(await a.evictOthers(), "failed", `${length} bytes`);
    assert.ok(b.writes);
  }
  a.twist = (command, answer) =>
    isIn(command, action.readKeys) ? answered(0, [...be(2, 4), ...be(8, 4), ...new Array(8).fill(2)]) : answer();
  assert.is(await a.look(), "evicted");
});

test("one that has come while others were evicted -> another boot, and no reason for an error", async () => {
  const { a, b } = trio();
  assert.is(await a.register(1), "good");
  assert.is(await b.register(2), "good");
  let preempted = false;
  b.twist = (command, answer) => {
    const outcome = answer();
    if (isOut(command) && command.cdb[1] === 5 && !preempted) {
      preempted = true;
      assert.is(a.nexus.run(cdb.reserveOut(6, 0), { data: reserveList(0, 3, 1) }).status, 0x02, "it is told first");
      assert.is(a.nexus.run(cdb.reserveOut(6, 0), { data: reserveList(0, 3, 1) }).status, 0);
    }
    return outcome;
  };
  assert.is(await b.evictOthers(), "good");
  assert.ok(preempted && a.writes);
  assert.is(await a.look(), "evicted", "under the key of the boot before");
});

test("what a disk must have -> why it cannot be used, without a change to it", async () => {
  const { a } = trio();
  assert.is(await whyNoFence(a.ask), null);
  assert.equal(a.commands, [action.reportCapabilities]);
  const rows: [ScsiOutcome, RegExp][] = [
    [withSense(5, 0x2000), /no persistent reservations/],
    [answered(0, [0, 8, 0x0c, 0x80, 0xea, 1, 0, 0]), /PTPL_C/],
    [answered(0, [0, 8, 0x0d, 0x80, 0x6a, 1, 0, 0]), /no type/],
    [answered(0, [0, 8, 0x0d, 0x00, 0xea, 1, 0, 0]), /no type/],
    [answered(0, [0, 8, 0x0d]), /cannot be asked.*makes no sense/],
    [{ kind: "timeout", text: "no answer in time" }, /cannot be asked.*no answer in time/],
    [{ kind: "failed", text: "the kernel takes no SCSI command for it" }, /cannot be asked.*kernel/],
  ];
  for (const [outcome, expected] of rows) assert.match((await whyNoFence(async () => outcome)) ?? "", expected);
});

test.run();
