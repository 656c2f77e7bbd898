/** The environment that an appliance's process needs at exec: `images/appliance.env`, for what starts one from TypeScript. */
import { readFileSync } from "node:fs";
import { join } from "node:path";

export function applianceEnv(): Record<string, string> {
  const text = readFileSync(join(import.meta.dir, "..", "images", "appliance.env"), "utf8");
  const pairs = text.split("\n").filter((line) => line.includes("=") && !line.startsWith("#"));
  return Object.fromEntries(pairs.map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]));
}
