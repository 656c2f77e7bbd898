/** A scrub of the whole pool: group after group, everything that is at home, with one report and one event at the end. */
import type { ScrubReport } from "../store/store.ts";
import type { Group } from "../volume/group.ts";
import type { ScrubJson } from "./control.ts";
import type { EventSink } from "./events.ts";

const namedBlocksMax = 1000;
const blockBytes = 4096;

export async function scrubGroups(groups: readonly Group[], events: EventSink): Promise<ScrubJson> {
  const damaged: ScrubJson["damaged"][number][] = [];
  let checkedBytes = 0;
  let damagedBlocks = 0;
  for (const group of groups) {
    const report = await new Promise<ScrubReport>((resolve) => group.store.scrub(() => true, resolve));
    checkedBytes += report.checkedBytes;
    damagedBlocks += report.damaged.length;
    for (const { version, volume, block } of report.damaged.slice(0, namedBlocksMax - damaged.length)) {
      const name = group.volumes().find((one) => one.number === volume)?.name ?? `#${volume}`;
      const fork = version === "head" ? null : version;
      damaged.push({ group: group.name, volume: name, fork, offsetBytes: block * blockBytes });
    }
  }
  const intact = damagedBlocks === 0;
  events.emit(
    intact ? "scrub-intact" : "scrub-damage",
    intact
      ? `everything at home matches its checksums: ${checkedBytes} bytes`
      : `${damagedBlocks} blocks do not match their checksums; they are reported to hosts as medium errors, never served`,
    { checkedBytes, damagedBlocks },
  );
  return { intact, checkedBytes, damagedBlocks, damaged };
}
