/**
 * Volumes in memory for tests of front ends: a block target with a switch for everything that a front end must cope with.
 *
 * Fault model: reads that cannot be served at once (`cold`), requests held until released (`gate`), errors by kind (`failing`),
 * an end at any time (`end`), growth (`grow`). Completions of held requests come in the order asked for by the test.
 */

import { updated } from "../../../firmware/volume/atomic_update.ts";
import {
  type BlockError,
  type BlockKind,
  type BlockRequest,
  type BlockTarget,
  type ExportInfo,
  type ExportTable,
  logicalBlockBytes,
} from "../../../firmware/volume/block_request.ts";
import type { HostIdentity, LunInfo, LunTable, ReservationShelf } from "../../../firmware/volume/host_access.ts";
import type { Clock } from "../../../hal/api/clock.ts";

/** The granularity of holes, in logical blocks. */
const holeBlocks = 8;

/** The medium, shared by all targets opened on it. */
export class MemoryVolume {
  readonly name: string;
  readonly description: string;
  bytes: Uint8Array;
  /** One per 4 KiB: 1 holds data. */
  allocated: Uint8Array;
  readOnly = false;
  /** Of its targets: what they lend is filled with `0xdb` as soon as its request is done. */
  lendsReads = false;
  /** What hosts are told, when the memory is not really there. */
  blockCountTold: number | null = null;
  ready = true;
  cold = false;
  gate = false;
  readonly failing = new Map<BlockKind, BlockError>();
  readonly waiting: BlockRequest[] = [];
  readonly targets = new Set<MemoryTarget>();
  readonly submitted: { kind: BlockKind; startLba: number; blockCount: number; keepAllocated: boolean }[] = [];
  recording = true;
  tryReads = 0;
  private readonly clock: Clock | null;

  /** With a clock, submitted requests complete after the event; without, before `submit` returns. */
  constructor(name: string, sizeBytes: number, clock: Clock | null, description = "") {
    this.name = name;
    this.description = description;
    this.clock = clock;
    this.bytes = new Uint8Array(sizeBytes);
    this.allocated = new Uint8Array(Math.ceil(sizeBytes / (holeBlocks * logicalBlockBytes)));
  }

  grow(sizeBytes: number): void {
    const bytes = new Uint8Array(sizeBytes);
    bytes.set(this.bytes);
    const allocated = new Uint8Array(Math.ceil(sizeBytes / (holeBlocks * logicalBlockBytes)));
    allocated.set(this.allocated);
    this.bytes = bytes;
    this.allocated = allocated;
  }

  end(reason: string): void {
    for (const target of [...this.targets]) target.end(reason);
  }

  /** Completes held requests, oldest first; all of them unless told how many. */
  release(count = this.waiting.length): void {
    for (const request of this.waiting.splice(0, count)) this.perform(request);
  }

  submit(request: BlockRequest): void {
    if (this.recording) {
      const { kind, startLba, blockCount, keepAllocated } = request;
      this.submitted.push({ kind, startLba, blockCount, keepAllocated });
    }
    if (this.gate) this.waiting.push(request);
    else if (this.clock === null) this.perform(request);
    else this.clock.defer(() => this.perform(request));
  }

  tryRead(startLba: number, target: Uint8Array): boolean {
    this.tryReads++;
    if (this.lendsReads || this.cold || this.gate || this.failing.has("read")) return false;
    const start = startLba * logicalBlockBytes;
    target.set(this.bytes.subarray(start, start + target.byteLength));
    return true;
  }

  private perform(request: BlockRequest): void {
    const error = this.failing.get(request.kind);
    if (error !== undefined) request.error = error;
    else this.execute(request);
    const lent = this.lendsReads && request.kind === "read" ? request.target : null;
    request.onDone(request);
    lent?.fill(0xdb);
  }

  private execute(request: BlockRequest): void {
    const start = request.startLba * logicalBlockBytes;
    const end = start + request.blockCount * logicalBlockBytes;
    const firstHole = Math.floor(request.startLba / holeBlocks);
    const endHole = Math.ceil((request.startLba + request.blockCount) / holeBlocks);
    switch (request.kind) {
      case "read":
        if (this.lendsReads) request.target = this.bytes.slice(start, end);
        else request.target.set(this.bytes.subarray(start, end));
        break;
      case "write": {
        let at = start;
        for (const piece of request.payload) {
          this.bytes.set(piece, at);
          at += piece.byteLength;
        }
        if (at !== end) throw new Error("the payload is not as long as the request says");
        this.allocated.fill(1, firstHole, endHole);
        break;
      }
      case "compare-write":
      case "or-write": {
        const bytes = updated(request, this.bytes.subarray(start, end));
        if (bytes === null) {
          request.error = "miscompare";
          break;
        }
        this.bytes.set(bytes, start);
        this.allocated.fill(1, firstHole, endHole);
        break;
      }
      case "zero":
      case "unmap":
        this.bytes.fill(0, start, end);
        if (request.keepAllocated) this.allocated.fill(1, firstHole, endHole);
        else this.allocated.fill(0, Math.ceil(request.startLba / holeBlocks), Math.floor(end / 4096));
        break;
      case "status":
        this.status(request, endHole);
        break;
      case "flush":
        break;
    }
  }

  private status(request: BlockRequest, endHole: number): void {
    let at = request.startLba;
    const end = request.startLba + request.blockCount;
    for (let index = Math.floor(at / holeBlocks); index < endHole; index++) {
      const next = Math.min((index + 1) * holeBlocks, end);
      request.extents.push({ blockCount: next - at, hole: this.allocated[index] === 0 });
      at = next;
    }
  }
}

export class MemoryTarget implements BlockTarget {
  readonly name: string;
  readonly lendsReads: boolean;
  closed = false;
  private readonly volume: MemoryVolume;
  private listener: ((reason: string, isLost: boolean) => void) | null = null;

  constructor(volume: MemoryVolume) {
    this.name = volume.name;
    this.lendsReads = volume.lendsReads;
    this.volume = volume;
    volume.targets.add(this);
  }

  blockCount(): number {
    return this.volume.blockCountTold ?? Math.floor(this.volume.bytes.byteLength / logicalBlockBytes);
  }

  readOnly(): boolean {
    return this.volume.readOnly;
  }

  atomicBlocksMax(): number {
    return 512;
  }

  tryRead(startLba: number, target: Uint8Array): boolean {
    return this.volume.tryRead(startLba, target);
  }

  submit(request: BlockRequest): void {
    if (this.closed) {
      request.error = "closed";
      request.onDone(request);
    } else this.volume.submit(request);
  }

  onEnded(listener: (reason: string, isLost: boolean) => void): void {
    this.listener = listener;
  }

  end(reason: string): void {
    this.listener?.(reason, false);
  }

  close(): void {
    if (this.closed) throw new Error("a target is closed once");
    this.closed = true;
    this.volume.targets.delete(this);
  }
}

export class MemoryExports implements ExportTable {
  readonly volumes = new Map<string, MemoryVolume>();
  /** Hosts that were asked for, in order. */
  readonly hosts: string[] = [];

  add(volume: MemoryVolume): MemoryVolume {
    this.volumes.set(volume.name, volume);
    return volume;
  }

  list(host: HostIdentity): ExportInfo[] {
    this.hosts.push(host.remote);
    return [...this.volumes.values()].map((volume) => ({
      name: volume.name,
      description: volume.description,
      blockCount: Math.floor(volume.bytes.byteLength / logicalBlockBytes),
      readOnly: volume.readOnly,
    }));
  }

  open(name: string, host: HostIdentity): BlockTarget | "unknown" | "not-ready" {
    this.hosts.push(host.remote);
    const volume = this.volumes.get(name);
    if (volume === undefined) return "unknown";
    return volume.ready ? new MemoryTarget(volume) : "not-ready";
  }
}

/** Memory volumes as LUNs 0, 1, ... for every host. */
export class MemoryLuns implements LunTable {
  readonly volumes: MemoryVolume[] = [];
  /** Which of them a host has, and how; followed by `changed`. */
  mapping: (all: readonly LunInfo[], host: HostIdentity) => readonly LunInfo[] = (all) => all;
  readonly #listeners: (() => void)[] = [];

  add(volume: MemoryVolume): MemoryVolume {
    this.volumes.push(volume);
    this.changed();
    return volume;
  }

  /** Mappings or sizes are others now. */
  changed(): void {
    for (const listener of this.#listeners) listener();
  }

  luns(host: HostIdentity): readonly LunInfo[] {
    const all = this.volumes.map((volume, lun) => ({
      lun,
      volume: volume.name,
      uuid: uuidOf(lun),
      readOnly: false,
    }));
    return this.mapping(all, host);
  }

  open(info: LunInfo): BlockTarget | "unknown" | "not-ready" {
    const volume = this.volumes.find(({ name }) => name === info.volume);
    if (volume === undefined) return "unknown";
    return volume.ready ? new MemoryTarget(volume) : "not-ready";
  }

  onChanged(listener: () => void): void {
    this.#listeners.push(listener);
  }
}

export function uuidOf(lun: number): string {
  return `5eed${lun.toString(16).padStart(4, "0")}`.repeat(4);
}

/** What initiators asked to be kept, in memory; durable in an event of its own. */
export class MemoryReservations implements ReservationShelf {
  readonly keepsAll = false;
  readonly kept = new Map<string, unknown>();
  readonly #clock: Pick<Clock, "defer">;
  failing = false;

  constructor(clock: Pick<Clock, "defer">) {
    this.#clock = clock;
  }

  load(uuid: string): unknown {
    return this.kept.get(uuid);
  }

  save(uuid: string, document: unknown, done: (error: string | null) => void): void {
    if (!this.failing) {
      if (document === undefined) this.kept.delete(uuid);
      else this.kept.set(uuid, structuredClone(document));
    }
    this.#clock.defer(() => done(this.failing ? "the shelf has failed" : null));
  }
}
