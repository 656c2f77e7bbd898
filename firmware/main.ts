/**
 * The appliance's process: an entry point. It reads the board profile, takes its log and its management socket, opens the
 * hardware, and starts the firmware on it. What can be refused is refused before anything is stored: a socket of a live appliance,
 * a taken address, a wrong cache, a shelf that is not whole.
 *
 * Exit codes: 0 stopped in an orderly way; 1 could not start (the text says why; nothing was overwritten); 2 usage or profile;
 * 3 a broken invariant or another defect: crash-only, the next start is a recovery.
 */
import { closeSync, openSync, readSync } from "node:fs";
import { causeOf } from "../hal/linux/address.ts";
import { LinuxClock } from "../hal/linux/clock.ts";
import { EventFile } from "../hal/linux/event_file.ts";
import { shownTrial } from "../hal/linux/image_state.ts";
import { type ManagementSocket, serveManagement } from "../hal/linux/management_socket.ts";
import { descriptorWarning, openLinuxHal, threadPoolWarning } from "../hal/linux/open.ts";
import { SupervisorPipe } from "../hal/linux/supervisor_pipe.ts";
import packageJson from "../package.json" with { type: "json" };
import { startAppliance } from "./appliance.ts";
import { bodyCharsMax, createApi } from "./manage/api.ts";
import { type BoardProfile, parseBoardProfile } from "./manage/board_profile.ts";
import { chapSecretOf } from "./manage/chap_secret.ts";
import { EventLog, encodeEventLine } from "./manage/events.ts";
import { createLabPort } from "./manage/lab_port.ts";
import { createStartingApi } from "./manage/starting_api.ts";
import { createPairApi } from "./pair_api.ts";
import { PairAppliance } from "./pair_appliance.ts";
import { rehearse } from "./rehearsal.ts";
import type { ChapCredentials } from "./volume/host_access.ts";

const exitStopped = 0;
const exitRefused = 1;
const exitUsage = 2;
const exitCrashed = 3;

/** An orderly stop waits for disks at most this long; what is not done then is left to recovery. */
const stopLimitMs = 30_000;

/** The last lines of the log wait this long for their device. */
const logLimitMs = 2000;
/** A profile of 256 disks with long paths has 100 KiB. */
const profileCharsMax = 256 * 1024;

const usage = "usage: main.ts --profile FILE [--accept-cache-loss] [--accept-stale-disk]";

function fail(code: number, text: string): never {
  console.error(`goldcopy: ${text}`);
  process.exit(code);
}

interface Arguments {
  readonly profilePath: string;
  /** The operator's word that a wrong or lost cache is to be given up. */
  readonly acceptCacheLoss: boolean;
  /** The operator's word that a stale disk is to be used as it is. */
  readonly acceptStaleDisk: boolean;
}

function readArguments(words: readonly string[]): Arguments {
  let profilePath: string | null = null;
  let acceptCacheLoss = false;
  let acceptStaleDisk = false;
  for (let i = 0; i < words.length; i++) {
    if (words[i] === "--profile") profilePath = words[++i] ?? null;
    else if (words[i] === "--accept-cache-loss") acceptCacheLoss = true;
    else if (words[i] === "--accept-stale-disk") acceptStaleDisk = true;
    else if (words[i] === "--help") {
      console.log(usage);
      process.exit(exitStopped);
    } else fail(exitUsage, `unknown argument ${words[i]}; ${usage}`);
  }
  if (profilePath === null) fail(exitUsage, `--profile FILE is missing; ${usage}`);
  return { profilePath, acceptCacheLoss, acceptStaleDisk };
}

function readProfile(path: string): BoardProfile {
  let text = "";
  try {
    text = readBounded(path);
  } catch (error) {
    fail(exitUsage, `${path}: cannot read the profile: ${causeOf(error)}; correct --profile FILE`);
  }
  if (text.length > profileCharsMax)
    fail(exitUsage, `${path}: too long for a profile; see images/profiles for examples`);
  const fault = tomlFault(text);
  if (fault !== null) {
    // Bun's parser does not say where. The longest beginning that is right on its own ends just before the fault.
    const lines = text.split("\n");
    let right = lines.length;
    do right--;
    while (right > 0 && tomlFault(lines.slice(0, right).join("\n")) !== null);
    fail(exitUsage, `${path}: line ${right + 1}: ${fault}; see images/profiles for examples`);
  }
  const judged = parseBoardProfile(path, Bun.TOML.parse(text));
  if (!judged.ok) fail(exitUsage, judged.text);
  return judged.profile;
}

/** What the target proves of itself, or what is wrong with the file of its secret. */
function readOwnSecret(chap: { user: string; secretFile: string }): ChapCredentials | string {
  const remedy = "correct iscsi.chap_secret_file";
  try {
    const read = chapSecretOf(readBounded(chap.secretFile));
    if ("fault" in read) return `${chap.secretFile}: ${read.fault}; ${remedy}`;
    return { user: chap.user, secret: new TextEncoder().encode(read.secret) };
  } catch (error) {
    return `${chap.secretFile}: ${causeOf(error)}; ${remedy}`;
  }
}

/** At most one character more than a profile may have: what is named may be no file at all. */
function readBounded(path: string): string {
  const bytes = new Uint8Array(profileCharsMax + 1);
  const fd = openSync(path, "r");
  let length = 0;
  for (;;) {
    const count = readSync(fd, bytes, length, bytes.byteLength - length, null);
    length += count;
    if (count === 0 || length === bytes.byteLength) break;
  }
  closeSync(fd);
  return new TextDecoder().decode(bytes.subarray(0, length));
}

function tomlFault(text: string): string | null {
  try {
    Bun.TOML.parse(text);
    return null;
  } catch (error) {
    return error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error);
  }
}

/** What the process holds while it runs, so that every way out gives it back. */
interface Outlets {
  readonly file: EventFile;
  readonly events: EventLog;
  /** null: not taken. */
  readonly socket: ManagementSocket | null;
}

async function main(): Promise<void> {
  const { profilePath, acceptCacheLoss, acceptStaleDisk } = readArguments(process.argv.slice(2));
  const clock = new LinuxClock();
  const supervisor = new SupervisorPipe(process.env["GOLDCOPY_SUPERVISOR"], clock);
  const profile = readProfile(profilePath);
  const file = EventFile.open(profile.logFile);
  if (typeof file === "string") fail(exitRefused, file);
  const events = new EventLog(clock, (event) => file.append(encodeEventLine(event)));
  const crash = (error: unknown): never => {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    events.emit("appliance-crashed", text);
    file.flushNow();
    console.error(`goldcopy: ${text}`);
    process.exit(exitCrashed);
  };
  process.on("uncaughtException", crash);
  process.on("unhandledRejection", crash);

  const { array } = profile.config;
  const { sizeBytes: cacheBytes } = profile.board.cache;
  let api = createStartingApi({
    array: array.name,
    appliance: array.appliance,
    version: packageJson.version,
    cacheBytes,
    events,
  });
  const socket = await serveManagement({
    path: profile.socket,
    port: profile.managementPort,
    bodyBytesMax: bodyCharsMax,
    handler: (method, path, body) => api(method, path, body),
    crash,
  });
  const outlets = { file, events, socket: typeof socket === "string" ? null : socket };
  if (typeof socket === "string") return await refuse(outlets, socket);
  const opened = await openLinuxHal(profile.board);
  if ("error" in opened) return await refuse(outlets, opened.error);
  const addressTrouble = await opened.addressTrouble();
  if (addressTrouble !== null) return await refuse(outlets, addressTrouble);
  const { hal, diskProblems } = opened;
  for (const problem of [...opened.problems, ...diskProblems]) events.emit("hardware-problem", problem);
  const poolWarning = threadPoolWarning();
  if (poolWarning !== null) events.emit("few-file-threads", poolWarning);
  const fewDescriptors = descriptorWarning();
  if (fewDescriptors !== null) events.emit("few-descriptors", fewDescriptors);
  opened.onStranger((text) => events.emit("nic-stranger", text));

  const { iscsi } = profile.config;
  const own = iscsi.chap === null ? null : readOwnSecret(iscsi.chap);
  if (typeof own === "string") return await refuse(outlets, own);
  const config = { ...profile.config, acceptCacheLoss, acceptStaleDisk, iscsi: { targetName: iscsi.targetName, own } };
  const lab = createLabPort({ nics: hal.nics, shelves: hal.shelves, faults: opened, events });
  const { version } = packageJson;
  const { pair } = profile.config;
  let running: { stop(): Promise<void> };
  if (pair === null) {
    const started = await startAppliance({ hal, config, events, version, diskProblems });
    if (!started.ok) return await leave(outlets, started.text);
    api = createApi({ control: started.control, events, clock, lab, trial: shownTrial });
    running = started.control;
  } else {
    const end = (text: string) => void refuse(outlets, text);
    const given = { hal, config, pair, events, version, diskProblems, end };
    const appliance = new PairAppliance({ ...given, rehearse: () => rehearse(hal) });
    api = createPairApi({
      pair: appliance,
      array: array.name,
      appliance: array.appliance,
      version,
      events,
      clock,
      lab,
      trial: shownTrial,
    });
    const trouble = await appliance.start();
    if (trouble !== null) return await refuse(outlets, trouble);
    running = appliance;
  }
  supervisor.serves();

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
    stopOrderly(running, opened, file).then(() => {
      socket.close();
      process.exit(exitStopped);
    }, crash);
  };
  process.on("SIGTERM", () => stop("SIGTERM"));
  process.on("SIGINT", () => stop("SIGINT"));
}

/** The start is refused for a reason that is not in the log yet. */
async function refuse(outlets: Outlets, text: string): Promise<never> {
  outlets.events.emit("start-refused", text);
  return await leave(outlets, text);
}

async function leave({ file, socket }: Outlets, text: string): Promise<never> {
  await file.written(logLimitMs);
  socket?.close();
  fail(exitRefused, text);
}

async function stopOrderly(
  running: { stop(): Promise<void> },
  hardware: { close(): Promise<void> },
  file: EventFile,
): Promise<void> {
  await running.stop();
  await hardware.close();
  await file.written(logLimitMs);
}

await main();
