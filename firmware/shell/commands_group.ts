/** `group`: consistency groups, their peers, and the moves of the primary role. */
import type {
  FailbackJson,
  MigrateJson,
  Removed,
  ResyncJson,
  ServeJson,
  TakeoverJson,
  VerifyJson,
} from "../manage/control.ts";
import { type GroupDetailJson, type GroupJson, peerModes } from "../manage/status_json.ts";
import type { OptionSpec } from "./args.ts";
import type { Command, Given } from "./command.ts";
import { answered, nameArg, ownerOf, ownerOption, timeoutOf, timeoutOption } from "./command.ts";
import { formatBytes, formatCount, formatMs } from "./quantities.ts";
import { pairs, printable, type Style, tone } from "./screen.ts";
import { groupTable, lagText, operationText, stateText } from "./status_view.ts";

const group = nameArg("the group");
const array = { name: "ARRAY", what: "the peer array" } as const;
const mode: OptionSpec = {
  name: "mode",
  kind: "text",
  choices: peerModes,
  required: true,
  what: "sync: a write is acknowledged when the peer has it; async: the peer follows; delta: in cycles",
};
const cycle: OptionSpec = { name: "cycle", kind: "duration", value: "TIME", what: "length of a delta cycle (30s)" };

const path = (call: Given, verb: string): string => `/v1/groups/${call.encoded(0)}/${verb}`;

export const groupCommands: readonly Command[] = [
  {
    noun: "group",
    verb: "create",
    summary: "a new consistency group: volumes whose writes keep their common order",
    args: [nameArg("the new group's name")],
    options: [ownerOption],
    run: ({ ask }, call) =>
      answered(
        ask<GroupJson>("POST", "/v1/groups", { name: call.arg(0), ...ownerOf(call) }),
        ({ name }) => `created group ${name}`,
      ),
  },
  {
    noun: "group",
    verb: "list",
    summary: "all groups",
    args: [],
    options: [],
    run: ({ ask, style }) => answered(ask<GroupJson[]>("GET", "/v1/groups"), (groups) => groupTable(style, groups)),
  },
  {
    noun: "group",
    verb: "show",
    summary: "one group: role, seqs, peers, lineage, salvage",
    args: [group],
    options: [],
    run: ({ ask, style }, call) =>
      answered(ask<GroupDetailJson>("GET", `/v1/groups/${call.encoded(0)}`), (shown) => groupText(style, shown)),
  },
  {
    noun: "group",
    verb: "add-peer",
    summary: "let a peer array keep a golden copy of the group",
    details: "Done when it is recorded; the initial sync goes on by itself (goldcopy status --watch).",
    args: [group, array],
    options: [mode, cycle],
    run: ({ ask }, call) =>
      answered(
        ask<GroupJson>("POST", path(call, "add-peer"), peerBody(call)),
        ({ name }) =>
          `${call.arg(1)} keeps a copy of ${name} (${call.text("mode")}); the initial sync goes on by itself`,
      ),
  },
  {
    noun: "group",
    verb: "set-mode",
    summary: "change how a peer follows, online",
    args: [group, array],
    options: [mode, cycle],
    run: ({ ask }, call) =>
      answered(
        ask<GroupJson>("POST", path(call, "set-mode"), peerBody(call)),
        ({ name }) => `${name} to ${call.arg(1)}: ${call.text("mode")}`,
      ),
  },
  {
    noun: "group",
    verb: "migrate",
    summary: "planned change of role; loses nothing",
    details:
      "At the present primary. New writes wait, what is under way arrives there, then the role is granted; or, when that takes\nlonger than --timeout, writes go on here and the answer is not-drained.",
    args: [group],
    options: [{ name: "to", kind: "text", value: "ARRAY", required: true, what: "the next primary" }, timeoutOption],
    long: true,
    run: ({ ask }, call) =>
      answered(
        ask<MigrateJson>("POST", path(call, "migrate"), { to: call.text("to"), ...timeoutOf(call) }),
        (moved) =>
          `${call.arg(0)}: ${moved.primary} is primary ${moved.changed ? "now" : "already"}` +
          `${moved.heldMs === null ? "" : `; writes waited ${formatMs(moved.heldMs)}`}`,
      ),
  },
  {
    noun: "group",
    verb: "takeover",
    summary: "unplanned change of role, when the primary is gone",
    details:
      "At the golden side. Refused while the primary answers (migrate instead) and on an inconsistent image. What may be lost is\nreported; what the old primary still holds is salvaged when it comes back.",
    args: [group],
    options: [
      { name: "force", kind: "flag", what: "also with the primary reachable, and the image as it is" },
      { name: "fork", kind: "flag", what: "promote the consistent fork kept from before a resync" },
      timeoutOption,
    ],
    long: true,
    run: ({ ask, style }, call) =>
      answered(
        ask<TakeoverJson>("POST", path(call, "takeover"), {
          force: call.has("force"),
          fork: call.has("fork"),
          ...timeoutOf(call),
        }),
        (report) => takeoverText(style, call.arg(0), report),
      ),
  },
  {
    noun: "group",
    verb: "failback",
    summary: "bring the role back to this array: resync from the present primary, then migrate",
    args: [group],
    options: [timeoutOption],
    long: true,
    run: ({ ask }, call) =>
      answered(
        ask<FailbackJson>("POST", path(call, "failback"), timeoutOf(call)),
        (back) =>
          `${call.arg(0)}: ${back.primary} is primary ${back.changed ? "now" : "already"}${salvageText(back.salvage)}`,
      ),
  },
  {
    noun: "group",
    verb: "serve",
    summary: "let an unconfirmed ex-primary go on, on your word",
    details:
      "After a stop a group with peers is not writable until a peer confirms that it is still primary. Only say --alone when you\nknow that no other array took over: otherwise both sides have writes of their own (see the split-brain runbook).",
    args: [group],
    options: [{ name: "alone", kind: "flag", required: true, what: "no other array serves this group" }, timeoutOption],
    long: true,
    run: ({ ask }, call) =>
      answered(
        ask<ServeJson>("POST", path(call, "serve"), { alone: true, ...timeoutOf(call) }),
        (served) => `${call.arg(0)} is writable ${served.changed ? "now" : "already"}, timeline ${served.timeline}`,
      ),
  },
  {
    noun: "group",
    verb: "verify",
    summary: "compare both sides' digests at one seq; hosts go on meanwhile",
    args: [group],
    options: [
      { name: "peer", kind: "text", value: "ARRAY", what: "only this peer (default: every one)" },
      timeoutOption,
    ],
    long: true,
    run: async ({ ask, style }, call) => {
      const asked = ask<VerifyJson>("POST", path(call, "verify"), { peer: call.text("peer"), ...timeoutOf(call) });
      const outcome = await answered(asked, (report) => verifyText(style, report));
      if (outcome.kind !== "done" || (outcome.json as VerifyJson).equal) return outcome;
      return { ...outcome, kind: "unequal" };
    },
  },
  {
    noun: "group",
    verb: "resync",
    summary: "make this array the golden copy of another one again",
    details:
      "At the side whose image is overwritten. Its own extra writes are kept first, as a salvage set that can be read as VOLUME@ID.\nDone when in-sync; afterwards the other side can migrate the role back.",
    args: [group],
    options: [
      { name: "from", kind: "text", value: "ARRAY", required: true, what: "the present primary" },
      timeoutOption,
    ],
    long: true,
    run: ({ ask }, call) =>
      answered(
        ask<ResyncJson>("POST", path(call, "resync"), { from: call.text("from"), ...timeoutOf(call) }),
        (report) =>
          `${call.arg(0)} is ${report.changed ? "in sync with" : "in sync already with"} ${report.from}` +
          `; received ${formatBytes(report.receivedBytes)}${salvageText(report.salvage)}`,
      ),
  },
  {
    noun: "group",
    verb: "delete",
    summary: "delete a group that has no volumes left",
    args: [group],
    options: [],
    run: ({ ask }, call) =>
      answered(ask<Removed>("DELETE", `/v1/groups/${call.encoded(0)}`), ({ removed }) => `deleted group ${removed}`),
  },
];

function peerBody(call: Given): unknown {
  const delta = call.text("mode") === "delta";
  return { array: call.arg(1), mode: call.text("mode"), cycleMs: delta ? (call.number("cycle") ?? 30_000) : null };
}

function salvageText(salvage: ResyncJson["salvage"]): string {
  if (salvage === null) return "";
  return `; kept ${formatBytes(salvage.bytes)} written beyond seq ${formatCount(salvage.forkSeq)} as salvage ${salvage.id}`;
}

function takeoverText(style: Style, name: string, report: TakeoverJson): string {
  if (!report.changed) return `${name}: this array is primary already, timeline ${report.timeline}`;
  const head = `${name}: this array is primary now, timeline ${report.timeline}, from seq ${report.forkSeq ?? "unknown"}`;
  if (report.loss === "none") return `${head}\n${tone(style, "good", "nothing is lost")}: proven`;
  const part = (value: number | null, text: (known: number) => string, unit: string) =>
    value === null ? `unknown ${unit}` : text(value);
  const lost = [
    part(report.maybeLostSeqs, (seqs) => `${formatCount(seqs)} seqs`, "seqs"),
    part(report.maybeLostBytes, formatBytes, "bytes"),
    part(report.maybeLostMs, (ms) => `the last ${formatMs(ms)}`, "time"),
  ];
  return `${head}\n${tone(style, "warn", "may be lost")}: ${lost.join(", ")}`;
}

function verifyText(style: Style, report: VerifyJson): string {
  const lines = report.peers.flatMap((peer) => [
    `${peer.array} at seq ${formatCount(peer.seq)}: ` +
      `${peer.equal ? tone(style, "good", "equal") : tone(style, "bad", "NOT EQUAL")}, ${formatBytes(peer.comparedBytes)} compared`,
    ...peer.volumes.map(({ name, equal, digest, peerDigest }) =>
      equal ? `  ${name}  ${digest}` : `  ${name}  here ${digest}\n  ${" ".repeat(name.length)}  there ${peerDigest}`,
    ),
  ]);
  return lines.length === 0 ? "no peers to compare with" : lines.join("\n");
}

function groupText(style: Style, shown: GroupDetailJson): string {
  const rows: [string, string][] = [
    ["group", shown.name],
    ["id", shown.id],
    ["role", `${shown.role}${shown.primary === null ? "" : ` (primary is ${shown.primary})`}`],
    ["writable", shown.writable ? tone(style, "good", "yes") : `no: ${printable(shown.why ?? "no reason given")}`],
    ["state", stateText(style, shown.state)],
    ["owner", shown.owner],
    ["timeline", shown.timeline],
    ["head seq", formatCount(shown.headSeq)],
    ["commit seq", formatCount(shown.commitSeq)],
    ["on shelf", formatCount(shown.appliedSeq)],
    ["log", formatBytes(shown.logBytes)],
    ["data", `${formatBytes(shown.usage.dataBytes)}, maps ${formatBytes(shown.usage.metadataBytes)}`],
    ["volumes", shown.volumes.join(", ")],
  ];
  for (const peer of shown.peers) {
    rows.push(["peer", `${peer.array}, ${peer.mode}, ${stateText(style, peer.state)}, lag: ${lagText(shown, peer)}`]);
  }
  for (const { timeline, firstSeq } of shown.lineage)
    rows.push(["lineage", `${timeline} from seq ${formatCount(firstSeq)}`]);
  for (const { id, forkSeq, bytes } of shown.salvage) {
    rows.push(["salvage", `${id}: ${formatBytes(bytes)} beyond seq ${formatCount(forkSeq)}, exported as VOLUME@${id}`]);
  }
  if (shown.operation !== null) rows.push(["running", operationText(style, shown.operation)]);
  return pairs(style, rows);
}
