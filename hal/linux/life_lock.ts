/**
 * The lock that an appliance's process holds for life, and the partner's look at it: whoever can take the lock has proof that its
 * former holder is dead (flock(2): the kernel releases it when the last descriptor is closed, which no death can avoid).
 *
 * The file names its holder, so that a power port on the same machine can kill it: process, start, and which appliance it is.
 *
 * Invariants:
 * - Only the appliance that is meant is killed, and the file names its holder: a profile that names another one's lock kills nobody. A file of a
 *   version that did not write the name counts for whoever is asked about.
 * - The lock is taken before anything of the shelves is opened, and never given back before the process ends.
 * - A look takes the lock for a moment only; a holder that starts meanwhile tries again.
 */
import { closeSync, constants, ftruncateSync, openSync, readSync, writeSync } from "node:fs";
import type { Clock } from "../api/clock.ts";
import { causeOf } from "./address.ts";
import { lockExclusive } from "./libc.ts";
import { type ProcessName, processOf } from "./process_table.ts";

/** A pid, ticks of up to 20 digits, and the names of array and appliance of 63 each. */
const contentBytesMax = 192;
/** A partner's look lasts some microseconds: a lock that is still taken after so many tries has a holder. */
const triesMax = 25;
const tryMs = 2;

export class LifeLock {
  readonly #fd: number;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** Takes the lock, or says in a sentence why not. `holder`: see `holderName`. */
  static async take(path: string, holder: string, clock: Clock): Promise<LifeLock | string> {
    let fd: number;
    try {
      fd = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600);
    } catch (error) {
      return `${path}: cannot open the life lock: ${causeOf(error)}; correct [power] lock in the profile`;
    }
    for (let tries = 1; !lockExclusive(fd); tries++) {
      if (tries === triesMax) {
        closeSync(fd);
        return `${path}: another process of this appliance lives; stop that one first`;
      }
      await new Promise<void>((resolve) => clock.after(tryMs, resolve));
    }
    const content = new TextEncoder().encode(`${process.pid} ${processOf(process.pid)?.startTicks ?? 0} ${holder}\n`);
    ftruncateSync(fd, 0);
    writeSync(fd, content, 0, content.byteLength, 0);
    return new LifeLock(fd);
  }

  /** The process is about to end in order: nothing of it touches a shelf any more. */
  release(): void {
    closeSync(this.#fd);
  }
}

/** As a life lock's file names an appliance. */
export function holderName(array: string, appliance: string): string {
  return `${array}/${appliance}`;
}

/** Whether nobody holds the lock: its last holder is dead, whatever it was called. A file that does not exist was never held. */
export function isFree(path: string): boolean {
  const fd = openToLook(path);
  if (fd === "missing") return true;
  if (fd === "unreadable") return false;
  const free = lockExclusive(fd);
  closeSync(fd);
  return free;
}

/** Who holds the lock, as far as its file says; null: nobody that can be told. A text is another appliance than `holder`. */
export function holderOf(path: string, holder: string): ProcessName | string | null {
  const fd = openToLook(path);
  if (typeof fd === "string") return null;
  const content = contentOf(fd);
  closeSync(fd);
  const [, , name = ""] = content;
  if (name !== "" && name !== holder) return name;
  const [pid, startTicks] = content.slice(0, 2).map(Number);
  if (!Number.isSafeInteger(pid) || !Number.isSafeInteger(startTicks) || pid === undefined || pid <= 1) return null;
  const running = processOf(pid);
  return running !== null && running.startTicks === startTicks ? running : null;
}

/** Pid, start and name, as far as they are there. */
function contentOf(fd: number): string[] {
  const bytes = new Uint8Array(contentBytesMax);
  const length = readSync(fd, bytes, 0, bytes.byteLength, 0);
  return new TextDecoder().decode(bytes.subarray(0, length)).trim().split(" ");
}

function openToLook(path: string): number | "missing" | "unreadable" {
  try {
    return openSync(path, constants.O_RDWR);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOENT" ? "missing" : "unreadable";
  }
}
