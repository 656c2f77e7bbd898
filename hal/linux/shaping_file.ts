/**
 * Shapings as plain values: checked, and kept in a file so that a cut survives the restart of an appliance.
 *
 * The file is JSON: { "<nic>": { "<remote appliance>": { cut, latencyMs, jitterMs, rateBytesPerSecond, loss } } }. It is
 * replaced as a whole (written beside, then renamed), so that a reader sees the old or the new one.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import type { Shaping } from "../api/nic.ts";
import { causeOf } from "./address.ts";

/** By NIC, by remote appliance. */
export type ShapingTable = ReadonlyMap<string, ReadonlyMap<string, Shaping>>;

const delayMsMax = 60_000;
const fileBytesMax = 1_048_576;

/** The shaping that `value` holds, or what is wrong with it. Missing fields are those of the plain link. */
export function toShaping(value: unknown): Shaping | string {
  if (typeof value !== "object" || value === null) return "not an object";
  const fields = value as Record<string, unknown>;
  const { cut = false, latencyMs = 0, jitterMs = 0, rateBytesPerSecond = null, loss = 0 } = fields;
  if (typeof cut !== "boolean") return "cut is not true or false";
  if (!isWithin(latencyMs, 0, delayMsMax)) return `latencyMs is not 0 to ${delayMsMax}`;
  if (!isWithin(jitterMs, 0, delayMsMax)) return `jitterMs is not 0 to ${delayMsMax}`;
  if (rateBytesPerSecond !== null && !isWithin(rateBytesPerSecond, 1, Number.MAX_SAFE_INTEGER)) {
    return "rateBytesPerSecond is not null or at least 1";
  }
  if (!isWithin(loss, 0, 1)) return "loss is not 0 to 1";
  return { cut, latencyMs, jitterMs, rateBytesPerSecond, loss };
}

function isWithin(value: unknown, least: number, most: number): value is number {
  return typeof value === "number" && value >= least && value <= most;
}

/** A missing file is an empty table; anything else that is not one is a line of text. */
export function readShapings(path: string): ShapingTable | string {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return new Map();
    return `${path}: cannot read: ${causeOf(error)}`;
  }
  if (text.length > fileBytesMax) return `${path}: too long for shapings`;
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    return `${path}: not JSON; remove the file to drop all shapings`;
  }
  return toTable(path, document);
}

function toTable(path: string, document: unknown): ShapingTable | string {
  const table = new Map<string, Map<string, Shaping>>();
  if (typeof document !== "object" || document === null) return `${path}: not an object of NICs`;
  for (const [nic, remotes] of Object.entries(document)) {
    if (typeof remotes !== "object" || remotes === null) return `${path}: ${nic}: not an object of appliances`;
    const shapings = new Map<string, Shaping>();
    for (const [remote, value] of Object.entries(remotes)) {
      const shaping = toShaping(value);
      if (typeof shaping === "string") return `${path}: ${nic}: ${remote}: ${shaping}`;
      shapings.set(remote, shaping);
    }
    table.set(nic, shapings);
  }
  return table;
}

/** Replaces the file; returns why it could not. */
export function writeShapings(path: string, table: ShapingTable): string | null {
  const document: Record<string, Record<string, Shaping>> = {};
  for (const [nic, shapings] of table) document[nic] = Object.fromEntries(shapings);
  try {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(`${path}.new`, `${JSON.stringify(document, null, 2)}\n`);
    renameSync(`${path}.new`, path);
    return null;
  } catch (error) {
    return `${path}: cannot write: ${causeOf(error)}; the shapings in force will not survive a restart`;
  }
}
