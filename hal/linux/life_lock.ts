/**
 * The lock that an appliance's process holds for life, and the partner's look at it: whoever can take the lock has proof that its
 * former holder is dead (flock(2): the kernel releases it when the last descriptor is closed, which no death can avoid).
 *
 * The file names its holder, so that a power port on the same machine can kill it.
 *
 * Invariants:
 * - The lock is taken before anything of the shelves is opened, and never given back before the process ends.
 * - A look takes the lock for a moment only; a holder that starts meanwhile tries again.
 */
import { closeSync, constants, ftruncateSync, openSync, readSync, writeSync } from "node:fs";
import type { Clock } from "../api/clock.ts";
import { causeOf } from "./address.ts";
import { lockExclusive } from "./libc.ts";
import { type ProcessName, processOf } from "./process_table.ts";

const contentBytesMax = 64;
/** A partner's look lasts some microseconds: a lock that is still taken after so many tries has a holder. */
const triesMax = 25;
const tryMs = 2;

export class LifeLock {
  readonly #fd: number;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** Takes the lock, or says in a sentence why not. */
  static async take(path: string, clock: Clock): Promise<LifeLock | string> {
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
    const content = new TextEncoder().encode(`${process.pid} ${processOf(process.pid)?.startTicks ?? 0}\n`);
    ftruncateSync(fd, 0);
    writeSync(fd, content, 0, content.byteLength, 0);
    return new LifeLock(fd);
  }

  /** The process is about to end in order: nothing of it touches a shelf any more. */
  release(): void {
    closeSync(this.#fd);
  }
}

/** Whether nobody holds the lock: its last holder is dead. A file that does not exist was never held. */
export function isFree(path: string): boolean {
  const fd = openToLook(path);
  if (fd === "missing") return true;
  if (fd === "unreadable") return false;
  const free = lockExclusive(fd);
  closeSync(fd);
  return free;
}

/** Who holds the lock, as far as its file says; null: nobody that can be told. */
export function holderOf(path: string): ProcessName | null {
  const fd = openToLook(path);
  if (typeof fd === "string") return null;
  const bytes = new Uint8Array(contentBytesMax);
  const length = readSync(fd, bytes, 0, bytes.byteLength, 0);
  closeSync(fd);
  const [pid, startTicks] = new TextDecoder().decode(bytes.subarray(0, length)).trim().split(" ").map(Number);
  if (!Number.isSafeInteger(pid) || !Number.isSafeInteger(startTicks) || pid === undefined || pid <= 1) return null;
  const running = processOf(pid);
  return running !== null && running.startTicks === startTicks ? running : null;
}

function openToLook(path: string): number | "missing" | "unreadable" {
  try {
    return openSync(path, constants.O_RDWR);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOENT" ? "missing" : "unreadable";
  }
}
