/** `goldcopy status`: one screen that says whether everything is well, and if not, what and why. */
import type {
  ApplianceJson,
  GroupJson,
  OperationJson,
  PeerJson,
  ReplicaState,
  StatusJson,
} from "../manage/status_json.ts";
import { formatBytes, formatCount, formatMs } from "./quantities.ts";
import { bar, printable, type Style, type Tone, table, tone } from "./screen.ts";

const stateTones: Readonly<Record<ReplicaState, Tone>> = {
  "in-sync": "good",
  "catching-up": "warn",
  resyncing: "warn",
  consistent: "warn",
  inconsistent: "bad",
  diverged: "bad",
  disconnected: "bad",
  suspended: "bad",
};

const batteryTones = { good: "good", failed: "bad", unknown: "dim" } as const;

export function statusView(style: Style, status: StatusJson): string {
  const parts = [
    `${tone(style, "bold", `array ${status.array}`)}  (${status.appliance}, goldcopy ${status.version})`,
    applianceTable(style, status.appliances),
  ];
  if (status.pair !== null) parts.push(`pair: ${status.pair.state} with ${status.pair.partner}`);
  // While it starts, nobody knows yet which groups there are.
  const isStarting = status.appliances.some(({ name, state }) => name === status.appliance && state === "starting");
  if (status.groups.length > 0) parts.push(groupTable(style, status.groups));
  else if (!isStarting) parts.push("no groups yet: goldcopy group create NAME");
  const remarks = status.groups.flatMap((group) => groupRemarks(style, group));
  if (remarks.length > 0) parts.push(remarks.join("\n"));
  if (status.warnings.length > 0) {
    parts.push(
      status.warnings
        .map((warning) => `${tone(style, "warn", "warning")} ${printable(warning.text)} (${warning.code})`)
        .join("\n"),
    );
  }
  return parts.join("\n\n");
}

function applianceTable(style: Style, appliances: readonly ApplianceJson[]): string {
  return table(
    style,
    ["APPLIANCE", "STATE", "BATTERY", "CACHE DIRTY>", "CACHE>"],
    appliances.map((appliance) => [
      appliance.name,
      tone(style, appliance.state === "up" ? "good" : appliance.state === "down" ? "bad" : "warn", appliance.state),
      tone(style, batteryTones[appliance.battery], appliance.battery),
      formatBytes(appliance.cacheDirtyBytes),
      formatBytes(appliance.cacheBytes),
    ]),
  );
}

export function groupTable(style: Style, groups: readonly GroupJson[]): string {
  // Of interest where the appliances of a pair serve different groups.
  const withOwner = new Set(groups.map(({ owner }) => owner)).size > 1;
  const rows = groups.flatMap((group) => {
    const own = [
      group.name,
      ...(withOwner ? [group.owner] : []),
      group.role,
      tone(style, group.writable ? "good" : group.role === "golden" ? "dim" : "bad", group.writable ? "yes" : "no"),
      stateText(style, group.state),
      formatCount(group.commitSeq),
      formatCount(group.appliedSeq),
      formatBytes(group.logBytes),
    ];
    const blank = own.map(() => "");
    if (group.peers.length === 0) return [[...own, tone(style, "dim", "none"), "", "", ""]];
    return group.peers.map((peer, index) => [
      ...(index === 0 ? own : blank),
      peer.array,
      peer.mode,
      stateText(style, peer.state),
      lagText(group, peer),
    ]);
  });
  const headers = [
    "GROUP",
    ...(withOwner ? ["OWNER"] : []),
    "ROLE",
    "WRITABLE",
    "STATE",
    "SEQ>",
    "ON SHELF>",
    "LOG>",
    "PEER",
    "MODE",
    "PEER STATE",
    "LAG",
  ];
  return table(style, headers, rows);
}

export function stateText(style: Style, state: ReplicaState): string {
  return tone(style, stateTones[state], state);
}

export function lagText(group: GroupJson, peer: PeerJson): string {
  if (peer.resyncBytesLeft !== null && peer.resyncBytesLeft > 0)
    return `${formatBytes(peer.resyncBytesLeft)} left to copy`;
  if (group.role === "golden") return `received ${formatCount(group.receivedSeq)}, shows ${formatCount(group.viewSeq)}`;
  // What an unconfirmed primary counts says nothing about a peer that may have gone on without it.
  if (peer.lagSeqs === null || !group.writable) return "unknown";
  if (peer.lagSeqs === 0) return "none";
  const parts = [`${formatCount(peer.lagSeqs)} seqs`];
  if (peer.lagBytes !== null) parts.push(formatBytes(peer.lagBytes));
  if (peer.lagMs !== null) parts.push(formatMs(peer.lagMs));
  return parts.join(", ");
}

function groupRemarks(style: Style, group: GroupJson): string[] {
  const remarks: string[] = [];
  if (group.why !== null) remarks.push(`${group.name}: ${printable(group.why)}`);
  if (!group.settled) remarks.push(`${group.name}: its role is still being found out`);
  if (group.operation !== null) remarks.push(`${group.name}: ${operationText(style, group.operation)}`);
  return remarks;
}

export function operationText(_style: Style, operation: OperationJson): string {
  const what = operation.peer === null ? operation.kind : `${operation.kind} with ${operation.peer}`;
  const total = operation.totalBytes === null ? "" : ` of ${formatBytes(operation.totalBytes)}`;
  return `${what} ${bar(operation.doneBytes, operation.totalBytes, 30)} ${formatBytes(operation.doneBytes)}${total}`;
}
