/**
 * The file behind the write cache: created once, never resized, used by one process at a time.
 *
 * Invariants:
 * - Every byte has its place on the medium before the file is used: a store into a mapping of a sparse file on a full file system
 *   would be a SIGBUS.
 * - The lock lasts as long as the file is open, so it ends with the process, however that dies.
 */
import { closeSync, constants, fstatSync, fsyncSync, ftruncateSync, openSync, statfsSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { causeOf } from "./address.ts";
import { allocate, lockExclusive } from "./libc.ts";

const fillBytes = 4 * 1024 * 1024;

export interface CacheFile {
  /** Holds the lock. */
  readonly fd: number;
  readonly isNew: boolean;
}

/** `isWritten`: whether a new file is filled with zeros, so that later writes need not convert unwritten extents. */
export function openCacheFile(path: string, sizeBytes: number, isWritten: boolean): CacheFile | string {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600);
  } catch (error) {
    return `cache ${path}: cannot open: ${causeOf(error)}; make its directory writable, or correct [cache] path in the profile`;
  }
  const problem = prepare(fd, path, sizeBytes, isWritten);
  if (typeof problem !== "string") return { fd, isNew: problem.isNew };
  closeSync(fd);
  return `cache ${path}: ${problem}`;
}

function prepare(fd: number, path: string, sizeBytes: number, isWritten: boolean): { isNew: boolean } | string {
  if (!lockExclusive(fd)) return "another process uses it; stop that one first";
  const stat = fstatSync(fd);
  if (!stat.isFile()) return "not a file";
  // A file of size 0 is one whose creation was interrupted before anything could be stored in it.
  const isNew = stat.size === 0;
  if (!isNew && stat.size !== sizeBytes) {
    return (
      `it has ${stat.size} bytes, the profile says ${sizeBytes}; put the old [cache] size back; to change it, stop the appliance ` +
      "in order first, then remove the file"
    );
  }
  try {
    const isAllocated = allocate(fd, sizeBytes);
    const freeBytes = isAllocated ? sizeBytes : freeSpace(path);
    if (isNew && freeBytes < sizeBytes) {
      ftruncateSync(fd, 0);
      return `it needs ${sizeBytes} bytes, its file system has ${freeBytes}; make room or make the cache smaller`;
    }
    if (isNew && (isWritten || !isAllocated)) fillWithZeros(fd, sizeBytes);
    if (!isAllocated && fstatSync(fd).blocks * 512 < sizeBytes)
      return "it has holes and the file system cannot fill them";
    if (isNew) {
      fsyncSync(fd);
      syncDirectory(dirname(path));
    }
  } catch (error) {
    // An interrupted creation must not look like a finished one.
    if (isNew) ftruncateSync(fd, 0);
    return `cannot give it ${sizeBytes} bytes: ${causeOf(error)}`;
  }
  return { isNew };
}

function freeSpace(path: string): number {
  const { bavail, bsize } = statfsSync(path);
  return bavail * bsize;
}

function fillWithZeros(fd: number, sizeBytes: number): void {
  const zeros = new Uint8Array(fillBytes);
  for (let offset = 0; offset < sizeBytes; ) {
    offset += writeSync(fd, zeros, 0, Math.min(fillBytes, sizeBytes - offset), offset);
  }
}

function syncDirectory(path: string): void {
  const fd = openSync(path, constants.O_RDONLY);
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
