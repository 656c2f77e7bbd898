/** What is wrong between the fields of a board profile though each of them is right. */
import type { BoardProfile } from "./board_profile.ts";

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
    firstTwice("address", "give each port its own address", listenAddresses(profile)) ??
    firstTwice(
      "name",
      "give each shelf its own name",
      board.shelves.map(({ name }, index) => ({ value: name, field: `shelf[${index}].name` })),
    ) ??
    diskConflict(profile) ??
    firstTwice("path", "give each its own file", paths(profile)) ??
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

function listenAddresses({ board }: BoardProfile): Used[] {
  const uses = [
    ...board.hbas.map(({ listen }, index) => ({ value: listen, field: `hba[${index}].listen` })),
    ...board.nics.map(({ listen }, index) => ({ value: listen, field: `nic[${index}].listen` })),
  ];
  // Port 0 takes a free one each time.
  return uses.filter(({ value }) => !/:0+$/.test(value));
}

function paths({ board, socket, logFile }: BoardProfile): Used[] {
  const uses: Used[] = [
    { value: socket, field: "manage.socket" },
    { value: logFile, field: "log.file" },
    { value: board.cache.path, field: "cache.path" },
  ];
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

function peerConflict({ config }: BoardProfile): string | null {
  const { peers, array } = config;
  const own = peers.findIndex((peer) => peer.array === array.name);
  if (own >= 0) return `peer[${own}].array: "${array.name}" is this array itself; name the other one`;
  const appliances: Used[] = [{ value: array.appliance, field: "array.appliance" }];
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
