/** What is wrong between the fields of a board profile though each of them is right. */
import type { BoardProfile } from "./board_profile.ts";
import { exampleOf, isDevicePath } from "./board_profile_schema.ts";
import { serviceConflict } from "./service_conflicts.ts";

/** One peer heartbeat may be lost and another late before the peer counts as gone. */
const heartbeatsPerTimeoutMin = 3;

/** The first conflict, as `field: what; remedy`; null: none. */
export function profileConflict(profile: BoardProfile): string | null {
  const { board, config } = profile;
  return (
    firstTwice("name", "give each port its own name", [
      ...board.hbas.map(({ name }, index) => ({ value: name, field: `hba[${index}].name` })),
      ...board.nics.map(({ name }, index) => ({ value: name, field: `nic[${index}].name` })),
    ]) ??
    wildcardPortal(profile) ??
    firstTwice("address", "give each port its own address", portAddresses(profile)) ??
    firstTwice(
      "name",
      "give each shelf its own name",
      board.shelves.map(({ name }, index) => ({ value: name, field: `shelf[${index}].name` })),
    ) ??
    diskConflict(profile) ??
    firstTwice("path", "give each its own file", paths(profile)) ??
    pairConflict(profile) ??
    serviceConflict(profile) ??
    peerConflict(profile) ??
    (config.link.peerTimeoutMs < heartbeatsPerTimeoutMin * config.link.heartbeatMs
      ? `link.peer_timeout_ms: ${config.link.peerTimeoutMs} is less than ${heartbeatsPerTimeoutMin} heartbeats of ` +
        `${config.link.heartbeatMs}; write for example peer_timeout_ms = ${10 * config.link.heartbeatMs}`
      : null)
  );
}

/** Initiators are told the portals' addresses (SendTargets). */
function wildcardPortal({ board }: BoardProfile): string | null {
  const at = board.hbas.findIndex(
    ({ protocol, listen }) => protocol === "iscsi" && /^(?:0\.0\.0\.0|\[[0:]+\]):/.test(listen),
  );
  if (at < 0) return null;
  return `hba[${at}].listen: iSCSI hosts are told this address, and "${board.hbas[at]?.listen}" is none that they can reach; write the port's own address`;
}

interface Used {
  readonly value: string;
  readonly field: string;
}

function firstTwice(what: string, remedy: string, uses: readonly Used[]): string | null {
  const fields = new Map<string, string>();
  for (const { value, field } of uses) {
    const other = fields.get(value);
    if (other !== undefined) return `${field}: ${JSON.stringify(value)} is the ${what} of ${other} too; ${remedy}`;
    fields.set(value, field);
  }
  return null;
}

/** The partner's belong to them: an appliance that called itself would find a partner. */
function portAddresses({ board, config, managementPort }: BoardProfile): Used[] {
  const uses = [
    ...board.hbas.map(({ listen }, index) => ({ value: listen, field: `hba[${index}].listen` })),
    ...board.nics.map(({ listen }, index) => ({ value: listen, field: `nic[${index}].listen` })),
  ];
  if (managementPort !== null) uses.push({ value: managementPort.listen, field: "manage.listen" });
  for (const [index, address] of (config.pair?.addresses ?? []).entries())
    uses.push({ value: address, field: `pair.addresses[${index}]` });
  // Port 0 takes a free one each time.
  return uses.filter(({ value }) => !/:0+$/.test(value));
}

function paths({ board, socket, logFile }: BoardProfile): Used[] {
  const uses: Used[] = [
    { value: socket, field: "manage.socket" },
    { value: logFile, field: "log.file" },
    { value: board.cache.path, field: "cache.path" },
  ];
  if (board.power?.kind === "process") {
    uses.push({ value: board.power.lockPath, field: "power.lock" });
    uses.push({ value: board.power.targetLockPath, field: "power.target_lock" });
  }
  if (board.nicShapingFile !== null) uses.push({ value: board.nicShapingFile, field: "nic_shaping.file" });
  for (const [index, { disks }] of board.shelves.entries()) {
    for (const [at, { path }] of disks.entries()) uses.push({ value: path, field: `shelf[${index}].disk[${at}].path` });
  }
  return uses;
}

function diskConflict({ board }: BoardProfile): string | null {
  for (const [index, { disks }] of board.shelves.entries()) {
    for (const [at, { create, sizeBytes }] of disks.entries()) {
      if (create && sizeBytes === null) {
        return `shelf[${index}].disk[${at}].size: missing, but create = true needs it; write for example size = "10GiB"`;
      }
    }
    const slots = disks.map(({ slot }, at) => ({ value: String(slot), field: `shelf[${index}].disk[${at}].slot` }));
    const conflict = firstTwice("slot", "give each disk its own slot", slots);
    if (conflict !== null) return conflict;
  }
  return null;
}

/** What holds two appliances apart on one set of shelves, and what connects them. */
function pairConflict(profile: BoardProfile): string | null {
  const { board, config } = profile;
  const { pair, array, peers } = config;
  const fencing = fencingConflict(profile);
  if (fencing !== null) return fencing;
  if (pair === null) {
    return board.power === undefined
      ? null
      : "power: there is no [pair], so nobody could be switched off; describe the partner in [pair], or remove [power]";
  }
  if (pair.partner === array.appliance)
    return `pair.partner: "${pair.partner}" is this appliance itself; name the other one`;
  const named = pair.nics.map((value, index) => ({ value, field: `pair.nics[${index}]` }));
  const twice = firstTwice("name", "name each NIC of the interconnect once", named);
  if (twice !== null) return twice;
  const nics = board.nics.map(({ name }) => name);
  const unknown = named.find(({ value }) => !nics.includes(value));
  if (unknown !== undefined)
    return `${unknown.field}: there is no [[nic]] ${JSON.stringify(unknown.value)}; name some of ${nics.join(", ")}`;
  if (pair.addresses.length !== pair.nics.length) {
    return (
      `pair.addresses: ${pair.addresses.length} for ${pair.nics.length} NICs; ` +
      "write one address of the partner for each of pair.nics, in their order"
    );
  }
  if (pair.hungMs < pair.limitMs) {
    return (
      `pair.hung_ms: ${pair.hungMs} is less than the ${pair.limitMs} ms after which a silent partner is lost (heartbeat_ms x missed_max); ` +
      `write for example hung_ms = ${2 * pair.limitMs}, or leave it out`
    );
  }
  if (peers.length > 0 && nics.length === pair.nics.length) {
    return (
      "pair.nics: every [[nic]] is the interconnect, and none is left for the [[peer]] tables; " +
      "add a [[nic]] for peers, or name fewer"
    );
  }
  return null;
}

function fencingConflict({ board, config }: BoardProfile): string | null {
  const [first] = board.shelves;
  for (const [index, { fencing }] of board.shelves.entries()) {
    const field = `shelf[${index}].fencing`;
    if (config.pair === null && fencing !== "none")
      return `${field}: "${fencing}" is for pairs and locks no disk, and there is no [pair]; write fencing = "none", or describe [pair]${fencing === "power" ? " and [power]" : ""}`;
    if (config.pair === null) continue;
    if (fencing === "none")
      return `${field}: \`none\` cannot hold a pair, because nothing keeps a lost partner from writing; write fencing = "power", or "atomic" for disks that evict it`;
    if (first !== undefined && fencing !== first.fencing)
      return `${field}: "${fencing}", and shelf[0].fencing is "${first.fencing}"; a lost partner is fenced in one way: write the same for every shelf`;
    if (fencing === "power" && board.power === undefined)
      return `power: missing, but ${field} = "power" needs it to switch the partner off; write for example ${exampleOf(["power"])}`;
    if (fencing === "atomic" && board.power !== undefined)
      return `power: ${field} = "atomic" says that the disks evict a lost partner, so nobody is switched off; remove [power], or write fencing = "power"`;
  }
  return evictionConflict(board);
}

/** Which device can evict, the appliance finds out when it starts; a file never can. */
function evictionConflict({ shelves }: BoardProfile["board"]): string | null {
  for (const [index, { fencing, disks }] of shelves.entries()) {
    const at = disks.findIndex(({ path }) => fencing === "atomic" && !isDevicePath(path));
    if (at >= 0)
      return `shelf[${index}].disk[${at}].path: "${disks[at]?.path}" is a file, and shelf[${index}].fencing = "atomic" needs disks that evict a lost partner (SCSI persistent reservations); name a device, or write fencing = "power"`;
  }
  return null;
}

function peerConflict({ config }: BoardProfile): string | null {
  const { peers, array, pair } = config;
  const own = peers.findIndex((peer) => peer.array === array.name);
  if (own >= 0) return `peer[${own}].array: "${array.name}" is this array itself; name the other one`;
  const appliances: Used[] = [{ value: array.appliance, field: "array.appliance" }];
  if (pair !== null) appliances.push({ value: pair.partner, field: "pair.partner" });
  for (const [index, peer] of peers.entries()) {
    for (const [at, { name }] of peer.appliances.entries()) {
      appliances.push({ value: name, field: `peer[${index}].appliances[${at}].name` });
    }
  }
  const arrays = peers.map((peer, index) => ({ value: peer.array, field: `peer[${index}].array` }));
  return (
    firstTwice("name", "put all its appliances into one [[peer]]", arrays) ??
    firstTwice("name", "give each appliance its own name", appliances)
  );
}
