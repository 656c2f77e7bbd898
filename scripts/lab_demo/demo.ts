/**
 * `scripts/lab demo`: the main job on real input, with real clients, in about a minute. Every claim that it prints is a check; one
 * failed check makes the exit code 1. It leaves nothing running unless it is told to.
 */
import { mkdirSync, mkdtempSync, rmdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { formatMs } from "../../firmware/shell/quantities.ts";
import { ensureClients } from "../clients.ts";
import * as labCommands from "../lab_site/commands.ts";
import { LabError, loadLab, requireLab } from "../lab_site/site.ts";
import { DemoFailed, Report } from "./report.ts";
import type { Stage } from "./stage.ts";
import { serveOverIscsi } from "./stage_iscsi.ts";
import { failOver } from "./stage_pair.ts";
import { showGoldenCopy, writeRealData } from "./stage_replicate.ts";
import { crashAndRestart } from "./stage_restart.ts";
import { takeOver } from "./stage_takeover.ts";

export interface DemoOptions {
  readonly dir: string;
  readonly keep: boolean;
  readonly json: boolean;
  /** The demo's own directory: what an earlier `--keep` left there goes. */
  readonly ownDir: boolean;
}

const neededClients = ["nbdcopy", "nbdinfo", "fio", "qemu-img", "qemu-io", "iscsi-ls", "mke2fs", "e2fsck"];

export async function runDemo(options: DemoOptions): Promise<number> {
  const report = new Report(options.json);
  const missing = ensureClients((text) => report.say(text), neededClients);
  if (missing.length > 0) throw new LabError(missing.map(({ text }) => text).join("; "), "missing-client");
  if (loadLab(options.dir) !== null) {
    if (!options.ownDir)
      throw new LabError(`there is a lab in ${options.dir}: scripts/lab down --wipe --dir ${options.dir}`, "exists");
    await labCommands.down(options.dir, true);
  }
  const workDir = mkdtempSync(join(tmpdir(), "goldcopy-demo-"));
  mkdirSync(options.dir, { recursive: true });
  const cleanUp = async () => {
    rmSync(workDir, { recursive: true, force: true });
    if (!options.keep) await labCommands.down(options.dir, true);
    if (options.ownDir && !options.keep) removeIfEmpty(dirname(options.dir));
  };
  let interrupted = false;
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => {
      if (interrupted) process.exit(1);
      interrupted = true;
      console.error("interrupted: cleaning up");
      void cleanUp().finally(() => process.exit(1));
    });
  }
  try {
    await play(options, report, workDir);
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    if (error instanceof DemoFailed || error instanceof LabError) {
      if (!report.checks.some((check) => check.what === text)) report.check(false, text);
    } else {
      report.check(false, `unexpected: ${error instanceof Error ? (error.stack ?? text) : text}`);
    }
    if (!options.json) await showLogs(options.dir, report);
  } finally {
    if (!interrupted) await cleanUp();
  }
  const passed = report.checks.every((check) => check.passed);
  const seconds = report.elapsedSeconds();
  if (options.json) {
    console.log(
      JSON.stringify({ passed, seconds, facts: Object.fromEntries(report.facts), checks: report.checks }, null, 2),
    );
  } else {
    console.log(report.summary());
    if (options.keep) console.log(`the lab goes on: scripts/lab status --dir ${options.dir}`);
  }
  return passed ? 0 : 1;
}

async function play(options: DemoOptions, report: Report, workDir: string): Promise<void> {
  report.say(
    "Two arrays on this machine: oak (primary), a pair of appliances on one shelf, and elm (golden copy), one appliance.",
  );
  report.command("scripts/lab up");
  const startedMs = performance.now();
  const up = await labCommands.up({ dir: options.dir, profile: "pair", mode: "async", persistence: null });
  report.say(up.text);
  report.fact("lab up, new, oak mirrored, elm in sync", formatMs(performance.now() - startedMs));
  const stage: Stage = { lab: requireLab(options.dir), report, workDir };
  await writeRealData(stage);
  await showGoldenCopy(stage);
  await serveOverIscsi(stage);
  await failOver(stage);
  await crashAndRestart(stage);
  await takeOver(stage);
}

function removeIfEmpty(dir: string): void {
  try {
    rmdirSync(dir);
  } catch {
    // Another lab lies there.
  }
}

/** The last words of both appliances, for whoever looks into a failure. */
async function showLogs(dir: string, report: Report): Promise<void> {
  for (const name of ["oak-a", "oak-b", "elm-a"]) {
    try {
      const { text } = await labCommands.logs(dir, name);
      report.say(`--- ${name}, last events`);
      report.say(text.split("\n").slice(-15).join("\n"));
    } catch {
      // There is no such appliance yet.
    }
  }
}
