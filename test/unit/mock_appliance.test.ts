/** Simulated machines: boots, deaths, pauses, power ports, the witness. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Hal } from "../../hal/api/hal.ts";
import { World } from "../../hal/mock/world.ts";

const test = suite("mock_appliance");

function pair(seed: number) {
  const world = new World({ seed });
  const shelf = world.addShelf({ name: "shelf0", fencing: "power", slots: [1 << 20] });
  const add = (name: string, partner: string) =>
    world.addAppliance({
      name,
      cache: { sizeBytes: 8192, domain: "battery" },
      shelves: [shelf],
      hbaPorts: [{ name: "hba0", address: `${name}:10809`, protocol: "nbd" }],
      nics: [{ name: "nic0", address: `${name}:7400` }],
      power: { target: partner, how: "process" },
      hasWitness: true,
    });
  return { world, shelf, a: add("oak-a", "oak-b"), b: add("oak-b", "oak-a") };
}

test("a crash -> no timer, task, promise or completion of that boot runs again; the next boot is unaffected", () => {
  const { world, a } = pair(1);
  const seen: string[] = [];
  const hal = a.boot();
  hal.clock.after(5, () => seen.push("timer"));
  hal.shelves[0]!.disks[0]!.write(0, [new Uint8Array(4096)], () => seen.push("write"));
  hal.hbaPorts[0]!.listen(
    () => {
      throw new Error("accepted by a dead boot");
    },
    () => seen.push("listening"),
  );
  a.crash();
  hal.clock.after(1, () => seen.push("late timer"));
  hal.clock.defer(() => seen.push("late task"));
  hal.shelves[0]!.disks[0]!.write(0, [new Uint8Array(4096)], () => seen.push("late write"));
  hal.cache.memory.fill(9);
  hal.cache.wrote(0, 8192);
  const second = a.boot();
  second.clock.after(1, () => seen.push("second boot"));
  world.runFor(1000);
  assert.equal(seen, ["second boot"]);
  assert.is(second.cache.memory[0], 0);
  assert.is(a.bootCount, 2);
});

test("every effect as the point of death -> what came before is there, nothing of what came after", () => {
  // Each round writes a page and sends a byte, in one event.
  let isComplete = false;
  for (let point = 1; !isComplete; point++) {
    const { world, a, shelf } = pair(point);
    let sent = 0;
    a.start((hal) => {
      hal.hbaPorts[0]!.listen(
        (stream) => ({
          onData() {
            for (let page = 0; page < 3; page++) {
              hal.shelves[0]!.disks[0]!.write(page * 4096, [new Uint8Array(4096).fill(page + 1)], () => {});
              sent += stream.write(new Uint8Array([page + 1]));
            }
          },
          onDrain() {},
          onEnd() {},
          onClose() {},
        }),
        () => {},
      );
    });
    world.runFor(1);
    world.network.faults.shortWriteRate = 0;
    const received: number[] = [];
    let isClosed = false;
    world.connectHost(
      "oak-a:10809",
      (stream) => {
        stream.write(new Uint8Array(1));
        return {
          onData: (chunk) => received.push(...chunk),
          onDrain() {},
          onEnd() {},
          onClose() {
            isClosed = true;
          },
        };
      },
      () => {},
    );
    a.crashAtEffect(point);
    world.runFor(1000);
    isComplete = a.isUp;
    const done = Math.min(6, point - 1);
    assert.is(sent, isComplete ? 3 : Math.floor(done / 2));
    assert.ok(received.length <= sent);
    assert.is(isClosed, !isComplete);
    for (let page = Math.ceil(done / 2); page < 3; page++) assert.not(shelf.disk(0).medium.hasPage(page * 4096));
    assert.ok(point < 20);
  }
});

test("a panic -> ends the run with its error, or crashes the machine and goes to onPanic", () => {
  const { world, a, b } = pair(2);
  a.start(() => {
    throw new Error("broken invariant");
  });
  assert.throws(() => world.runFor(1), /broken invariant/);
  const panics: string[] = [];
  const deaths: string[] = [];
  b.onPanic = (error) => panics.push(String(error));
  b.onDown = (kind) => deaths.push(kind);
  b.start((hal) => {
    hal.clock.after(1, () => {
      hal.clock.defer(() => {
        throw new Error("broken invariant");
      });
    });
  });
  world.runFor(10);
  assert.equal(panics, ["Error: broken invariant"]);
  assert.equal(deaths, ["process"]);
  assert.is(b.isUp, false);
});

test("a pause -> time goes by without it; its timers fire late and in order; its disks have gone on", () => {
  const { world, a } = pair(3);
  const hal = a.boot();
  const seen: string[] = [];
  hal.clock.after(10, () => seen.push("first"));
  hal.clock.after(20, () => seen.push("second"));
  hal.shelves[0]!.disks[0]!.write(0, [new Uint8Array(4096).fill(1)], () => seen.push("write"));
  a.pause();
  world.runFor(5000);
  assert.equal(seen, []);
  assert.is(a.shelves[0]!.disk(0).medium.pageCount, 1);
  a.resume();
  world.runFor(1);
  assert.equal(seen, ["write", "first", "second"]);
});

test("the wall clock jumps -> the monotonic clock does not, and the error outlives a restart", () => {
  const { world, a } = pair(4);
  const hal = a.boot();
  const wallMs = hal.clock.wallMs();
  const nowMs = hal.clock.nowMs();
  a.wall.jump(-86_400_000);
  world.runFor(1000);
  assert.is(hal.clock.wallMs(), wallMs - 86_399_000);
  assert.ok(Math.abs(hal.clock.nowMs() - nowMs - 1000) < 1e-6);
  a.crash();
  assert.is(a.boot().clock.wallMs(), wallMs - 86_399_000);
});

test("the power port -> kills the partner, a paused one too, and proves it; broken, it says so", () => {
  const { world, a, b } = pair(5);
  const kill = (hal: Hal) => {
    let answer: boolean | null = null;
    hal.power!.kill((doubt) => {
      answer = doubt === null;
    });
    world.runUntil(() => answer !== null, 1000);
    return answer;
  };
  const hal = a.boot();
  b.boot();
  b.pause();
  assert.is(hal.power!.target, "oak-b");
  assert.is(kill(hal), true);
  assert.is(b.isUp, false);
  b.boot();
  a.powerFaults.broken = "alive";
  assert.is(kill(hal), false);
  assert.is(b.isUp, true);
  a.powerFaults.broken = "dead-unproven";
  assert.is(kill(hal), false);
  assert.is(b.isUp, false);
});

test("the witness -> one holder at a time; renewed by it; another only after the end; unreachable is null", () => {
  const { world, a, b } = pair(6);
  const halA = a.boot();
  const halB = b.boot();
  const acquire = (hal: Hal, holder: string) => {
    const answers: (string | null)[] = [];
    hal.witness!.acquire("group", holder, 500, (inForce) => answers.push(inForce));
    world.runUntil(() => answers.length > 0, 10_000);
    assert.is(answers.length, 1);
    return answers[0];
  };
  assert.is(acquire(halA, "oak-a"), "oak-a");
  assert.is(acquire(halB, "oak-b"), "oak-a");
  world.runFor(400);
  assert.is(acquire(halA, "oak-a"), "oak-a");
  world.runFor(400);
  assert.is(acquire(halB, "oak-b"), "oak-a");
  world.runFor(600);
  assert.is(acquire(halB, "oak-b"), "oak-b");
  world.runFor(600);
  world.witness.cut("oak-a", "answers");
  assert.is(acquire(halA, "oak-a"), null);
  world.witness.join("oak-a");
  world.witness.isUp = false;
  assert.is(acquire(halA, "oak-a"), null);
});

test.run();
