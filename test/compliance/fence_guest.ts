/**
 * The fence of the HAL on Linux under the compliance suite, on real block devices: `bun fence_guest.ts DEVICE-OF-A DEVICE-OF-B`, two ways to one disk
 * that nothing else uses, each an initiator of its own. Needs sg_persist, by which the disk is cleared before each test, and CAP_SYS_RAWIO.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { LinuxBoard } from "../../hal/linux/board.ts";
import { type LinuxHal, openLinuxHal } from "../../hal/linux/open.ts";
import { type FenceBench, type FencedAppliance, type FencedDisk, fenceSuite } from "./fence_suite.ts";

const untilMsMax = 60_000;
const [deviceOfA, deviceOfB] = process.argv.slice(2);
if (deviceOfA === undefined || deviceOfB === undefined) throw new Error("two devices are to be named");
const devices: Record<FencedAppliance, string> = { "oak-a": deviceOfA, "oak-b": deviceOfB };

function boardOf(directory: string, appliance: FencedAppliance): LinuxBoard {
  return {
    appliance,
    hbas: [],
    nics: [],
    cache: { path: join(directory, appliance), sizeBytes: 1 << 20, persistence: "battery" },
    shelves: [
      {
        name: "shelf0",
        fencing: "atomic",
        disks: [{ slot: 0, path: devices[appliance], sizeBytes: null, create: false }],
      },
    ],
    nicShapingFile: null,
  };
}

/** Of sg_persist: the disk had to say first what happened before (a unit attention). */
const exitAttention = 6;
const attentionsMax = 16;

function persist(...words: string[]): void {
  const ran = () => spawnSync("sg_persist", ["-n", ...words], { encoding: "utf8" });
  let { status, stdout, stderr } = ran();
  for (let again = 0; status === exitAttention && again < attentionsMax; again++) ({ status, stdout, stderr } = ran());
  if (status !== 0) throw new Error(`sg_persist ${words.join(" ")}: exit ${status}\n${stdout}\n${stderr}`);
}

async function until(what: string, condition: () => boolean): Promise<void> {
  const giveUpMs = performance.now() + untilMsMax;
  while (!condition()) {
    if (performance.now() > giveUpMs) throw new Error(`waited ${untilMsMax} ms in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

fenceSuite("linux", async (): Promise<FenceBench> => {
  persist("--out", "--register-ignore", "--param-sark=5d", devices["oak-a"]);
  persist("--out", "--clear", "--param-rk=5d", devices["oak-a"]);
  const directory = mkdtempSync(join(tmpdir(), "goldcopy-fence-"));
  const hals = new Map<FencedAppliance, LinuxHal>();
  return {
    async boot(appliance) {
      await hals.get(appliance)?.close();
      const opened = await openLinuxHal(boardOf(directory, appliance));
      if ("error" in opened) throw new Error(opened.error);
      hals.set(appliance, opened);
      const disk = opened.hal.shelves[0]?.disks[0];
      if (disk?.fence === undefined) throw new Error(opened.diskProblems.join("; "));
      return disk as FencedDisk;
    },
    setDiskFault(appliance, on) {
      hals.get(appliance)?.setDiskFault("shelf0/0", on);
    },
    until,
    async close() {
      for (const hal of hals.values()) await hal.close();
      rmSync(directory, { recursive: true });
    },
  };
});
