/** Runs in the appliance: `network-config` of a seed in, lines for `root/usr/lib/goldcopy/network` out. */
import { readFileSync } from "node:fs";
import { networkLines } from "./network_config.ts";

function fail(text: string): never {
  console.error(text);
  process.exit(1);
}

let document: unknown;
try {
  document = Bun.YAML.parse(readFileSync(process.argv[2] ?? "", "utf8"));
} catch (error) {
  const text = error instanceof Error ? error.message : String(error);
  fail(`network-config: ${text.split("\n")[0]}; it is not used`);
}
const outcome = networkLines(document);
if (!outcome.ok) fail(outcome.text);
console.log(outcome.lines.join("\n"));
