/** `peer`, `shelf`, `disk`, `pool`, `cache`: what there is and how it is. Each has `list` and `show`. */

import type { ScrubJson } from "../manage/control.ts";
import type { CacheJson, DiskJson, PeerArrayJson, PoolJson, ShelfJson } from "../manage/status_json.ts";
import type { Command } from "./command.ts";
import { answered, nameArg, timeoutOf, timeoutOption } from "./command.ts";
import { formatBytes, formatMs } from "./quantities.ts";
import { pairs, printable, type Style, table, tone } from "./screen.ts";

interface Kind<T> {
  readonly noun: string;
  readonly plural: string;
  readonly path: string;
  readonly summary: string;
  readonly headers: readonly string[];
  readonly row: (style: Style, item: T) => readonly string[];
}

function listAndShow<T>(kind: Kind<T>): Command[] {
  const titles = kind.headers.map((header) => header.replace(/>$/, "").toLowerCase());
  return [
    {
      noun: kind.noun,
      verb: "list",
      summary: kind.summary,
      args: [],
      options: [],
      run: ({ ask, style }) =>
        answered(ask<T[]>("GET", kind.path), (items) =>
          table(
            style,
            kind.headers,
            items.map((item) => kind.row(style, item)),
          ),
        ),
    },
    {
      noun: kind.noun,
      verb: "show",
      summary: `one of the ${kind.plural}`,
      args: [nameArg(`as in goldcopy ${kind.noun} list`)],
      options: [],
      run: ({ ask, style }, call) =>
        answered(ask<T>("GET", `${kind.path}/${call.encoded(0)}`), (item) => {
          const cells = kind.row(style, item);
          return pairs(
            style,
            titles.map((title, index) => [title, cells[index] ?? ""] as const),
          );
        }),
    },
  ];
}

export const hardwareCommands: readonly Command[] = [
  ...listAndShow<PeerArrayJson>({
    noun: "peer",
    plural: "arrays that replicate with this one",
    path: "/v1/peers",
    summary: "the arrays that replicate with this one",
    headers: ["ARRAY", "LINK", "HEARD", "APPLIANCES"],
    row: (style, peer) => [
      peer.array,
      peer.connected
        ? tone(style, "good", "connected")
        : `${tone(style, "bad", "down")}: ${printable(peer.why ?? "no answer")}`,
      peer.lastHeardMs === null ? "never" : `${formatMs(peer.lastHeardMs)} ago`,
      peer.appliances.map(({ name, addresses }) => `${name} (${addresses.join(", ")})`).join(", "),
    ],
  }),
  ...listAndShow<ShelfJson>({
    noun: "shelf",
    plural: "shelves",
    path: "/v1/shelves",
    summary: "the disk shelves",
    headers: ["SHELF", "SLOTS>", "DISKS IN USE>", "SIZE>", "FENCING"],
    row: (_style, shelf) => [
      shelf.name,
      String(shelf.slots),
      String(shelf.disksInUse),
      formatBytes(shelf.sizeBytes),
      shelf.fencing,
    ],
  }),
  ...listAndShow<DiskJson>({
    noun: "disk",
    plural: "disks",
    path: "/v1/disks",
    summary: "the disks in their slots, and what was found on them",
    headers: ["DISK", "STATE", "SIZE>", "REMARK"],
    row: (style, disk) => [
      disk.place,
      tone(style, disk.state === "in-use" ? "good" : disk.state === "blank" ? "dim" : "bad", disk.state),
      disk.sizeBytes === null ? "-" : formatBytes(disk.sizeBytes),
      printable(disk.text),
    ],
  }),
  ...listAndShow<PoolJson>({
    noun: "pool",
    plural: "pools",
    path: "/v1/pools",
    summary: "the space, and who uses it",
    headers: ["POOL", "SIZE>", "FREE>", "USED BY"],
    row: (_style, pool) => [
      pool.name,
      formatBytes(pool.totalBytes),
      formatBytes(pool.freeBytes),
      pool.groups
        .map(({ name, dataBytes, logBytes }) => `${name} (${formatBytes(dataBytes)}, log ${formatBytes(logBytes)})`)
        .join(", "),
    ],
  }),
  {
    noun: "pool",
    verb: "scrub",
    summary: "read everything the pool holds and compare it with its checksums; hosts go on meanwhile",
    details: "Exit 1 when something is damaged: those blocks give hosts a medium error; the peer's copy has them.",
    args: [nameArg("as in goldcopy pool list")],
    options: [timeoutOption],
    long: true,
    run: async ({ ask, style }, call) => {
      const asked = ask<ScrubJson>("POST", `/v1/pools/${call.encoded(0)}/scrub`, timeoutOf(call));
      const outcome = await answered(asked, (report) => scrubText(style, report));
      if (outcome.kind !== "done" || (outcome.json as ScrubJson).intact) return outcome;
      return { ...outcome, kind: "unequal" };
    },
  },
  ...listAndShow<CacheJson>({
    noun: "cache",
    plural: "write caches",
    path: "/v1/caches",
    summary: "the write caches (NVRAM)",
    headers: ["APPLIANCE", "PERSISTENCE", "BATTERY", "MODE", "DIRTY>", "AT RISK>", "SIZE>"],
    row: (style, cache) => [
      cache.appliance,
      cache.persistence,
      tone(style, cache.battery === "good" ? "good" : "bad", cache.battery),
      tone(style, cache.mode === "write-back" ? "good" : "warn", cache.mode),
      formatBytes(cache.dirtyBytes),
      tone(style, cache.cacheAtRiskBytes === 0 ? "dim" : "bad", formatBytes(cache.cacheAtRiskBytes)),
      formatBytes(cache.sizeBytes),
    ],
  }),
];

function scrubText(style: Style, report: ScrubJson): string {
  const checked = `${formatBytes(report.checkedBytes)} checked`;
  if (report.intact) return `${tone(style, "good", "intact")}: ${checked}`;
  const rows = report.damaged.map(({ group, volume, fork, offsetBytes }) => [
    group,
    fork === null ? volume : `${volume}@${fork}`,
    String(offsetBytes),
  ]);
  const head = `${tone(style, "bad", "DAMAGED")}: ${report.damagedBlocks} blocks of 4 KiB, ${checked}`;
  return `${head}\n${table(style, ["GROUP", "VOLUME", "OFFSET>"], rows)}`;
}
