/** Whose life a lock is (`hal/linux/life_lock.ts`): a profile with a wrong name, or a wrong lock, switches off nobody. */
import { type ChildProcess, spawn } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { LinuxClock } from "../../hal/linux/clock.ts";
import { holderName } from "../../hal/linux/life_lock.ts";
import { LinuxPowerPort } from "../../hal/linux/power.ts";
import { makeDirectory, until } from "../compliance/linux_bench.ts";

const test = suite("linux_life_lock");
const directory = makeDirectory();
const lockPath = join(directory, "oak-a.life");
let holder: ChildProcess | null = null;

async function hold(...name: string[]): Promise<void> {
  const program = join(import.meta.dirname, "../compliance/power_target.ts");
  const child = spawn(process.execPath, [program, lockPath, ...name], { stdio: ["ignore", "pipe", "inherit"] });
  let said = "";
  child.stdout.on("data", (chunk: Buffer) => {
    said += chunk.toString();
  });
  holder = child;
  await until("the lock", () => said.includes("holding"));
}

const runs = (): boolean => holder !== null && holder.exitCode === null && holder.signalCode === null;

async function end(): Promise<void> {
  if (runs()) holder?.kill("SIGKILL");
  await until("its end", () => !runs());
}

function portFor(array: string, target: string): LinuxPowerPort {
  return new LinuxPowerPort({ array, target, lockPath, clock: new LinuxClock() });
}

function kill(port: LinuxPowerPort): Promise<string | null> {
  return new Promise((resolve) => port.kill(resolve));
}

test.after(async () => {
  await end();
  rmSync(directory, { recursive: true });
});

test("the lock of an appliance that the profile does not mean -> it lives on; when it has ended, nobody has the lock", async () => {
  await hold(holderName("oak", "oak-a"));
  for (const [array, target] of [
    ["oak", "oak-z"],
    ["pine", "oak-a"],
  ] as const) {
    const port = portFor(array, target);
    const doubt = await kill(port);
    assert.match(doubt ?? "", /is the lock of oak\/oak-a, and the partner here is .*; correct /);
    assert.ok(runs());
    assert.not(port.isDead());
  }
  await end();
  const free = portFor("oak", "oak-z");
  assert.ok(free.isDead(), "it may have another name by now");
  assert.is(await kill(free), null);
});

test("the appliance that is meant, and one of a version that wrote no name -> killed and proven dead", async () => {
  for (const name of [[holderName("oak", "oak-a")], []]) {
    await hold(...name);
    const port = portFor("oak", "oak-a");
    assert.not(port.isDead());
    assert.is(await kill(port), null);
    assert.ok(port.isDead());
    await until("its end", () => !runs());
  }
});

test("a file that says nothing, or nonsense -> free when nobody holds it", () => {
  for (const text of ["", "\n", "x", "1 2", "99999999999 x oak/oak-a"]) {
    writeFileSync(lockPath, text);
    assert.ok(portFor("oak", "oak-a").isDead(), JSON.stringify(text));
  }
});

test.run();
