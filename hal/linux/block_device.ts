/** What sysfs says of a block device that is to evict others: whether there is one SCSI disk behind it, as a whole, on one way. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

const capSysRawio = 17n;

/** `rdev` as in struct stat. Why the device cannot be asked for persistent reservations, with what to do; null: nothing is known against it. */
export function whyNotOneScsiDisk(rdev: number, sysfs = "/sys"): string | null {
  const entry = join(sysfs, "dev/block", deviceName(rdev));
  if (existsSync(join(entry, "dm")))
    return "it is a device-mapper device (LVM, multipath), whose reservations would be those of one path; name one path's disk, which nothing else uses";
  if (existsSync(join(entry, "md"))) return "it is a RAID of Linux (md), which has no reservations; name its disks";
  if (existsSync(join(entry, "partition")))
    return "it is a partition, and reservations are the whole disk's; name that";
  if (!existsSync(join(entry, "device/scsi_level")))
    return "it is no SCSI disk (of virtio, NVMe, a loop device), so it cannot evict anybody; name a disk on iSCSI, Fibre Channel, SAS or virtio-scsi";
  return null;
}

/** Linux' own numbering (`huge_encode_dev`). */
export function deviceName(rdev: number): string {
  const major = Math.floor(rdev / 256) % 4096;
  const minor = (rdev % 256) + Math.floor(rdev / 1_048_576) * 256;
  return `${major}:${minor}`;
}

/** Whether this process may send any SCSI command; the kernel lets others send those alone that change nothing. */
export function maySendScsi(status = readFileSync("/proc/self/status", "utf8")): boolean {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1];
  return effective !== undefined && ((BigInt(`0x${effective}`) >> capSysRawio) & 1n) === 1n;
}
