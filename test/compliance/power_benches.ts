/** The power ports of both HALs under the compliance suite. */
import { type ChildProcess, spawn } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { LinuxClock } from "../../hal/linux/clock.ts";
import { holderName } from "../../hal/linux/life_lock.ts";
import { LinuxPowerPort } from "../../hal/linux/power.ts";
import { World } from "../../hal/mock/world.ts";
import { makeDirectory, until } from "./linux_bench.ts";
import { Driver } from "./mock_bench.ts";
import type { PowerBench } from "./power_suite.ts";

export async function newLinuxPowerBench(): Promise<PowerBench> {
  const directory = makeDirectory();
  const lockPath = join(directory, "oak-b.life");
  let target: ChildProcess | null = null;
  const runs = (): boolean => target !== null && target.exitCode === null && target.signalCode === null;
  const end = async (): Promise<void> => {
    if (runs()) target?.kill("SIGKILL");
    await until("the end of the target", () => !runs());
  };
  return {
    port: new LinuxPowerPort({ array: "oak", target: "oak-b", lockPath, clock: new LinuxClock() }),
    knowsAtOnce: true,
    until,
    async startTarget() {
      await until("the end of the former target", () => !runs());
      const program = join(import.meta.dirname, "power_target.ts");
      const child = spawn(process.execPath, [program, lockPath, holderName("oak", "oak-b")], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      let said = "";
      child.stdout.on("data", (chunk: Buffer) => {
        said += chunk.toString();
      });
      target = child;
      await until("the target's lock", () => said.includes("holding"));
    },
    stallTarget: () => void target?.kill("SIGSTOP"),
    // The kernel's word: the runtime hears of the end of its child later.
    targetRuns: () => target !== null && isRunning(target.pid ?? 0),
    async close() {
      await end();
      rmSync(directory, { recursive: true });
    },
  };
}

function isRunning(pid: number): boolean {
  const { exitCode, stdout } = Bun.spawnSync(["ps", "-o", "stat=", "-p", String(pid)]);
  return exitCode === 0 && !stdout.toString().trim().startsWith("Z");
}

export function newMockPowerBench(seed: number): PowerBench {
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
    });
  const oakA = add("oak-a", "oak-b");
  const oakB = add("oak-b", "oak-a");
  const driver = new Driver(world);
  return {
    port: oakA.boot().power!,
    knowsAtOnce: true,
    until: (what, condition) => driver.until(what, condition),
    startTarget: async () => void oakB.boot(),
    stallTarget: () => oakB.pause(),
    targetRuns: () => oakB.isUp,
    async close() {
      world.settle();
    },
  };
}
