/**
 * Cuts and shapes of the virtual links: of the interconnect between partners, of the peer NICs between arrays. `links.json` is what the operator asked for; each appliance has what it sends in its own
 * shaping file, read at its start, and in force by its API while it runs.
 *
 * Invariant: when a command returns, the link is as asked, and it is so again after a restart of either side.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { LinkShape } from "../../firmware/manage/control.ts";
import { demandWhenStarted } from "./appliances.ts";
import { interconnectNicName, peerNicName } from "./profile.ts";
import { running } from "./runner.ts";
import { appliancesOf, type Lab, LabError, pathIn, type SiteAppliance, writeWhole } from "./site.ts";

export interface Shape {
  readonly cut: boolean;
  readonly latencyMs: number;
  readonly jitterMs: number;
  readonly rateBytesPerSecond: number | null;
  readonly loss: number;
}

export const plainLink: Shape = { cut: false, latencyMs: 0, jitterMs: 0, rateBytesPerSecond: null, loss: 0 };

/** What `from` sends to `to` through its NIC `nic`. */
interface Link {
  readonly from: string;
  readonly to: string;
  readonly nic: string;
  readonly shape: Shape;
}

const linksPath = (lab: Lab): string => join(lab.dir, "links.json");

export function readLinks(lab: Lab): Link[] {
  const path = linksPath(lab);
  if (!existsSync(path)) return [];
  const kept = JSON.parse(readFileSync(path, "utf8")) as (Omit<Link, "nic"> & { readonly nic: string | number })[];
  // Labs from before pairs have numbers here: peer NICs were all there was.
  return kept.map(({ nic, ...link }) => ({ ...link, nic: typeof nic === "number" ? peerNicName(nic) : nic }));
}

export interface LinkChange {
  readonly from: string;
  readonly to: string;
  /** Only what `from` sends. */
  readonly oneWay: boolean;
  /** A NIC's name, or its number among those of the link; null: all of them. */
  readonly nic: string | null;
  readonly change: Partial<Shape>;
}

export async function changeLinks(lab: Lab, wish: LinkChange): Promise<Link[]> {
  const links = readLinks(lab);
  const pairs = directions(lab, wish);
  for (const { from } of pairs) {
    const found = await running(lab, from.name);
    if (found?.paused) throw new LabError(`${from.name} is paused: scripts/lab resume ${from.name} first`, "paused");
    // Its shaping file lies on its own disk.
    if (found === null && lab.site.machines === "vm")
      throw new LabError(
        `${from.name} is off, and a virtual machine keeps its links itself: scripts/lab start ${from.name} first`,
        "down",
      );
  }
  const changed: Link[] = [];
  for (const { from, to } of pairs) {
    for (const nic of nicsOf(from, to, wish.nic)) {
      const index = links.findIndex((link) => link.from === from.name && link.to === to.name && link.nic === nic);
      const former = index < 0 ? plainLink : links[index]!.shape;
      const link = { from: from.name, to: to.name, nic, shape: { ...former, ...wish.change } };
      if (index >= 0) links.splice(index, 1);
      if (JSON.stringify(link.shape) !== JSON.stringify(plainLink)) links.push(link);
      changed.push(link);
    }
  }
  writeWhole(linksPath(lab), `${JSON.stringify(links, null, 2)}\n`);
  for (const link of changed) await enforce(lab, link, links);
  return changed;
}

/** Of a running appliance by its API (which keeps the file), of a stopped one by the file that it reads at its start. */
async function enforce(lab: Lab, link: Link, links: readonly Link[]): Promise<void> {
  if ((await running(lab, link.from)) !== null) {
    const body: LinkShape = { nic: link.nic, remote: link.to, ...link.shape };
    // To the appliance itself, whoever owns the groups: what it sends is nobody else's to shape.
    await demandWhenStarted(lab, link.from, "POST", "/v1/lab/shape", body);
  } else {
    writeShapingFile(lab, link.from, links);
  }
}

/** `{NIC: {REMOTE: shaping}}`, as hal/linux keeps it. */
function writeShapingFile(lab: Lab, from: string, links: readonly Link[]): void {
  const document: Record<string, Record<string, Shape>> = {};
  for (const link of links.filter((candidate) => candidate.from === from)) {
    const remotes = document[link.nic] ?? {};
    remotes[link.to] = link.shape;
    document[link.nic] = remotes;
  }
  writeWhole(pathIn(lab, from, "shaping.json"), `${JSON.stringify(document, null, 2)}\n`);
}

function directions(lab: Lab, wish: LinkChange): { from: SiteAppliance; to: SiteAppliance }[] {
  const found: { from: SiteAppliance; to: SiteAppliance }[] = [];
  for (const a of appliancesOf(lab, wish.from)) {
    for (const b of appliancesOf(lab, wish.to)) {
      if (a.name === b.name)
        throw new LabError(`${wish.from} and ${wish.to} are not apart: name two appliances or arrays`, "usage", 2);
      found.push({ from: a, to: b });
      if (!wish.oneWay) found.push({ from: b, to: a });
    }
  }
  return found;
}

function nicsOf(from: SiteAppliance, to: SiteAppliance, nic: string | null): string[] {
  const isInterconnect = from.array === to.array;
  const ports = isInterconnect ? from.interconnectPorts : from.nicPorts;
  const all = ports.map((_, index) => (isInterconnect ? interconnectNicName(index) : peerNicName(index)));
  if (nic === null) return all;
  const chosen = /^\d+$/.test(nic) ? all[Number(nic)] : all.find((name) => name === nic);
  if (chosen !== undefined) return [chosen];
  throw new LabError(`${from.name} has no NIC ${nic} towards ${to.name} (it has ${all.join(", ")})`, "usage", 2);
}
