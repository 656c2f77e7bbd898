/**
 * The appliance's process: an entry point. It reads the board profile, opens the hardware, starts the firmware on it, and serves
 * the management API on a unix socket.
 *
 * Exit codes: 0 stopped in an orderly way; 1 could not start (the text says why; nothing was overwritten); 2 usage or profile;
 * 3 a broken invariant or another defect: crash-only, the next start is a recovery.
 */
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { EventFile } from "../hal/linux/event_file.ts";
import { serveManagement } from "../hal/linux/management_socket.ts";
import { openLinuxHal, threadPoolWarning } from "../hal/linux/open.ts";
import packageJson from "../package.json" with { type: "json" };
import { startAppliance } from "./appliance.ts";
import { bodyCharsMax, createApi } from "./manage/api.ts";
import { type BoardProfile, parseBoardProfile } from "./manage/board_profile.ts";
import type { Control } from "./manage/control.ts";
import { EventLog, encodeEventLine } from "./manage/events.ts";
import { createLabPort } from "./manage/lab_port.ts";

const exitStopped = 0;
const exitRefused = 1;
const exitUsage = 2;
const exitCrashed = 3;

/** An orderly stop waits for disks at most this long; what is not done then is left to recovery. */
const stopLimitMs = 30_000;

const usage = "usage: main.ts --profile FILE [--accept-cache-loss]";

function fail(code: number, text: string): never {
  console.error(`goldcopy: ${text}`);
  process.exit(code);
}

interface Arguments {
  readonly profilePath: string;
  /** The operator's word that a wrong or lost cache is to be given up. */
  readonly acceptCacheLoss: boolean;
}

function readArguments(words: readonly string[]): Arguments {
  let profilePath: string | null = null;
  let acceptCacheLoss = false;
  for (let i = 0; i < words.length; i++) {
    if (words[i] === "--profile") profilePath = words[++i] ?? null;
    else if (words[i] === "--accept-cache-loss") acceptCacheLoss = true;
    else if (words[i] === "--help") {
      console.log(usage);
      process.exit(exitStopped);
    } else fail(exitUsage, `unknown argument ${words[i]}; ${usage}`);
  }
  if (profilePath === null) fail(exitUsage, `--profile FILE is missing; ${usage}`);
  return { profilePath, acceptCacheLoss };
}

function readProfile(path: string): BoardProfile {
  let parsed: unknown;
  try {
    parsed = Bun.TOML.parse(readFileSync(path, "utf8"));
  } catch (error) {
    const why = error instanceof Error ? error.message.split("\n")[0] : String(error);
    fail(exitUsage, `${path}: ${why}; see images/profiles for examples`);
  }
  const judged = parseBoardProfile(basename(path), parsed);
  if (!judged.ok) fail(exitUsage, judged.text);
  return judged.profile;
}

async function main(): Promise<void> {
  const { profilePath, acceptCacheLoss } = readArguments(process.argv.slice(2));
  const profile = readProfile(profilePath);
  const opened = await openLinuxHal(profile.board);
  if ("error" in opened) fail(exitRefused, opened.error);
  const { hal } = opened;
  const file = EventFile.open(profile.logFile);
  if (typeof file === "string") fail(exitRefused, file);
  const events = new EventLog(hal.clock, (event) => file.append(encodeEventLine(event)));

  const crash = (error: unknown): never => {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    events.emit("appliance-crashed", text);
    file.flushNow();
    console.error(`goldcopy: ${text}`);
    process.exit(exitCrashed);
  };
  process.on("uncaughtException", crash);
  process.on("unhandledRejection", crash);

  for (const problem of opened.problems) events.emit("hardware-problem", problem);
  const poolWarning = threadPoolWarning();
  if (poolWarning !== null) events.emit("few-file-threads", poolWarning);

  const config = { ...profile.config, acceptCacheLoss };
  const started = await startAppliance({ hal, config, events, version: packageJson.version });
  if (!started.ok) {
    file.flushNow();
    fail(exitRefused, started.text);
  }
  const { control } = started;
  const lab = createLabPort({ nics: hal.nics, shelves: hal.shelves, faults: opened, events });
  const served = await serveManagement({
    path: profile.socket,
    bodyBytesMax: bodyCharsMax,
    handler: createApi({ control, events, clock: hal.clock, lab }),
    crash,
  });
  if (typeof served === "string") {
    events.emit("start-refused", served);
    file.flushNow();
    fail(exitRefused, served);
  }

  let stopping = false;
  const stop = (signal: string) => {
    if (stopping) return;
    stopping = true;
    events.emit("signal-received", `${signal}: an orderly stop begins`);
    setTimeout(() => {
      events.emit("stop-cut-short", `not done after ${stopLimitMs / 1000} s; the next start recovers`);
      file.flushNow();
      process.exit(exitRefused);
    }, stopLimitMs).unref();
    stopOrderly(control, opened).then(() => {
      file.flushNow();
      served.close();
      process.exit(exitStopped);
    }, crash);
  };
  process.on("SIGTERM", () => stop("SIGTERM"));
  process.on("SIGINT", () => stop("SIGINT"));
}

async function stopOrderly(control: Control, hardware: { close(): Promise<void> }): Promise<void> {
  await control.stop();
  await hardware.close();
}

await main();
