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
 * - Where disks evict (`atomic`), one process of this machine has a disk: to the disk, all that comes from here is one and the same initiator. The
 *   kernel's exclusive claim ends with the process too, when what that had under way has ended.
 */
import { closeSync, constants, fstatSync, ftruncateSync, openSync } from "node:fs";
import type { Clock } from "../api/clock.ts";
import type { Shelf } from "../api/shelf.ts";
import { causeOf } from "./address.ts";
import { maySendScsi, whyNotOneScsiDisk } from "./block_device.ts";
import type { DiskDescription, ShelfDescription } from "./board.ts";
import type { Discarder } from "./discard.ts";
import { FileDisk } from "./disk.ts";
import { type AskScsi, ReservationFence, whyNoFence } from "./disk_fence.ts";
import { liesInMemory, lockExclusive, sizeOf } from "./libc.ts";
import type { ReadShare } from "./read_share.ts";
import type { ScsiOutcome } from "./scsi_generic.ts";
import type { ScsiPort } from "./scsi_port.ts";

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
  readonly scsi: ScsiPort;
  /** Whether files that the profile says to create are created. */
  readonly mayCreate: boolean;
}

export async function openShelf(
  description: ShelfDescription,
  options: ShelfOptions,
): Promise<{ shelf: LinuxShelf; problems: string[] }> {
  const problems: string[] = [];
  const disks: (FileDisk | null)[] = [];
  for (const disk of description.disks) {
    while (disks.length <= disk.slot) disks.push(null);
    const place = `${description.name}/${disk.slot}`;
    const { fencing, direct = false } = description;
    const opened = await openDisk(place, disk, { ...options, fencing, direct });
    if (typeof opened === "string") problems.push(`${place}: ${opened}`);
    else disks[disk.slot] = opened;
  }
  return { shelf: new LinuxShelf(description, disks), problems };
}

/** The disk, or why there is none. */
async function openDisk(
  place: string,
  description: DiskDescription,
  options: ShelfOptions & { readonly fencing: ShelfDescription["fencing"]; readonly direct: boolean },
): Promise<FileDisk | string> {
  const { path } = description;
  const { fencing } = options;
  const opened = openOrCreate(description, options.mayCreate && fencing !== "atomic");
  if (typeof opened === "string") return opened;
  let { fd } = opened;
  const refuse = (why: string): string => {
    closeSync(fd);
    return `${path}: ${why}`;
  };
  const stat = fstatSync(fd);
  if (!stat.isFile() && !stat.isBlockDevice()) return refuse("neither a file nor a block device");
  if (fencing === "atomic") {
    const hindrance = stat.isBlockDevice()
      ? whyNotOneScsiDisk(stat.rdev)
      : "it is a file, and no disk that could evict anybody";
    if (hindrance !== null) return refuse(`${hindrance} (fencing = "atomic")`);
  }
  if (options.direct || (fencing !== "none" && stat.isBlockDevice())) {
    const reopened = reopen(path, fencing === "atomic");
    if (typeof reopened === "string") return refuse(reopened);
    closeSync(fd);
    fd = reopened;
  }
  if (fencing === "none" && !lockExclusive(fd)) return refuse("another process uses it; stop that one first");
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
  const fence = fencing === "atomic" ? await fenceOf(place, fd, options.scsi) : undefined;
  if (typeof fence === "string") return refuse(fence);
  const { clock, discarder } = options;
  const inMemory = stat.isFile() && liesInMemory(fd);
  const direct = options.direct || (fencing !== "none" && stat.isBlockDevice());
  const reads = options.reads.line();
  return new FileDisk({ place, fd, sizeBytes, inMemory, direct, clock, discarder, reads, ...(fence && { fence }) });
}

/** Or why there is none. */
async function fenceOf(place: string, fd: number, scsi: ScsiPort): Promise<ReservationFence | string> {
  if (!maySendScsi())
    return 'this process may not send SCSI commands, with which disks evict (fencing = "atomic"); give it CAP_SYS_RAWIO, or run it as root';
  const ask: AskScsi = (command) => new Promise<ScsiOutcome>((done) => scsi.execute(fd, command, done));
  const lack = await whyNoFence(ask);
  return lack === null
    ? new ReservationFence(place, ask)
    : `${lack}, so it cannot evict a lost partner (fencing = "atomic"); take a disk that can, or fence by power`;
}

/** Past the page cache; `isClaimed`: and nobody else on this machine. */
function reopen(path: string, isClaimed: boolean): number | string {
  try {
    return openSync(path, constants.O_RDWR | constants.O_DIRECT | (isClaimed ? constants.O_EXCL : 0));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EBUSY")
      return "something else on this machine uses it (EBUSY): another appliance, a mount, LVM, multipath; let that go of it";
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
