/** Stage 3: the same volumes over the other protocol, for hosts that speak iSCSI. */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { iscsiTargetName } from "../../firmware/manage/iscsi_name.ts";
import { formatMs } from "../../firmware/shell/quantities.ts";
import { digestOf, fileDigestOf, run, why } from "./hosts.ts";
import { elm, oak, type Stage, settleInSync, uriOf, volumes } from "./stage.ts";

/** Nothing else of the demo lies there. */
const probeOffset = 1008 * 1024 * 1024;

export async function serveOverIscsi(stage: Stage): Promise<void> {
  const { report, workDir } = stage;
  report.step("The same volumes over iSCSI: two portals at each array");
  const portal = iscsiUriOf(stage, oak, null);
  report.command(`iscsi-ls -s ${portal}`);
  const listed = await run("iscsi-ls", ["-s", portal]);
  const luns = listed.out.match(/^Lun:\d+\s+Type:DIRECT_ACCESS/gm) ?? [];
  // One target, two portals at each of its two appliances, all LUNs at each.
  report.require(luns.length === 4 * volumes.length, `an initiator discovers the LUNs of oak: ${luns.length} paths`);

  const lun = iscsiUriOf(stage, oak, "demo-1");
  report.command(`qemu-io -f raw -c 'write -P 0xa5 ${probeOffset} 1M' ${lun}`);
  const written = await run("qemu-io", ["-f", "raw", "-c", `write -P 0xa5 ${probeOffset} 1M`, lun]);
  report.require(written.code === 0, `QEMU writes by iSCSI${written.code === 0 ? "" : `: ${why(written)}`}`);
  await settleInSync(stage, oak, elm, 20_000);

  const image = join(workDir, "iscsi.raw");
  report.command(`qemu-img convert -f raw -O raw ${lun} iscsi.raw`);
  const startedMs = performance.now();
  const read = await run("qemu-img", ["convert", "-f", "raw", "-O", "raw", lun, image]);
  report.require(read.code === 0, `qemu-img read demo-1 by iSCSI${read.code === 0 ? "" : `: ${why(read)}`}`);
  report.fact("1 GiB read by iSCSI", formatMs(performance.now() - startedMs));
  const [overIscsi, overNbd] = [await fileDigestOf(image), await digestOf(uriOf(stage, elm, "demo-1"))];
  rmSync(image);
  report.say(`demo-1  sha256 iSCSI, oak ${overIscsi.slice(0, 32)}...  NBD, elm ${overNbd.slice(0, 32)}...`);
  report.check(overIscsi === overNbd, "what oak serves by iSCSI is what elm's golden copy serves by NBD");
  const golden = iscsiUriOf(stage, elm, "demo-1");
  const refused = await run("qemu-io", ["-f", "raw", "-c", `write -P 1 ${probeOffset} 4096`, golden]);
  report.check(
    refused.code !== 0 || /fail|error/i.test(refused.out),
    `the golden LUN is write-protected: ${why(refused)}`,
  );
}

/** A volume's URL as libiscsi and QEMU take it; null: the portal alone. */
function iscsiUriOf({ lab }: Stage, name: string, volume: (typeof volumes)[number] | null): string {
  const appliance = lab.site.appliances.find((one) => one.name === name);
  const portal = `iscsi://127.0.0.1:${appliance?.iscsiPorts[0]}`;
  if (appliance === undefined || volume === null) return portal;
  return `${portal}/${iscsiTargetName(appliance.array)}/${volumes.indexOf(volume)}`;
}
