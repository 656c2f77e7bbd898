/**
 * The start after a SIGKILL with a full cache: from the signal to the first write that a host gets done, with the death of the old
 * process and the start of the runtime in it.
 *
 * The shelf is told to fail while hosts write, so that nothing is destaged and the cache fills to where admission says busy; the
 * fault dies with the process.
 */

import { killAppliance, startProcess } from "../lab_site/process.ts";
import { requireLab } from "../lab_site/site.ts";
import { startAlone } from "./appliances.ts";
import { type BenchLab, ended, endlessLoad, leftOverOf, portalOf, whenSettled, whenStill } from "./bench_lab.ts";
import { type Finding, mib, type Probe } from "./findings.ts";
import { firstWriteAt } from "./first_write.ts";

const atMostMs = 3000;
const volumeBytes = 1024 ** 3;
const quietMs = 700;

export const restart: Probe = {
  name: "restart",
  question: "start after SIGKILL with a full cache of 256 MiB, to the first write of a host",
  async run(folder, say) {
    const { lab, volume } = await startAlone(folder, volumeBytes);
    try {
      const findings: Finding[] = [];
      for (const [blockBytes, name] of [
        [4096, "4k"],
        [65536, "64k"],
      ] as const) {
        const finding = await killFull(lab, volume, blockBytes, `${name}-records`);
        findings.push(finding);
        say(`  ${finding.work}: ${Math.round(finding.measured)} ms, ${finding.note}`);
      }
      return findings;
    } finally {
      await lab.down();
    }
  },
};

async function killFull(lab: BenchLab, volume: string, blockBytes: number, work: string): Promise<Finding> {
  const oak = lab.find("oak-a");
  await whenSettled(oak, volume);
  await lab.run(["fault", "oak-a", "shelf", "on"]);
  const load = endlessLoad(`${oak.nbd}/${volume}`, "randwrite", blockBytes, 32);
  const dirtyBytes = await whenStill(async () => (await leftOverOf(oak, volume)).cacheDirtyBytes, quietMs);
  const { notDestagedSeqs } = await leftOverOf(oak, volume);
  const site = requireLab(lab.dir);
  const killedMs = performance.now();
  await killAppliance(site, "oak-a");
  startProcess(site, "oak-a");
  const writtenMs = await firstWriteAt(portalOf(oak), volume);
  load.kill("SIGKILL");
  await ended(load);
  return {
    work,
    measured: writtenMs - killedMs,
    unit: "ms",
    atMost: atMostMs,
    note: `${((dirtyBytes ?? 0) / mib).toFixed(0)} MiB in ${notDestagedSeqs} records were not at home`,
  };
}
