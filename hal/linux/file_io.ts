/** Whole reads and writes of a file through the runtime's thread pool, and what their failures mean to a shelf. */
import { fdatasync, read, write, writev } from "node:fs";
import type { DiskError } from "../api/shelf.ts";
import { causeOf } from "./address.ts";

/** IOV_MAX of Linux. */
const sourcesPerCallMax = 1024;

/** A failed call; `code` as in errno. */
export type IoFailure = { readonly code: string };
export type IoDone = (failure: IoFailure | null) => void;

function toFailure(error: NodeJS.ErrnoException): IoFailure {
  return { code: error.code ?? "EUNKNOWN" };
}

/** Fills `target`; ending early counts as EIO: the caller checked the range against the size. */
export function readAll(fd: number, offsetBytes: number, target: Uint8Array, done: IoDone): void {
  read(fd, target, 0, target.byteLength, offsetBytes, (error, bytes) => {
    if (error) done(toFailure(error));
    else if (bytes === target.byteLength) done(null);
    else if (bytes === 0) done({ code: "EIO" });
    else readAll(fd, offsetBytes + bytes, target.subarray(bytes), done);
  });
}

export function writeAll(fd: number, offsetBytes: number, sources: readonly Uint8Array[], done: IoDone): void {
  const first = sources[0];
  if (sources.length === 1 && first !== undefined) {
    writeOne(fd, offsetBytes, first, done);
    return;
  }
  const batch = sources.slice(0, sourcesPerCallMax);
  writev(fd, batch, offsetBytes, (error, bytes) => {
    if (error) return done(toFailure(error));
    if (bytes === 0) return done({ code: "EIO" });
    const rest = after(sources, bytes);
    if (rest.length === 0) done(null);
    else writeAll(fd, offsetBytes + bytes, rest, done);
  });
}

function writeOne(fd: number, offsetBytes: number, source: Uint8Array, done: IoDone): void {
  write(fd, source, 0, source.byteLength, offsetBytes, (error, bytes) => {
    if (error) done(toFailure(error));
    else if (bytes === source.byteLength) done(null);
    else if (bytes === 0) done({ code: "EIO" });
    else writeOne(fd, offsetBytes + bytes, source.subarray(bytes), done);
  });
}

export function syncData(fd: number, done: IoDone): void {
  fdatasync(fd, (error) => done(error ? toFailure(error) : null));
}

/** What is left of `sources` behind their first `bytes` bytes. */
function after(sources: readonly Uint8Array[], bytes: number): Uint8Array[] {
  let left = bytes;
  const rest: Uint8Array[] = [];
  for (const source of sources) {
    if (left >= source.byteLength) left -= source.byteLength;
    else {
      rest.push(left === 0 ? source : source.subarray(left));
      left = 0;
    }
  }
  return rest;
}

const diskErrorCodes: Record<string, DiskError["code"]> = {
  EIO: "medium",
  EBADMSG: "medium",
  EUCLEAN: "medium",
  ENODATA: "medium",
  EREMOTEIO: "medium",
  ENOSPC: "no-space",
  EDQUOT: "no-space",
  ENXIO: "absent",
  ENODEV: "absent",
  ENOMEDIUM: "absent",
  ESHUTDOWN: "absent",
  EBADF: "absent",
  ETIMEDOUT: "timeout",
  // What the kernel makes of RESERVATION CONFLICT.
  EBADE: "evicted",
};

export function toDiskError(place: string, operation: string, failure: IoFailure): DiskError {
  return { code: diskErrorCodes[failure.code] ?? "failed", text: `${place}: ${operation}: ${causeOf(failure)}` };
}
