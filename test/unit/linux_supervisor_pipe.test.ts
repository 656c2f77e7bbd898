import { spawnSync } from "node:child_process";
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Clock } from "../../hal/api/clock.ts";
import { SupervisorPipe } from "../../hal/linux/supervisor_pipe.ts";

const test = suite("linux_supervisor_pipe");

const pipeBytes = 65536;
let dir = "";
let path = "";

/** Time passes when it is told to. */
class HandClock implements Pick<Clock, "after"> {
  #due: (() => void)[] = [];

  after(_delayMs: number, fire: () => void) {
    this.#due.push(fire);
    return { cancel: () => {} };
  }

  tick(): void {
    const due = this.#due;
    this.#due = [];
    for (const fire of due) fire();
  }
}

/** All that lies in the pipe. */
function wordsIn(fd: number): string[] {
  const buffer = Buffer.alloc(pipeBytes);
  try {
    return buffer
      .subarray(0, readSync(fd, buffer))
      .toString()
      .split("\n")
      .filter((word) => word !== "");
  } catch {
    return [];
  }
}

test.before.each(() => {
  dir = mkdtempSync(join(tmpdir(), "goldcopy-pipe-"));
  path = join(dir, "pipe");
  assert.is(spawnSync("mkfifo", [path]).status, 0);
});

test.after.each(() => rmSync(dir, { recursive: true, force: true }));

test("a supervisor listens -> it is told at once and with every turn of the loop, and once that hosts are served", () => {
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  const hand = new HandClock();
  const pipe = new SupervisorPipe(path, hand);
  assert.equal(wordsIn(fd), ["turns"]);
  hand.tick();
  hand.tick();
  pipe.serves();
  assert.equal(wordsIn(fd), ["turns", "turns", "serves"]);
  assert.equal(wordsIn(fd), [], "nothing while the loop stands still");
  closeSync(fd);
});

test("a supervisor that does not read, or is gone -> nothing waits, nothing fails", () => {
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  const hand = new HandClock();
  new SupervisorPipe(path, hand);
  for (let turn = 0; turn < pipeBytes; turn++) hand.tick();
  const lineBytes = "turns\n".length;
  assert.ok(wordsIn(fd).length > pipeBytes / lineBytes - 1000, "the pipe was full");
  closeSync(fd);
  hand.tick();
});

test("no supervisor, or none that listens -> nothing is said", () => {
  const hand = new HandClock();
  new SupervisorPipe(undefined, hand).serves();
  new SupervisorPipe(path, hand).serves();
  new SupervisorPipe(join(dir, "absent"), hand).serves();
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  hand.tick();
  assert.equal(wordsIn(fd), []);
  closeSync(fd);
});

test.run();
