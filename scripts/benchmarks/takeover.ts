/**
 * A takeover with a full log: the primary is killed while the golden side has received as much as its cache holds and applied none
 * of it. From the operator's command to the first write that a host gets done there, the listening for the primary included.
 *
 * The golden side's shelf is told to fail while the log arrives, so that nothing is applied; it is good again from the kill on.
 */
import { join } from "node:path";
import { killAppliance } from "../lab_site/process.ts";
import { requireLab } from "../lab_site/site.ts";
import {
  ended,
  endlessLoad,
  goldcopy,
  labUp,
  leftOverOf,
  portalOf,
  statusOf,
  whenSettled,
  whenStill,
} from "./bench_lab.ts";
import { mib, type Probe } from "./findings.ts";
import { firstWriteAt } from "./first_write.ts";

const atMostMs = 3000;
const quietMs = 1000;
const group = "demo";
const volume = "demo-1";

export const takeover: Probe = {
  name: "takeover",
  question: "takeover with up to 256 MiB of log received and not applied, to the first write of a host",
  async run(folder, say) {
    const lab = await labUp(join(folder, "pair"), ["--profile", "single", "--mode", "async"]);
    try {
      const [oak, elm] = [lab.find("oak-a"), lab.find("elm-a")];
      // A shelf that fails in the middle of a commit fails the group until the next start; with nothing to destage there is none.
      await whenSettled(elm, volume);
      await lab.run(["fault", "elm-a", "shelf", "on"]);
      const load = endlessLoad(`${oak.nbd}/${volume}`, "randwrite", 4096, 32);
      const receivedSeq = async () => (await statusOf(elm)).groups.find(({ name }) => name === group)?.receivedSeq ?? 0;
      await whenStill(receivedSeq, quietMs);
      const { cacheDirtyBytes, notDestagedSeqs } = await leftOverOf(elm, volume);
      await killAppliance(requireLab(lab.dir), "oak-a");
      load.kill("SIGKILL");
      await ended(load);
      await lab.run(["fault", "elm-a", "shelf", "off"]);
      const askedMs = performance.now();
      const taking = goldcopy(elm, ["group", "takeover", group]);
      const writtenMs = await Promise.race([
        firstWriteAt(portalOf(elm), volume),
        // A refusal is the command's failure; its success alone is not the end.
        taking.then(() => new Promise<never>(() => {})),
      ]);
      await taking;
      const finding = {
        work: "full-log",
        measured: writtenMs - askedMs,
        unit: "ms",
        atMost: atMostMs,
        note: `${(cacheDirtyBytes / mib).toFixed(0)} MiB, ${notDestagedSeqs} records were received and not applied`,
      } as const;
      say(`  ${finding.work}: ${Math.round(finding.measured)} ms, ${finding.note}`);
      return [finding];
    } finally {
      await lab.down();
    }
  },
};
