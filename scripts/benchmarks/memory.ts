/**
 * Resident memory of an appliance with 1 TiB of fully mapped volumes and a full cache: four volumes of 256 GiB whose maps are made
 * by `map_filler.ts` while the appliance is down, then random reads and writes all over them, so that leaves of the map are paged in
 * and out and the cache fills. Resident is what the kernel counts (VmHWM, the peak), the mapped cache included.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { applianceEnv } from "../appliance_env.ts";
import { profilePath } from "../lab_site/profile.ts";
import { requireLab } from "../lab_site/site.ts";
import { siteAlone } from "./appliances.ts";
import { labUp, output } from "./bench_lab.ts";
import { type Finding, mib, type Probe } from "./findings.ts";
import { lean } from "./generators.ts";
import type { LoadKind } from "./load/plan.ts";

const atMostMib = 600;
const volumes = ["demo-1", "demo-2", "demo-3", "demo-4"];
const seconds = 2;

export const memory: Probe = {
  name: "memory",
  question: "resident memory with 1 TiB of volumes, fully mapped, and a cache of 256 MiB",
  async run(folder, say) {
    const list = volumes.map((name) => `{ name = "${name}", size = "256GiB" }`).join(", ");
    const lines = ['cache = "256MiB"', "disks = 2", 'disk_size = "600GiB"', `volumes = [${list}]`];
    const lab = await labUp(join(folder, "full"), ["--profile", siteAlone(folder, "full", lines)]);
    try {
      await lab.run(["stop", "oak-a"]);
      const filler = join(import.meta.dir, "map_filler.ts");
      const filled = await output(
        process.execPath,
        [filler, profilePath(requireLab(lab.dir), "oak-a")],
        applianceEnv(),
      );
      const { mappedBytes, metadataBytes } = JSON.parse(filled) as { mappedBytes: number; metadataBytes: number };
      await lab.run(["start", "oak-a"]);
      const portal = lab.find("oak-a").nbd;
      const { appliances } = JSON.parse(await lab.run(["status"])) as { appliances: { pid: number }[] };
      const pid = appliances[0]?.pid ?? 0;
      const maps = `${(mappedBytes / 2 ** 40).toFixed(2)} TiB mapped, ${(metadataBytes / mib).toFixed(0)} MiB of maps on the shelf`;
      const findings: Finding[] = [];
      const note = (work: string, after: string) => {
        const finding = {
          work,
          measured: peakMib(pid),
          unit: "MiB",
          atMost: atMostMib,
          note: `${maps}; ${after}`,
        } as const;
        findings.push(finding);
        say(`  ${work}: ${finding.measured.toFixed(0)} MiB, ${finding.note}`);
      };
      note("1tib-idle", "just started");
      for (const volume of volumes) await load(`${portal}/${volume}`, "randread", 4096, 32);
      note("1tib-reads", "after random reads of all of it");
      for (const volume of volumes) await load(`${portal}/${volume}`, "randwrite", 4096, 32);
      for (const volume of volumes) await load(`${portal}/${volume}`, "write", mib, 4);
      note("1tib-writes", "after random and sequential writes as well");
      return findings;
    } finally {
      await lab.down();
    }
  },
};

async function load(url: string, kind: LoadKind, blockBytes: number, depth: number): Promise<void> {
  await lean({ url, kind, blockBytes, depth, connections: 1, seconds, sizeBytes: 0, until: "timed" });
}

/** The largest resident size so far (proc(5), VmHWM, in KiB). */
function peakMib(pid: number): number {
  const line = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(line?.[1] ?? Number.NaN) / 1024;
}
