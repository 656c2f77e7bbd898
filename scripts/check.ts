/**
 * Checks everything a commit needs: types, lint and format, import directions, banned calls, tidiness. Prints every finding and
 * exits 1 when there is any.
 */
import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "./build.ts";
import { checkFile, type Finding } from "./check_rules.ts";
import { repositoryRoot } from "./tools.ts";

const rooms = ["firmware", "hal", "images", "proto", "scripts", "test", ".ci"];

function sourcesUnder(dir: string): string[] {
  return readdirSync(join(repositoryRoot, dir), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.parentPath.includes("proto/generated"))
    .map((entry) => join(entry.parentPath, entry.name).slice(repositoryRoot.length + 1))
    .filter((path) => /\.(?:ts|proto|sh)$/.test(path) || /^(?:scripts|\.ci)\/[^.]+$/.test(path));
}

function houseRules(): Finding[] {
  return rooms.flatMap((room) =>
    sourcesUnder(room).flatMap((path) => checkFile(path, readFileSync(join(repositoryRoot, path), "utf8"))),
  );
}

function tool(title: string, name: string, args: string[]): Promise<boolean> {
  return new Promise((resolve) => {
    const child = spawn(join(repositoryRoot, "node_modules", ".bin", name), args, { cwd: repositoryRoot });
    const output: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => output.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => output.push(chunk));
    child.on("error", (error) => output.push(Buffer.from(String(error))));
    child.on("close", (code) => {
      const text = Buffer.concat(output).toString("utf8").trim();
      if (code !== 0 && text !== "") console.log(text);
      console.log(`${code === 0 ? "ok  " : "FAIL"}  ${title}`);
      resolve(code === 0);
    });
  });
}

async function main(): Promise<void> {
  build();
  const running = [
    tool("types (tsc)", "tsc", ["-p", "."]),
    tool("lint and format (biome)", "biome", ["check", "--error-on-warnings", "."]),
  ];
  const findings = houseRules();
  for (const { path, line, text } of findings) console.log(`${path}:${line}: ${text}`);
  console.log(`${findings.length === 0 ? "ok  " : "FAIL"}  house rules`);
  const tools = await Promise.all(running);
  process.exit(findings.length === 0 && tools.every((passed) => passed) ? 0 : 1);
}

await main();
