/**
 * `--profile FILE`: another site than the built-in one, as TOML. Every key may be missing.
 *
 *     cache = "64MiB"                 # of each appliance
 *     disks = 2                       # on each array's shelf
 *     disk_size = "8GiB"              # sparse files
 *     volumes = [{ name = "demo-1", size = "1GiB" }]
 *     heartbeat = "50x5"              # of pairs: every 50 ms, a partner of whom 5 are missed is lost
 *     arrays = [{ name = "oak", appliances = ["oak-a", "oak-b"] }, { name = "elm", appliances = ["elm-a"] }]
 *
 * An array of two appliances is a pair on one shared shelf; the first one is preferred.
 */
import { readFileSync } from "node:fs";
import * as v from "valibot";
import { parseSize } from "../../firmware/codec/sizes.ts";
import { heartbeatForm, parseHeartbeat } from "./heartbeat.ts";
import { builtInSite, isBuiltIn, LabError, type Site, type SiteWishes } from "./site.ts";

const size = v.pipe(
  v.union([v.string(), v.number()]),
  v.transform((value) => parseSize(String(value)) ?? Number.NaN),
  v.number('must be a size like "64MiB"'),
);
const name = v.pipe(
  v.string(),
  v.regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,23}$/, "must be a name of at most 24 letters and digits"),
);

const fileSchema = v.strictObject({
  cache: v.optional(size),
  disks: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(64))),
  disk_size: v.optional(size),
  heartbeat: v.optional(
    v.pipe(
      v.string(),
      v.check((text) => parseHeartbeat(text) !== null, heartbeatForm),
    ),
  ),
  volumes: v.optional(v.pipe(v.array(v.strictObject({ name, size })), v.maxLength(64))),
  arrays: v.optional(
    v.pipe(
      v.array(
        v.strictObject({
          name,
          appliances: v.pipe(
            v.array(name),
            v.minLength(1, "must hold one appliance, or the two of a pair"),
            v.maxLength(2, "must hold one appliance, or the two of a pair"),
          ),
        }),
      ),
      v.minLength(1),
      v.maxLength(8),
      v.check(
        (arrays) => !hasTwice(arrays.flatMap((array) => [array.name, ...array.appliances])),
        "must give every array and every appliance a name of its own",
      ),
    ),
  ),
});

function hasTwice(names: readonly string[]): boolean {
  return new Set(names).size < names.length;
}

export function siteOf(wishes: SiteWishes): Omit<Site, "appliances"> {
  const site = builtInSite(wishes);
  if (isBuiltIn(wishes.profile)) return site;
  const file = readSiteFile(wishes.profile);
  return {
    ...site,
    cacheBytes: file.cache ?? site.cacheBytes,
    diskBytes: file.disk_size ?? site.diskBytes,
    disksPerShelf: file.disks ?? site.disksPerShelf,
    volumes: file.volumes?.map((volume) => ({ name: volume.name, sizeBytes: volume.size })) ?? site.volumes,
    arrays: file.arrays ?? site.arrays,
    heartbeat: file.heartbeat === undefined ? site.heartbeat : parseHeartbeat(file.heartbeat),
  };
}

function readSiteFile(path: string): v.InferOutput<typeof fileSchema> {
  let parsed: unknown;
  try {
    parsed = Bun.TOML.parse(readFileSync(path, "utf8"));
  } catch (error) {
    const why = error instanceof Error ? error.message.split("\n")[0] : String(error);
    throw new LabError(`${path}: ${why}; --profile takes single, pair or a TOML file`, "usage", 2);
  }
  const judged = v.safeParse(fileSchema, parsed, { abortEarly: true });
  if (judged.success) return judged.output;
  const [issue] = judged.issues;
  throw new LabError(`${path}: ${v.getDotPath(issue) ?? "file"}: ${issue.message}`, "usage", 2);
}
