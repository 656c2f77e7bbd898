/** `volume`: block devices, each in one consistency group. */
import type { Removed } from "../manage/control.ts";
import type { VolumeJson } from "../manage/status_json.ts";
import type { Command } from "./command.ts";
import { answered, nameArg, ownerOf, ownerOption } from "./command.ts";
import { formatBytes } from "./quantities.ts";
import { pairs, type Style, table } from "./screen.ts";

const size = { name: "size", kind: "size", value: "S", required: true } as const;

export const volumeCommands: readonly Command[] = [
  {
    noun: "volume",
    verb: "create",
    summary: "a new volume, at the group's primary",
    details: "Takes no space until it is written. Its peers get it through the group's log.",
    args: [nameArg("the new volume's name")],
    options: [
      { ...size, what: "its size: 10GiB, 512MiB, 1TB or bytes" },
      {
        name: "group",
        kind: "text",
        value: "G",
        what: "its consistency group (default: a new one of the volume's name)",
      },
      { name: "pool", kind: "text", value: "P", what: "where it lies (default: the only pool)" },
      ownerOption,
    ],
    run: ({ ask }, call) =>
      answered(
        ask<VolumeJson>("POST", "/v1/volumes", {
          name: call.arg(0),
          sizeBytes: call.number("size"),
          group: call.text("group"),
          pool: call.text("pool"),
          ...ownerOf(call),
        }),
        (volume) => `created ${volume.name}, ${formatBytes(volume.sizeBytes)}, in group ${volume.group}`,
      ),
  },
  {
    noun: "volume",
    verb: "list",
    summary: "all volumes",
    args: [],
    options: [],
    run: ({ ask, style }) =>
      answered(ask<VolumeJson[]>("GET", "/v1/volumes"), (volumes) =>
        table(
          style,
          ["VOLUME", "GROUP", "SIZE>", "EXPORTED", "HOSTS"],
          volumes.map((volume) => [
            volume.name,
            volume.group,
            formatBytes(volume.sizeBytes),
            volume.exported,
            mappingsText(volume),
          ]),
        ),
      ),
  },
  {
    noun: "volume",
    verb: "show",
    summary: "one volume",
    args: [nameArg("the volume")],
    options: [],
    run: ({ ask, style }, call) =>
      answered(ask<VolumeJson>("GET", `/v1/volumes/${call.encoded(0)}`), (volume) => volumeText(style, volume)),
  },
  {
    noun: "volume",
    verb: "resize",
    summary: "grow a volume, online",
    details: "Hosts keep their sessions; NBD hosts see the new size when they connect again.",
    args: [nameArg("the volume")],
    options: [{ ...size, what: "the new size, larger than the present one" }],
    run: ({ ask }, call) =>
      answered(
        ask<VolumeJson>("POST", `/v1/volumes/${call.encoded(0)}/resize`, { sizeBytes: call.number("size") }),
        (volume) => `${volume.name} has ${formatBytes(volume.sizeBytes)} now`,
      ),
  },
  {
    noun: "volume",
    verb: "delete",
    summary: "delete a volume and its data, here and at the group's peers",
    args: [nameArg("the volume")],
    options: [],
    run: ({ ask }, call) =>
      answered(ask<Removed>("DELETE", `/v1/volumes/${call.encoded(0)}`), ({ removed }) => `deleted ${removed}`),
  },
];

function mappingsText(volume: VolumeJson): string {
  if (volume.mappings.length === 0) return "none";
  return volume.mappings.map(({ host, lun, readOnly }) => `${host}:${lun}${readOnly ? " (ro)" : ""}`).join(", ");
}

function volumeText(style: Style, volume: VolumeJson): string {
  return pairs(style, [
    ["volume", volume.name],
    ["uuid", volume.uuid],
    ["group", volume.group],
    ["size", `${formatBytes(volume.sizeBytes)} (${volume.sizeBytes} bytes)`],
    ["exported", volume.exported],
    ["hosts", mappingsText(volume)],
  ]);
}
