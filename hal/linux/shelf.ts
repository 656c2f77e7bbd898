/**
 * A shelf: slots with disks on files or block devices.
 *
 * Invariants:
 * - Opening never changes what exists. A disk that cannot be used leaves its slot empty and a line of text; the appliance decides
 *   what that means.
 * - Files are made for a new appliance alone: later a missing file is a missing disk, perhaps on a file system that is not mounted.
 * - A device that two appliances share is used past this machine's page cache: the other one may be on another machine. (A file that
 *   they share has one page cache, that of their machine.)
 * - On a shelf without fencing a disk is used by one process at a time; the lock ends with the process, however that dies.
 */
import { closeSync, constants, fstatSync, ftruncateSync, openSync } from "node:fs";
import type { Clock } from "../api/clock.ts";
import type { Shelf } from "../api/shelf.ts";
import { causeOf } from "./address.ts";
import type { DiskDescription, ShelfDescription } from "./board.ts";
import type { Discarder } from "./discard.ts";
import { FileDisk } from "./disk.ts";
import { liesInMemory, lockExclusive, sizeOf } from "./libc.ts";
import type { ReadShare } from "./read_share.ts";

const blockBytes = 4096;

export class LinuxShelf implements Shelf {
  readonly name: string;
  readonly fencing: "atomic" | "power" | "none";
  readonly disks: readonly (FileDisk | null)[];

  constructor(description: ShelfDescription, disks: readonly (FileDisk | null)[]) {
    this.name = description.name;
    this.fencing = description.fencing;
    this.disks = disks;
  }

  /** For the lab: while on, every disk here answers nothing but `absent`. */
  setFault(on: boolean): void {
    for (const disk of this.disks) disk?.setFault(on);
  }
}

export interface ShelfOptions {
  readonly clock: Clock;
  readonly discarder: Discarder;
  readonly reads: ReadShare;
  /** Whether files that the profile says to create are created. */
  readonly mayCreate: boolean;
}

export function openShelf(
  description: ShelfDescription,
  options: ShelfOptions,
): { shelf: LinuxShelf; problems: string[] } {
  const problems: string[] = [];
  const disks: (FileDisk | null)[] = [];
  for (const disk of description.disks) {
    while (disks.length <= disk.slot) disks.push(null);
    const place = `${description.name}/${disk.slot}`;
    const isShared = description.fencing !== "none";
    const opened = openDisk(place, disk, { ...options, isShared, direct: description.direct ?? false });
    if (typeof opened === "string") problems.push(`${place}: ${opened}`);
    else disks[disk.slot] = opened;
  }
  return { shelf: new LinuxShelf(description, disks), problems };
}

/** The disk, or why there is none. */
function openDisk(
  place: string,
  description: DiskDescription,
  options: ShelfOptions & { readonly isShared: boolean; readonly direct: boolean },
): FileDisk | string {
  const { path } = description;
  const opened = openOrCreate(description, options.mayCreate);
  if (typeof opened === "string") return opened;
  let { fd } = opened;
  const refuse = (why: string): string => {
    closeSync(fd);
    return `${path}: ${why}`;
  };
  const stat = fstatSync(fd);
  if (!stat.isFile() && !stat.isBlockDevice()) return refuse("neither a file nor a block device");
  const direct = options.direct || (options.isShared && stat.isBlockDevice());
  if (direct) {
    const reopened = openDirect(path);
    if (typeof reopened === "string") return refuse(reopened);
    closeSync(fd);
    fd = reopened;
  }
  if (!options.isShared && !lockExclusive(fd)) return refuse("another process uses it; stop that one first");
  // A file of size 0 is one whose creation was interrupted before anything could be stored in it.
  const isUnfinished = stat.isFile() && stat.size === 0 && description.create && options.mayCreate;
  if (isUnfinished && description.sizeBytes !== null) ftruncateSync(fd, description.sizeBytes);
  const foundBytes = sizeOf(fd);
  if (stat.isBlockDevice() && (description.sizeBytes === null || description.sizeBytes <= foundBytes)) {
    // A device may be larger than what the profile uses of it.
  } else if (description.sizeBytes !== null && foundBytes !== description.sizeBytes) {
    return refuse(`it has ${foundBytes} bytes, the profile says ${description.sizeBytes}; correct the profile's size`);
  }
  const sizeBytes = description.sizeBytes ?? foundBytes - (foundBytes % blockBytes);
  if (sizeBytes < blockBytes) return refuse(`it has ${foundBytes} bytes, too few for a disk`);
  const { clock, discarder } = options;
  const inMemory = stat.isFile() && liesInMemory(fd);
  return new FileDisk({ place, fd, sizeBytes, inMemory, direct, clock, discarder, reads: options.reads.line() });
}

function openDirect(path: string): number | string {
  try {
    return openSync(path, constants.O_RDWR | constants.O_DIRECT);
  } catch (error) {
    return `it cannot be used past the page cache: ${causeOf(error)}; choose another device for a shared shelf`;
  }
}

function openOrCreate(description: DiskDescription, mayCreate: boolean): { fd: number } | string {
  const { path, sizeBytes } = description;
  try {
    return { fd: openSync(path, constants.O_RDWR) };
  } catch (error) {
    const isMissing = (error as NodeJS.ErrnoException).code === "ENOENT";
    if (!isMissing || !description.create || sizeBytes === null || !mayCreate)
      return `${path}: cannot open: ${causeOf(error)}`;
  }
  try {
    const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
    ftruncateSync(fd, sizeBytes);
    return { fd };
  } catch (error) {
    // The partner of a pair has made it in between.
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return openOrCreate(description, false);
    return `${path}: cannot create: ${causeOf(error)}`;
  }
}
