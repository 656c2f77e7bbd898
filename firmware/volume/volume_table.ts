/**
 * The volumes of a group, as of three points of its log: committed (what hosts see), and at home (what the store holds).
 * Creation, resize and deletion are control records: they travel to every copy in the order of the writes.
 */
import { decode } from "cbor-x/decode";
import { encode } from "cbor-x/encode";
import * as v from "valibot";
import { maxLba, maxVolumeNumber } from "../log/record.ts";
import type { GroupStore } from "../store/store.ts";
import type { GroupVolume } from "./group_port.ts";

export const volumeNumbersMax = maxVolumeNumber + 1;
export const volumesMax = 256;
export const volumeSizeBytesMax = maxLba * 512;

const sizeSchema = v.pipe(v.number(), v.integer(), v.minValue(4096), v.maxValue(volumeSizeBytesMax), v.multipleOf(512));

export const volumeSchema = v.object({
  number: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(volumeNumbersMax - 1)),
  uuid: v.pipe(v.string(), v.regex(/^[0-9a-f]{32}$/)),
  name: v.pipe(v.string(), v.regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/)),
  sizeBytes: sizeSchema,
});

const changeSchema = v.variant("op", [
  v.object({ op: v.literal("create"), volume: volumeSchema }),
  v.object({ op: v.literal("resize"), number: v.number(), sizeBytes: sizeSchema }),
  v.object({ op: v.literal("delete"), number: v.number() }),
  v.object({
    op: v.literal("table"),
    volumes: v.pipe(
      v.array(volumeSchema),
      v.maxLength(volumesMax),
      v.check(
        (volumes) => new Set(volumes.map(({ number }) => number)).size === volumes.length,
        "a number is used twice",
      ),
    ),
    /** Above every number that was ever given out. */
    nextNumber: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(volumeNumbersMax))),
  }),
]);
export type VolumeChange = v.InferOutput<typeof changeSchema>;

export function encodeChange(change: VolumeChange): Uint8Array {
  return Uint8Array.from(encode(change));
}

/** The change in a control or table record; null when it is not one (a record that passed its checksum but makes no sense). */
export function decodeChange(bytes: Uint8Array): VolumeChange | null {
  try {
    const parsed = v.safeParse(changeSchema, decode(bytes));
    return parsed.success ? parsed.output : null;
  } catch {
    return null;
  }
}

export function changed(volumes: readonly GroupVolume[], change: VolumeChange): GroupVolume[] {
  switch (change.op) {
    case "create": {
      const others = volumes.filter((volume) => volume.number !== change.volume.number);
      // Every copy keeps the limit alike: the root with the table must stay readable.
      return others.length < volumesMax ? [...others, change.volume] : [...volumes];
    }
    case "resize":
      return volumes.map((volume) =>
        volume.number === change.number
          ? { ...volume, sizeBytes: Math.max(volume.sizeBytes, change.sizeBytes) }
          : volume,
      );
    case "delete":
      return volumes.filter((volume) => volume.number !== change.number);
    case "table":
      return [...change.volumes];
  }
}

/**
 * The lowest number that may be given out after the change. A number stays used on every copy when its volume is gone: whoever is
 * primary later gives out others.
 */
export function nextNumberAfter(change: VolumeChange): number {
  if (change.op === "create") return change.volume.number + 1;
  return change.op === "table" ? (change.nextNumber ?? 1) : 1;
}

/** Makes the store's volumes those of `wanted`: created, grown, deleted. */
export function bringHome(store: GroupStore, wanted: readonly GroupVolume[]): void {
  const present = store.volumes("head");
  for (const volume of present) {
    if (!wanted.some((one) => one.number === volume.number)) store.deleteVolume(volume.number);
  }
  for (const volume of wanted) {
    const home = present.find((one) => one.number === volume.number);
    if (home === undefined) store.createVolume({ number: volume.number, sizeBytes: volume.sizeBytes });
    else if (home.sizeBytes < volume.sizeBytes) store.resizeVolume(volume.number, volume.sizeBytes);
  }
}
