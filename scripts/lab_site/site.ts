/**
 * A lab's site: which arrays and appliances there are, where their files and ports lie. Kept in `lab.json` under the lab's
 * directory, from the first `up` until `down --wipe`.
 *
 * Layout: `lab.json`, `ARRAY/` (shelves), `APPLIANCE/` (profile, cache, socket, logs, process).
 */
import {
  closeSync,
  existsSync,
  fstatSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { join, resolve } from "node:path";
import * as v from "valibot";
import type { PeerMode } from "../../firmware/manage/status_json.ts";
import { standardPorts } from "./addresses.ts";

/** What the operator did wrong, or the lab cannot do; one line. `usage` means exit 2. */
export class LabError extends Error {
  readonly exitCode: number;
  readonly code: string;
  constructor(text: string, code: string = "failed", exitCode: number = 1) {
    super(text);
    this.code = code;
    this.exitCode = exitCode;
  }
}

const port = v.pipe(v.number(), v.integer(), v.minValue(1024), v.maxValue(65535));
const name = v.pipe(v.string(), v.regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,23}$/));
const bytes = v.pipe(v.number(), v.safeInteger(), v.minValue(1 << 20));

const siteSchema = v.strictObject({
  version: v.literal(1),
  profile: v.string(),
  mode: v.picklist(["sync", "async", "delta"]),
  persistence: v.picklist(["battery", "flush"]),
  /** `netns`: each appliance in a network namespace of its own. Absent in sites from before that. */
  network: v.optional(v.picklist(["loopback", "netns"]), "loopback"),
  cacheBytes: bytes,
  diskBytes: bytes,
  disksPerShelf: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(64)),
  /** Of pairs; null (absent in older sites): what the firmware does by itself. */
  heartbeat: v.optional(v.nullable(v.strictObject({ everyMs: v.number(), missedMax: v.number() })), null),
  /** The demo group is there, in sync, and open to hosts. */
  prepared: v.boolean(),
  volumes: v.array(v.strictObject({ name, sizeBytes: bytes })),
  arrays: v.array(v.strictObject({ name, appliances: v.array(name) })),
  appliances: v.array(
    v.strictObject({
      name,
      array: name,
      nbdPorts: v.array(port),
      nicPorts: v.array(port),
      /** Absent in sites from before iSCSI: their appliances serve NBD alone until the lab is made anew. */
      iscsiPorts: v.optional(v.array(port), []),
      /** Towards the partner; none in an array of one appliance, and absent in sites from before pairs. */
      interconnectPorts: v.optional(v.array(port), []),
    }),
  ),
});

export type Site = v.InferOutput<typeof siteSchema>;
export type SiteAppliance = Site["appliances"][number];

export interface Lab {
  /** Absolute. */
  readonly dir: string;
  site: Site;
}

export const demoGroup = "demo";
/** Sockets have short paths: 108 bytes with the final zero (unix(7)). */
const socketPathBytesMax = 107;

export interface SiteWishes {
  readonly profile: string;
  readonly mode: PeerMode;
  readonly persistence: "battery" | "flush";
  /** On loopback unless said. */
  readonly network?: "loopback" | "netns";
}

/** By profile: the appliances of oak. The first of a pair is the preferred one. */
const oakAppliances = { single: ["oak-a"], pair: ["oak-a", "oak-b"] } as const;
export type BuiltInProfile = keyof typeof oakAppliances;

/** What `up` makes when nothing is said, and what a `FILE` starts from. */
export const defaultProfile: BuiltInProfile = "pair";

export function isBuiltIn(profile: string): profile is BuiltInProfile {
  return Object.hasOwn(oakAppliances, profile);
}

/** The site of `--profile single` or `pair`: what a `FILE` may change of it is in `site_file.ts`. */
export function builtInSite(wishes: SiteWishes): Omit<Site, "appliances"> {
  const profile = isBuiltIn(wishes.profile) ? wishes.profile : defaultProfile;
  return {
    version: 1,
    network: "loopback",
    ...wishes,
    cacheBytes: 256 * 1024 ** 2,
    // Two volumes of 1 GiB, their forks and salvage sets several times over; the files are sparse.
    diskBytes: 8 * 1024 ** 3,
    disksPerShelf: 2,
    heartbeat: null,
    prepared: false,
    volumes: [
      { name: "demo-1", sizeBytes: 1024 ** 3 },
      { name: "demo-2", sizeBytes: 1024 ** 3 },
    ],
    arrays: [
      { name: "oak", appliances: [...oakAppliances[profile]] },
      { name: "elm", appliances: ["elm-a"] },
    ],
  };
}

export async function createLab(dirText: string, plan: Omit<Site, "appliances">): Promise<Lab> {
  const dir = resolve(dirText);
  const appliances = plan.network === "netns" ? withStandardPorts(plan) : await withFreePorts(plan);
  const lab: Lab = { dir, site: { ...plan, appliances } };
  for (const appliance of appliances) checkSocketPath(socketOf(lab, appliance.name));
  mkdirSync(dir, { recursive: true });
  for (const array of plan.arrays) mkdirSync(join(dir, array.name), { recursive: true });
  for (const appliance of appliances) mkdirSync(join(dir, appliance.name), { recursive: true });
  for (const array of plan.arrays.filter(({ appliances: { length } }) => length > 1)) makeSharedDisks(lab, array.name);
  saveLab(lab);
  return lab;
}

const interconnectCount = (array: Site["arrays"][number]): number => (array.appliances.length > 1 ? 2 : 0);

/** All on one address. */
async function withFreePorts({ arrays }: Pick<Site, "arrays">): Promise<SiteAppliance[]> {
  const portCounts = arrays.map((array) => array.appliances.length * (6 + interconnectCount(array)));
  const ports = await freePorts(portCounts.reduce((sum, count) => sum + count, 0));
  return arrays.flatMap((array) =>
    array.appliances.map((applianceName) => ({
      name: applianceName,
      array: array.name,
      nbdPorts: ports.splice(0, 2),
      nicPorts: ports.splice(0, 2),
      iscsiPorts: ports.splice(0, 2),
      interconnectPorts: ports.splice(0, interconnectCount(array)),
    })),
  );
}

/** Each on addresses of its own. */
function withStandardPorts({ arrays }: Pick<Site, "arrays">): SiteAppliance[] {
  const { nbdPorts, nicPorts, iscsiPorts, interconnectPorts } = standardPorts;
  return arrays.flatMap((array) =>
    array.appliances.map((applianceName) => ({
      name: applianceName,
      array: array.name,
      nbdPorts: [...nbdPorts],
      nicPorts: [...nicPorts],
      iscsiPorts: [...iscsiPorts],
      interconnectPorts: interconnectPorts.slice(0, interconnectCount(array)),
    })),
  );
}

/** null: there is no lab. */
export function loadLab(dirText: string): Lab | null {
  const dir = resolve(dirText);
  const path = join(dir, "lab.json");
  if (!existsSync(path)) return null;
  try {
    return { dir, site: v.parse(siteSchema, JSON.parse(readFileSync(path, "utf8"))) };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new LabError(`${path}: ${why}; scripts/lab down --wipe --dir ${dirText} starts over`);
  }
}

export function requireLab(dirText: string): Lab {
  const lab = loadLab(dirText);
  if (lab === null) throw new LabError(`there is no lab in ${resolve(dirText)}: scripts/lab up`, "no-lab");
  return lab;
}

export function saveLab(lab: Lab): void {
  writeWhole(join(lab.dir, "lab.json"), `${JSON.stringify(lab.site, null, 2)}\n`);
}

/** A reader never sees half a file. */
export function writeWhole(path: string, text: string): void {
  const aside = `${path}.${process.pid}.tmp`;
  writeFileSync(aside, text);
  renameSync(aside, path);
}

export function applianceOf(lab: Lab, applianceName: string): SiteAppliance {
  const found = lab.site.appliances.find((appliance) => appliance.name === applianceName);
  if (found !== undefined) return found;
  const names = lab.site.appliances.map((appliance) => appliance.name).join(", ");
  throw new LabError(`there is no appliance ${applianceName} (there are ${names})`, "not-found");
}

/** An array's name means all its appliances. */
export function appliancesOf(lab: Lab, nameText: string): SiteAppliance[] {
  const ofArray = lab.site.appliances.filter((appliance) => appliance.array === nameText);
  return ofArray.length > 0 ? ofArray : [applianceOf(lab, nameText)];
}

/** null: it is its array's only one. */
export function partnerOf(lab: Lab, appliance: SiteAppliance): SiteAppliance | null {
  return lab.site.appliances.find(({ array, name }) => array === appliance.array && name !== appliance.name) ?? null;
}

/** Whether it owns when both are free to: the first one that the site names. */
export function isPreferred(lab: Lab, appliance: SiteAppliance): boolean {
  return lab.site.arrays.some(({ appliances }) => appliances[0] === appliance.name);
}

/** An array has one shelf, which its appliances share. */
export const shelfName = "shelf0";

export function diskPath(lab: Lab, array: string, slot: number): string {
  return join(lab.dir, array, `${shelfName}-${slot}.disk`);
}

/** Two appliances that start at once must find their shelf; a single one makes the files itself. */
function makeSharedDisks(lab: Lab, array: string): void {
  for (let slot = 0; slot < lab.site.disksPerShelf; slot++) {
    const fd = openSync(diskPath(lab, array, slot), "a", 0o600);
    // An `up` that was interrupted may have left it.
    if (fstatSync(fd).size === 0) ftruncateSync(fd, lab.site.diskBytes);
    closeSync(fd);
  }
}

export function pathIn(lab: Lab, applianceName: string, file: string): string {
  return join(lab.dir, applianceName, file);
}

/** What `goldcopy --at` takes. */
export function socketOf(lab: Lab, applianceName: string): string {
  return pathIn(lab, applianceName, "manage.sock");
}

function checkSocketPath(path: string): void {
  if (Buffer.byteLength(path) <= socketPathBytesMax) return;
  throw new LabError(`${path} is too long for a socket (at most ${socketPathBytesMax} bytes): choose a shorter --dir`);
}

/**
 * Ports that nobody listens on now. Taken from below the range that the kernel hands to outgoing connections (from 32768), so
 * that they are still free when an appliance comes back after a while.
 */
async function freePorts(count: number): Promise<number[]> {
  const found: number[] = [];
  let candidate = 12_000 + Math.floor(Math.random() * 20_000);
  for (let tries = 0; found.length < count && tries < 5000; tries++) {
    candidate = candidate >= 32_000 ? 12_000 : candidate + 1;
    if (await isFree(candidate)) found.push(candidate);
  }
  if (found.length < count)
    throw new LabError("there are not enough free TCP ports on 127.0.0.1 between 12000 and 32000");
  return found;
}

function isFree(candidate: number): Promise<boolean> {
  return new Promise((resolvePort) => {
    const server = createServer();
    server.once("error", () => resolvePort(false));
    server.listen(candidate, "127.0.0.1", () => server.close(() => resolvePort(true)));
  });
}
