/**
 * A start of the array's firmware on hardware of paper, so that the runtime has compiled what a takeover runs before hosts wait for it.
 *
 * Measured (two cores, a log of some thousand records): the first hand-over to a process 140 to 430 ms, every later one 30 to 60 ms; the
 * difference is code that runs for the first time. A rehearsal takes 2 to 4 s, and half of that of one processor, in small pieces; when it
 * is done, and done again, is said in `pair/readiness.ts`.
 *
 * Everything is in memory and forgotten afterwards; nothing of the appliance's own hardware is touched.
 */
import type { Clock } from "../hal/api/clock.ts";
import type { Digests } from "../hal/api/digests.ts";
import type { Entropy } from "../hal/api/entropy.ts";
import type { Hal } from "../hal/api/hal.ts";
import type { Disk } from "../hal/api/shelf.ts";
import type { WriteCache } from "../hal/api/write_cache.ts";
import { startAppliance } from "./appliance.ts";
import { HardwareLease } from "./pair/hardware_lease.ts";
import type { BlockRequest } from "./volume/block_request.ts";
import { VolumeTarget } from "./volume/volume_target.ts";

const mebibyte = 1024 * 1024;
const cacheBytes = 32 * mebibyte;
const diskBytes = 256 * mebibyte;
const volumeBytes = 32 * mebibyte;
/**
 * After each start so much is written, and the next one recovers all of it: few records while everything runs for the first time, some
 * thousand, for the runtime's optimising compiler, when it has been compiled. The cache holds 5,000.
 */
const writesAfterStart = [100, 200, 400, 800, 1600, 1600, 0];
const blockBytes = 4096;
const volume = "rehearsal";

const config = {
  array: { name: "rehearsal", appliance: "rehearsal" },
  peers: [],
  link: { heartbeatMs: 100, peerTimeoutMs: 1000 },
  store: { slabBytes: mebibyte, logSlotBytes: mebibyte, mapCacheBytes: mebibyte },
};

/**
 * Between two pieces of it the appliance does what it is there for: it serves its own half of the array meanwhile. Without the pauses both
 * appliances of a pair stood still for 1.8 s at a start on two busy cores, and one took the other for dead. A start is cut into pieces by
 * the hardware of paper, which answers in the event loop's next turn: the longest piece takes 10 to 25 ms of the processor, where a start
 * with 5,000 records in one piece took 52, and hosts waited for it.
 */
const writesInPiece = 32;
const pauseMs = 5;
const pauseBetweenStartsMs = 100;
/** There is no peer to ask: a group is opened for writing in a few milliseconds. */
const writableMs = 10_000;

/** Resolves with how often the firmware was started on paper; rejects where a defect has ended it, and nothing is the worse for that. */
export async function rehearse(hal: {
  readonly clock: Clock;
  readonly entropy: Entropy;
  readonly digests: Digests;
}): Promise<number> {
  const paper = paperHal(hal);
  const pause = (ms: number) => new Promise<void>((resolve) => hal.clock.after(ms, resolve));
  let starts = 0;
  for (const writes of writesAfterStart) {
    if (!(await play(paper, (groups) => writeMuch(groups, writes, () => pause(pauseMs))))) break;
    starts++;
    await pause(pauseBetweenStartsMs);
  }
  return starts;
}

type Groups = Extract<Awaited<ReturnType<typeof startAppliance>>, { ok: true }>["groups"];

async function play(paper: Hal, act: (groups: Groups) => Promise<void>): Promise<boolean> {
  const lease = new HardwareLease(paper, () => {});
  const started = await startAppliance({ hal: lease.hal, config, events: { emit: () => {} }, version: "" });
  if (started.ok) {
    if (started.groups.all().length === 0)
      await started.control.volumes.create({ name: volume, sizeBytes: volumeBytes, group: null, pool: null });
    await act(started.groups);
  }
  await lease.end();
  return started.ok;
}

async function writeMuch(groups: Groups, writes: number, pause: () => Promise<void>): Promise<void> {
  const found = groups.findVolume(volume);
  if (found === null) return;
  await found.replication.until(() => found.group.serving().writable, writableMs);
  const target = new VolumeTarget(found.group, found.volume.number, volume, false);
  const payload = new Uint8Array(blockBytes).fill(7);
  for (let left = writes; left > 0; left -= writesInPiece) {
    await writePiece(target, payload, left);
    await pause();
  }
}

function writePiece(target: VolumeTarget, payload: Uint8Array, from: number): Promise<void> {
  return new Promise((resolve) => {
    let underWay = writesInPiece;
    const ended = (): void => {
      underWay--;
      if (underWay === 0) resolve();
    };
    for (let index = 0; index < writesInPiece; index++) {
      const block = ((from + index) * 37) % (volumeBytes / blockBytes);
      target.submit(request(block * (blockBytes / 512), payload, ended));
    }
  });
}

function request(startLba: number, payload: Uint8Array, onDone: () => void): BlockRequest {
  return {
    kind: "write",
    startLba,
    blockCount: payload.byteLength / 512,
    payload: [payload],
    target: new Uint8Array(0),
    keepAllocated: false,
    atomic: false,
    miscompareOffset: 0,
    extents: [],
    error: null,
    onDone,
  };
}

function paperHal({ clock, entropy, digests }: { clock: Clock; entropy: Entropy; digests: Digests }): Hal {
  const cache: WriteCache = {
    sizeBytes: cacheBytes,
    domain: "battery",
    memory: new Uint8Array(cacheBytes),
    battery: () => "good",
    onBattery: () => {},
    wrote: () => {},
    persist: (done) => clock.after(0, () => done("persisted")),
  };
  const shelf = { name: "paper", fencing: "none", disks: [paperDisk(clock)] } as const;
  const nothing = { hbaPorts: [], nics: [], heartbeats: null, serviceAddresses: [], power: null, witness: null };
  return { clock, entropy, digests, cache, shelves: [shelf], ...nothing };
}

/** Pages come into being when they are written. */
function paperDisk(clock: Clock): Disk {
  const pages = new Map<number, Uint8Array>();
  const read = (offsetBytes: number, target: Uint8Array): void => {
    for (let at = 0; at < target.byteLength; at += blockBytes) {
      const page = pages.get((offsetBytes + at) / blockBytes);
      if (page === undefined) target.fill(0, at, at + blockBytes);
      else target.set(page, at);
    }
  };
  return {
    place: "paper/0",
    sizeBytes: diskBytes,
    read: (offsetBytes, target, done) => {
      read(offsetBytes, target);
      clock.after(0, () => done(null));
    },
    tryRead: (offsetBytes, target) => {
      read(offsetBytes, target);
      return true;
    },
    write: (offsetBytes, sources, done) => {
      let at = offsetBytes;
      for (const source of sources) {
        for (let from = 0; from < source.byteLength; ) {
          const inPage = at % blockBytes;
          const part = source.subarray(from, from + blockBytes - inPage);
          const number = (at - inPage) / blockBytes;
          const page = pages.get(number) ?? new Uint8Array(blockBytes);
          page.set(part, inPage);
          pages.set(number, page);
          at += part.byteLength;
          from += part.byteLength;
        }
      }
      clock.after(0, () => done(null));
    },
    flush: (done) => clock.after(0, () => done(null)),
    discard: (_offsetBytes, _lengthBytes, done) => clock.after(0, () => done(null)),
  };
}
