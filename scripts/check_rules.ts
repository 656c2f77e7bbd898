/**
 * The rules of the house that no compiler knows: who may import whom, what deterministic code may not touch, and tidiness.
 *
 * Rooms: `hal/` never imports `firmware/`. `firmware/` outside the entry points imports neither `hal/linux`, `hal/mock`, `node:*`
 * nor `bun*`. `firmware/`, `hal/api` and `hal/mock` read no real clock, no real randomness, and start no timers.
 */
import { dirname, join, normalize } from "node:path";
import { importsOf, lineOf, scanSource } from "./source_scan.ts";

/** Only these bind the firmware to a runtime: they choose a HAL, open sockets and read the environment. */
const entryPoints = new Set(["firmware/main.ts", "firmware/shell/main.ts"]);

/** Binds the mock to the runtime's deterministic parts, the microtask queue and checksums; time and randomness stay banned. */
const mockRuntime = "hal/mock/runtime.ts";
const mockRuntimeGrants = /^Bun\s*\.$/;

const lineCountMax = 600;

export interface Finding {
  readonly path: string;
  readonly line: number;
  readonly text: string;
}

/** `path` is relative to the repository, with slashes. */
export function checkFile(path: string, text: string): Finding[] {
  const findings: Finding[] = [];
  const report = (line: number, what: string) => findings.push({ path, line, text: what });

  const words = /\b(?:TODO|FIXME|XXX|HACK)\b/g;
  // Only the file that names the words may hold them.
  if (!path.startsWith("scripts/check_rules") && !path.startsWith("test/unit/check_rules")) {
    for (const match of text.matchAll(words)) report(lineOf(text, match.index), `unfinished work: ${match[0]}`);
  }
  const lines = text.split("\n").length - 1;
  if (lines > lineCountMax)
    report(lineCountMax, `${lines} lines, at most ${lineCountMax}: a file has one reason to exist`);
  if (!path.endsWith(".ts")) return findings;

  const source = scanSource(text);
  for (const { specifier, line } of importsOf(source)) {
    const fault = importFault(path, specifier);
    if (fault !== null) report(line, fault);
  }
  for (const { pattern, text: what } of bannedIn(path)) {
    for (const match of source.codeOnly.matchAll(pattern)) {
      if (path === mockRuntime && mockRuntimeGrants.test(match[0])) continue;
      report(lineOf(source.codeOnly, match.index), what(match[0]));
    }
  }
  return findings;
}

function importFault(path: string, specifier: string): string | null {
  const relative = specifier.startsWith(".");
  if (relative && !/\.(?:ts|js|json)$/.test(specifier)) return `import ${specifier}: name the file with its extension`;
  const target = relative ? normalize(join(dirname(path), specifier)) : specifier;
  if (path.startsWith("hal/") && target.startsWith("firmware/")) return `hal never imports firmware (${specifier})`;
  const runtimeFree = isFirmwareCore(path) || path.startsWith("hal/api/") || path.startsWith("hal/mock/");
  const granted = path === mockRuntime && target === "bun:jsc";
  if (runtimeFree && !granted && /^(?:node:|bun$|bun:)/.test(target))
    return `only entry points and hal/linux import ${specifier}`;
  if (runtimeFree && target.startsWith("hal/linux")) return `only firmware/main.ts chooses a HAL (${specifier})`;
  if (isFirmwareCore(path) && target.startsWith("hal/mock"))
    return `only firmware/main.ts chooses a HAL (${specifier})`;
  if (path.startsWith("hal/api/") && target.startsWith("hal/mock"))
    return `hal/api knows no implementation (${specifier})`;
  if (path.startsWith("hal/linux/") && target.startsWith("hal/mock"))
    return `the two HALs do not know each other (${specifier})`;
  return null;
}

interface Banned {
  readonly pattern: RegExp;
  readonly text: (found: string) => string;
}

const notDeterministic: readonly Banned[] = [
  {
    pattern:
      /(?<![.\w])(?:Date\s*\.\s*now|new\s+Date\s*\(|performance\s*\.\s*\w+|Math\s*\.\s*random|set(?:Timeout|Interval|Immediate)\s*\(|queueMicrotask\s*\(|crypto\s*\.\s*\w+|Atomics\s*\.\s*wait\w*)/g,
    text: (found) => `${found}: time, timers and randomness come in through hal/api`,
  },
  {
    pattern: /(?<![.\w])(?:globalThis|Bun|process|console)\s*[.[]/g,
    text: (found) => `${found}: cores know no runtime; what they need is passed in`,
  },
];

const languageLimits: readonly Banned[] = [
  { pattern: /^export default\b/gm, text: () => "no default exports" },
  { pattern: /^export \*/gm, text: () => "no barrels: import from the file that defines it" },
  { pattern: /^(?:export )?(?:const )?enum\b/gm, text: () => "no enums: use an `as const` object" },
];

const testLimits: readonly Banned[] = [
  { pattern: /\.(?:skip|only)\s*\(/g, text: (found) => `${found}: nothing is skipped silently` },
];

function bannedIn(path: string): readonly Banned[] {
  const banned = [...languageLimits];
  if (isFirmwareCore(path) || path.startsWith("hal/api/") || path.startsWith("hal/mock/"))
    banned.push(...notDeterministic);
  if (path.startsWith("test/")) banned.push(...testLimits);
  return banned;
}

function isFirmwareCore(path: string): boolean {
  return path.startsWith("firmware/") && !entryPoints.has(path);
}
