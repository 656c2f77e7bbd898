/**
 * The network of a `--netns` lab:
 *
 *     the client ── bridge "hosts" 192.0.2.1 ──┬── host0 of oak-a 192.0.2.11
 *       (scripts/lab exec)                     ├── host0 of oak-b 192.0.2.12      and 192.0.2.101, where oak is
 *                                              └── host0 of elm-a 192.0.2.13
 *                   bridge "back" ─────────────┬── back0 of oak-a 198.51.100.11   interconnect and peers
 *                                              └── ...
 *
 * Cuts and shapes of links are the virtual NICs' business, as on loopback.
 */
import { spawnSync } from "node:child_process";
import { clientEnvironment } from "../clients.ts";
import { backAddress, backInterface, clientAddress, hostAddress, hostInterface, withPrefix } from "./addresses.ts";
import {
  allLive,
  clientNamespace,
  endHolders,
  enterWords,
  type Holders,
  makeHolders,
  namespaceTrouble,
  readHolders,
} from "./namespaces.ts";
import { applianceOf, type Lab, LabError, type SiteAppliance } from "./site.ts";

/** Before anything is made. */
export function refuseWithoutNamespaces(): void {
  const trouble = namespaceTrouble();
  if (trouble !== null) throw new LabError(`--netns: ${trouble}, or leave --netns out`, "no-namespaces");
}

/** Makes the network where it is not there; `isRunning`: an appliance that cannot go on without its network. */
export async function ensureNetwork(lab: Lab, isRunning: (name: string) => boolean): Promise<void> {
  if (lab.site.network !== "netns") return;
  const names = lab.site.appliances.map(({ name }) => name);
  if (allLive(readHolders(lab.dir), [clientNamespace, ...names])) return;
  const cutOff = names.find(isRunning);
  if (cutOff !== undefined)
    throw new LabError(`${cutOff} has lost its network: scripts/lab down, then scripts/lab up`, "failed");
  refuseWithoutNamespaces();
  await endHolders(lab.dir);
  const holders = await makeHolders(lab.dir, names);
  configure(holders, clientNamespace, [
    "link set lo up",
    "link add hosts type bridge",
    `address add ${clientAddress} dev hosts`,
    "link set hosts up",
    "link add back type bridge",
    "link set back up",
  ]);
  for (const [index, appliance] of lab.site.appliances.entries()) plug(lab, holders, appliance, index);
}

/** Two cables, from the bridges into the appliance's namespace. */
function plug(lab: Lab, holders: Holders, appliance: SiteAppliance, index: number): void {
  const { pid } = holders.processes[appliance.name]!;
  const cables = [
    { bridge: "hosts", near: `h${index}`, far: hostInterface, address: hostAddress(lab, appliance) },
    { bridge: "back", near: `b${index}`, far: backInterface, address: backAddress(lab, appliance) },
  ];
  configure(
    holders,
    clientNamespace,
    cables.flatMap(({ bridge, near, far }) => [
      `link add ${near} type veth peer name ${far} netns ${pid}`,
      `link set ${near} master ${bridge} up`,
    ]),
  );
  configure(holders, appliance.name, [
    "link set lo up",
    ...cables.flatMap(({ far, address }) => [`address add ${withPrefix(address)} dev ${far}`, `link set ${far} up`]),
  ]);
}

function configure(holders: Holders, namespace: string, lines: readonly string[]): void {
  const [program, ...args] = [...enterWords(holders, namespace), "ip", "-batch", "-"];
  const ran = spawnSync(program!, args, { env: clientEnvironment, input: `${lines.join("\n")}\n`, encoding: "utf8" });
  if (ran.status === 0) return;
  const why = ran.error?.message ?? ran.stderr.trim().split("\n")[0] ?? "";
  throw new LabError(`the network of ${namespace} could not be made: ${why}`);
}

/** What a command line begins with so that it runs where the appliance does; null: where hosts are. Empty on loopback: all are here. */
export function networkWords(lab: Lab, applianceName: string | null): string[] {
  if (applianceName !== null) applianceOf(lab, applianceName);
  if (lab.site.network !== "netns") return [];
  const holders = readHolders(lab.dir);
  return enterWords(holders ?? { hasUserNamespace: false, processes: {} }, applianceName ?? clientNamespace);
}
