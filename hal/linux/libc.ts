/**
 * The few system calls that neither Bun nor node:fs offers, through bun:ffi (6 ns overhead a call).
 *
 * errno cannot be read reliably here (the runtime makes calls of its own in between), so every function answers only whether it
 * worked; where the cause matters, node:fs is used instead.
 */
import { dlopen, FFIType, type Pointer, ptr } from "bun:ffi";

const libc = dlopen("libc.so.6", {
  pread: { args: ["i32", "ptr", FFIType.u64_fast, FFIType.i64_fast], returns: FFIType.i64_fast },
  preadv2: { args: ["i32", "ptr", "i32", FFIType.i64_fast, "i32"], returns: FFIType.i64_fast },
  fallocate: { args: ["i32", "i32", FFIType.i64_fast, FFIType.i64_fast], returns: "i32" },
  fstatfs: { args: ["i32", "ptr"], returns: "i32" },
  lseek: { args: ["i32", FFIType.i64_fast, "i32"], returns: FFIType.i64_fast },
  flock: { args: ["i32", "i32"], returns: "i32" },
  ioctl: { args: ["i32", FFIType.u64_fast, "ptr"], returns: "i32" },
  madvise: { args: ["ptr", FFIType.u64_fast, "i32"], returns: "i32" },
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  sendto: { args: ["i32", "ptr", FFIType.u64_fast, "i32", "ptr", "u32"], returns: FFIType.i64_fast },
  recv: { args: ["i32", "ptr", FFIType.u64_fast, "i32"], returns: FFIType.i64_fast },
}).symbols;

const tmpfsMagic = 0x01021994;
const ramfsMagic = 0x858458f6;
const rwfNowait = 8;
const fallocKeepSize = 1;
const fallocPunchHole = 2;
const seekEnd = 2;
const lockExclusiveNonBlocking = 2 | 4;
const madvPopulateRead = 22;
const madvPopulateWrite = 23;
const pageBytes = 4096;
const closeOnExec = 0x80000;
const dontWait = 0x40;

/**
 * One iovec { base, length }, reused by every call: calls do not overlap. Pointers are below 2^47, lengths below 2^32.
 *
 * Over an ArrayBuffer of its own: a small `new Uint32Array(4)` lives in the garbage-collected heap and does not stay where `ptr`
 * saw it. Measured on Bun 1.4.5: from some hundred calls on the kernel read an old iovec and filled another caller's buffer.
 */
const iovec = new Uint32Array(new ArrayBuffer(16));
const iovecPointer = ptr(iovec);
const twoTo32 = 2 ** 32;

/** Fills `target` from the file; false when it came short or failed. For files whose reads cannot block (tmpfs). */
export function readFully(fd: number, offsetBytes: number, target: Uint8Array): boolean {
  return Number(libc.pread(fd, ptr(target), target.byteLength, offsetBytes)) === target.byteLength;
}

/** Fills `target` from the page cache alone; false when that is not possible without a device. */
export function readFullyNoWait(fd: number, offsetBytes: number, target: Uint8Array): boolean {
  const base = ptr(target) as number;
  iovec[0] = base >>> 0;
  iovec[1] = Math.floor(base / twoTo32);
  iovec[2] = target.byteLength;
  iovec[3] = 0;
  return Number(libc.preadv2(fd, iovecPointer, 1, offsetBytes, rwfNowait)) === target.byteLength;
}

/** Whether the file lies in memory alone, so that no call on it waits for a device. */
export function liesInMemory(fd: number): boolean {
  // struct statfs is 120 bytes on 64-bit Linux; f_type is its first, 8-byte field.
  const statfs = new Uint32Array(32);
  if (libc.fstatfs(fd, ptr(statfs)) !== 0) return false;
  return statfs[0] === tmpfsMagic || statfs[0] === ramfsMagic;
}

/** Gives every byte of the range its place on the medium; what is there stays. */
export function allocate(fd: number, lengthBytes: number): boolean {
  return libc.fallocate(fd, 0, 0, lengthBytes) === 0;
}

export function punchHole(fd: number, offsetBytes: number, lengthBytes: number): boolean {
  return libc.fallocate(fd, fallocPunchHole | fallocKeepSize, offsetBytes, lengthBytes) === 0;
}

/** The size of a file or block device; negative when it has none. */
export function sizeOf(fd: number): number {
  return Number(libc.lseek(fd, 0, seekEnd));
}

/** Takes the exclusive lock of an open file, held until the file is closed or the process dies; false: another has it. */
export function lockExclusive(fd: number): boolean {
  return libc.flock(fd, lockExclusiveNonBlocking) === 0;
}

/** A device's own call, with the memory that it reads and fills; false: the kernel refused it. */
export function ioctl(fd: number, request: number, memory: Pointer): boolean {
  return libc.ioctl(fd, request, memory) >= 0;
}

/** Maps the pages of a mapping at once instead of one fault each. Best effort. */
export function populate(memory: Uint8Array, forWriting: boolean): void {
  libc.madvise(ptr(memory), memory.byteLength, forWriting ? madvPopulateWrite : madvPopulateRead);
}

/** Whether the buffer begins where O_DIRECT can take it. */
export function isPageAligned(memory: Uint8Array): boolean {
  return (ptr(memory) as number) % pageBytes === 0;
}

/** A buffer that O_DIRECT can take. */
export function pageAligned(lengthBytes: number): Uint8Array {
  const memory = new Uint8Array(lengthBytes + pageBytes);
  const behind = (ptr(memory) as number) % pageBytes;
  const start = behind === 0 ? 0 : pageBytes - behind;
  return memory.subarray(start, start + lengthBytes);
}

/** A socket of a family that the runtime has none of; null: the kernel gives none. Closed as a file is. */
export function openSocket(family: number, type: number, protocol: number): number | null {
  const fd = libc.socket(family, type | closeOnExec, protocol);
  return fd < 0 ? null : fd;
}

/** Sends one datagram to the `sockaddr` given; false: the kernel did not take it. */
export function sendTo(fd: number, datagram: Uint8Array, sockaddr: Uint8Array): boolean {
  const length = datagram.byteLength;
  return Number(libc.sendto(fd, ptr(datagram), length, dontWait, ptr(sockaddr), sockaddr.byteLength)) === length;
}

/** The next datagram that is there, in `target`: its length, cut to that of `target`; null: none is there. */
export function receiveNow(fd: number, target: Uint8Array): number | null {
  const length = Number(libc.recv(fd, ptr(target), target.byteLength, dontWait));
  return length < 0 ? null : length;
}
