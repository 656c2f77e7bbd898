/**
 * Generates what is generated: static protobufjs code and its types from `proto/*.proto`, into `proto/generated/`.
 *
 * Nothing runs when the inputs are those of the last build. Each file appears whole (written aside, then renamed), so a build
 * beside running tests disturbs nobody.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { repositoryRoot, runTool } from "./tools.ts";

const protoDir = join(repositoryRoot, "proto");
const generatedDir = join(protoDir, "generated");
const stampPath = join(generatedDir, ".stamp");

/** The generator's own files count too: a change of its options must rebuild. */
function inputsDigest(sources: readonly string[]): string {
  const hash = createHash("sha256");
  for (const path of [import.meta.path, join(repositoryRoot, "package-lock.json"), ...sources]) {
    hash.update(basename(path)).update("\0").update(readFileSync(path)).update("\0");
  }
  return hash.digest("hex");
}

function generate(source: string): void {
  const name = basename(source, ".proto");
  const code = join(generatedDir, `${name}.${process.pid}.tmp.js`);
  const types = join(generatedDir, `${name}.${process.pid}.tmp.d.ts`);
  try {
    // uint64 fields are declared as plain numbers: all of ours are safe integers.
    const pbjs = ["-t", "static-module", "-w", "es6", "--es6", "--force-number", "--no-service", "--no-convert"];
    runTool("pbjs", [...pbjs, "-r", name, "-p", protoDir, "-o", code, source]);
    runTool("pbts", ["-o", types, code]);
    renameSync(code, join(generatedDir, `${name}.js`));
    renameSync(types, join(generatedDir, `${name}.d.ts`));
  } finally {
    rmSync(code, { force: true });
    rmSync(types, { force: true });
  }
}

export function build(): "built" | "up-to-date" | "nothing" {
  const sources = readdirSync(protoDir)
    .filter((name) => name.endsWith(".proto"))
    .sort()
    .map((name) => join(protoDir, name));
  if (sources.length === 0) return "nothing";
  const digest = inputsDigest(sources);
  const complete = sources.every((source) => existsSync(join(generatedDir, `${basename(source, ".proto")}.js`)));
  if (complete && existsSync(stampPath) && readFileSync(stampPath, "utf8") === digest) return "up-to-date";
  mkdirSync(generatedDir, { recursive: true });
  for (const source of sources) generate(source);
  writeFileSync(stampPath, digest);
  return "built";
}

if (import.meta.main) {
  try {
    const outcome = build();
    if (outcome === "built") console.log("built proto/generated");
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    process.exit(1);
  }
}
