/**
 * Random commands, well-formed and not, from several hosts, with everything that may happen under them: held and failing volumes, task
 * management, lost sessions, changed mappings, a shelf that fails. Whatever comes, each task ends exactly once, in its own way.
 */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { allCommands } from "../../firmware/frontend/scsi/command_table.ts";
import { TaskFunction, type TaskFunctionOutcome } from "../../firmware/frontend/scsi/device_server.ts";
import { ScsiStatus, type TaskAttribute } from "../../firmware/frontend/scsi/task.ts";
import type { BlockError, BlockKind } from "../../firmware/volume/block_request.ts";
import { Prng } from "../../hal/mock/prng.ts";
import { type BenchNexus, type BenchTask, be, ScsiBench } from "./support/scsi_bench.ts";

const test = suite("scsi_random");
const knownStatus = new Set<number>(Object.values(ScsiStatus));
const attributes = [0, 1, 1, 1, 1, 1, 2, 3] as const satisfies readonly TaskAttribute[];
const errors: readonly BlockError[] = ["medium-error", "no-space", "read-only", "not-ready", "closed"];
const kinds: readonly BlockKind[] = ["read", "write", "unmap", "zero", "flush", "status", "compare-write", "or-write"];

/** A command with the bits that it looks at set at random; small numbers more often than large ones. */
function randomCdb(random: Prng): number[] {
  const command = allCommands[random.below(allCommands.length)]!;
  const cdb = command.usage.map((mask) => {
    const style = random.below(4);
    return mask & (style < 2 ? 0 : style === 2 ? random.below(32) : random.below(256));
  });
  cdb[0] = command.opcode;
  if (command.serviceAction !== null) cdb[1] = (cdb[1]! & 0xe0) | command.serviceAction;
  // A bit that is reserved, or another command altogether.
  if (random.below(20) === 0) cdb[random.below(cdb.length)] = random.below(256);
  return cdb;
}

interface Flying {
  readonly task: BenchTask;
  readonly host: BenchNexus;
  phase: "collecting" | "pending" | "reads";
}

class Storm {
  readonly bench: ScsiBench;
  readonly random: Prng;
  readonly hosts: BenchNexus[] = [];
  readonly flying: Flying[] = [];
  readonly managed: { outcome: TaskFunctionOutcome | null; host: BenchNexus }[] = [];
  ended = 0;
  goodOnes = 0;

  constructor(seed: number) {
    this.random = new Prng(seed, "scsi storm");
    this.bench = new ScsiBench(2, 4 << 20);
    for (const name of ["a", "b", "c"]) this.hosts.push(this.bench.nexus(name).ready());
  }

  start(): void {
    const { random } = this;
    const host = this.pick(this.hosts);
    const cdb = randomCdb(random);
    const bytes = [0, 24, 32, 64, 512, 1024, 4096][random.below(7)]!;
    const style = random.below(3);
    const data = Uint8Array.from({ length: bytes }, () => (style === 0 ? 0 : random.below(style === 1 ? 3 : 256)));
    const options = { lun: random.below(20) === 0 ? 9 : random.below(2), attribute: this.pick(attributes), data };
    const task = host.judge(cdb, options);
    if (task.outcome === "rejected") return this.check(task);
    const flying: Flying = { task, host, phase: "collecting" };
    this.flying.push(flying);
    task.onDone = () => {
      task.end();
      this.forget(flying);
      if (!task.aborted) this.check(task);
    };
    task.readLater = () => {
      flying.phase = "reads";
    };
  }

  goOn(): void {
    const flying = this.flying[this.random.below(this.flying.length)];
    if (flying === undefined || flying.phase === "pending") return;
    const { task, host } = flying;
    if (flying.phase === "reads") {
      const { target, startLba, blockCount } = task.medium;
      assert.ok(startLba + blockCount <= target.blockCount());
      this.forget(flying);
      task.dataIn = new Uint8Array(0);
      host.nexus.readDone(task, this.random.below(5) === 0 ? "medium-error" : null);
      task.end();
      return task.aborted ? undefined : this.check(task);
    }
    if (this.random.below(10) === 0) {
      this.forget(flying);
      host.nexus.drop(task);
      return task.end();
    }
    flying.phase = "pending";
    const outcome = host.nexus.execute(task);
    if (outcome === "reads") flying.phase = "reads";
    if (outcome !== "done") return;
    this.forget(flying);
    task.end();
    this.check(task);
  }

  disturb(): void {
    const { random, bench } = this;
    const volume = this.pick(bench.luns.volumes);
    switch (random.below(9)) {
      case 0:
        volume.gate = !volume.gate;
        break;
      case 1:
      case 2:
        volume.waiting.sort(() => random.below(3) - 1);
        volume.release(random.below(volume.waiting.length + 1));
        break;
      case 3:
        if (random.below(2) === 0) volume.failing.clear();
        else volume.failing.set(this.pick(kinds), this.pick(errors));
        break;
      case 4:
        this.manage();
        break;
      case 5:
        if (random.below(4) === 0) this.relogin();
        break;
      case 6:
        if (random.below(4) === 0) {
          const isMapped = random.below(3) > 0;
          bench.luns.mapping = (all, host) =>
            isMapped ? all : all.filter(({ lun }) => lun === 0 || host.iqn?.at(-1) === "a");
          bench.luns.changed();
        }
        break;
      case 7:
        bench.saveError = random.below(3) === 0 ? "the shelf has failed" : null;
        break;
      case 8:
        bench.clock.step();
        break;
    }
  }

  manage(): void {
    const host = this.pick(this.hosts);
    const answer: { outcome: TaskFunctionOutcome | null; host: BenchNexus } = { outcome: null, host };
    const lun = Uint8Array.from([0, this.random.below(2), 0, 0, 0, 0, 0, 0]);
    const tag = this.flying[this.random.below(this.flying.length)]?.task.tag ?? 0;
    this.managed.push(answer);
    host.nexus.manage(this.pick(Object.values(TaskFunction)), lun, tag, (outcome) => {
      assert.is(answer.outcome, null, "answered once");
      answer.outcome = outcome;
    });
  }

  /** A session ends, and its host comes back. */
  relogin(): void {
    const index = this.random.below(this.hosts.length);
    const host = this.hosts[index]!;
    host.nexus.close();
    for (const flying of [...this.flying]) {
      if (flying.host !== host || flying.phase === "pending") continue;
      this.forget(flying);
      if (flying.phase === "reads") host.nexus.readDone(flying.task, null);
      flying.task.end();
    }
    this.hosts[index] = this.bench.nexus("abc"[index]!);
  }

  /** Everything is let go: what was begun ends. */
  calm(): void {
    const { bench } = this;
    for (const volume of bench.luns.volumes) {
      volume.gate = false;
      volume.failing.clear();
    }
    const isBusy = () => this.flying.length > 0 || bench.luns.volumes.some(({ waiting }) => waiting.length > 0);
    for (let round = 0; isBusy() && round < 10_000; round++) {
      for (const volume of bench.luns.volumes) volume.release();
      bench.settle();
      this.goOn();
    }
    bench.settle();
    assert.is(this.flying.length, 0, "every task has ended");
    assert.ok(
      this.managed.every(({ outcome }) => outcome !== null),
      "all task management is answered",
    );
  }

  private check(task: BenchTask): void {
    this.ended++;
    if (task.status === ScsiStatus.good) this.goodOnes++;
    assert.ok(knownStatus.has(task.status));
    assert.is(
      task.sense.byteLength > 0,
      task.status === ScsiStatus.checkCondition,
      "sense goes with CHECK CONDITION alone",
    );
    if (task.status !== ScsiStatus.good) assert.is(task.dataIn.byteLength, 0);
    if (task.medium.blockCount === 0) assert.is(task.dataInBytes, task.dataIn.byteLength);
  }

  private forget(flying: Flying): void {
    this.flying.splice(this.flying.indexOf(flying), 1);
  }

  private pick<T>(list: readonly T[]): T {
    return list[this.random.below(list.length)]!;
  }
}

for (let seed = 1; seed <= 12; seed++)
  test(`a storm of commands, seed ${seed} → every task ends once, and the device answers as ever`, () => {
    const storm = new Storm(seed);
    const { random, bench } = storm;
    for (let step = 0; step < 4000; step++) {
      const what = random.below(10);
      if (what < 4) storm.start();
      else if (what < 8) storm.goOn();
      else storm.disturb();
      if (storm.flying.length > 200) storm.goOn();
    }
    storm.calm();
    assert.ok(storm.ended > 800, `${storm.ended} ended`);
    assert.ok(storm.goodOnes > 50, `${storm.goodOnes} good`);
    // A fresh host gets through, whatever state the units are in.
    bench.luns.mapping = (all) => all;
    bench.luns.changed();
    const last = bench.nexus("last").ready();
    const inquiry = last.run([0x12, 0, 0, ...be(96, 2), 0]);
    assert.is(inquiry.status, ScsiStatus.good);
    assert.is(inquiry.dataIn.byteLength, 96);
    for (const host of storm.hosts) host.nexus.close();
    last.nexus.close();
    bench.settle();
    for (const volume of bench.luns.volumes) assert.is(volume.targets.size, 0, "every volume is closed");
    assert.is(bench.device.parts.lent, 0, "every buffer has come back");
  });

test.run();
