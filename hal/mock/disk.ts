/**
 * A simulated disk: the thing that sits in a slot, and the handle that one boot has of it.
 *
 * Fault model:
 * - latency per operation, with rare long ones; a slow disk (`slowFactor`); a disk that hangs (`hang`), with or without a deadline
 *   after which its operations report `timeout` though they may still happen later;
 * - operations that overlap in time complete, and take effect, in any order;
 * - errors on read, write, flush by rate or by number; after an error a write has happened, in part, or not at all; after a failed
 *   flush what it covered never becomes durable, and later flushes of that boot fail too, or (`flushErrorsForgotten`) succeed;
 * - lost writes, misdirected writes, bit rot, unreadable ranges, a lying flush, a full thin medium;
 * - process death: operations under way happen, in part (whole 4 KiB pages), or not at all, and complete to nobody;
 * - power loss: the same by 512-byte sectors, and completed writes without a completed flush are applied, dropped or garbled;
 * - absence: a pulled disk, or one that does not answer (`isAbsent`), reports `absent`, and forgets nothing;
 * - registrations (shelves with fencing `atomic`): an error after which they have changed or not; a disk that forgets them with its power
 *   (`forgetsRegistrations`: no APTPL), or that judges a write when it is sent instead of when it lands (`lateWrites`): neither is a fence.
 *
 * The contract of hal/api/shelf.ts is demanded of the caller: alignment, range, and buffers that stay as they are until `done`.
 */
import type { Disk, DiskError, DiskFence } from "../api/shelf.ts";
import { type ContractLog, demand } from "./contract.ts";
import { type EventKind, eventKind } from "./event_heap.ts";
import type { Kernel } from "./kernel.ts";
import type { DeathKind, Lifetime } from "./lifetime.ts";
import type { Prng } from "./prng.ts";
import { crc32Of } from "./runtime.ts";
import { drawTemper, withoutGarbage } from "./sector_fates.ts";
import { pageBytes, SparseMedium } from "./sparse_medium.ts";

/** May be changed at any time. Rates are per operation. */
export interface DiskFaults {
  readMs: number;
  writeMs: number;
  flushMs: number;
  fenceMs: number;
  /** Transfer, on top. */
  msPerMiB: number;
  /** The share of operations that take twenty times as long. */
  spikeRate: number;
  slowFactor: number;
  readErrorRate: number;
  writeErrorRate: number;
  flushErrorRate: number;
  fenceErrorRate: number;
  lostWriteRate: number;
  misdirectedWriteRate: number;
  /** The share of `tryRead` that would not block. */
  tryReadRate: number;
  /** Flushes complete at once and make nothing durable. */
  flushLies: boolean;
  /** A flush after a failed one may succeed, though what the failed one covered is lost. */
  flushErrorsForgotten: boolean;
  /** Operations report `timeout` after this long; they may still happen. */
  deadlineMs: number;
  /** Writes beyond this many pages of content fail with `no-space`. */
  pageCountMax: number;
  /** Broken: registrations go with the power. */
  forgetsRegistrations: boolean;
  /** Broken: what was sent before an eviction still lands after it. */
  lateWrites: boolean;
}

function healthyDisk(): DiskFaults {
  return {
    readMs: 0.08,
    writeMs: 0.1,
    flushMs: 0.3,
    fenceMs: 0.1,
    msPerMiB: 0.5,
    spikeRate: 0.01,
    slowFactor: 1,
    readErrorRate: 0,
    writeErrorRate: 0,
    flushErrorRate: 0,
    fenceErrorRate: 0,
    lostWriteRate: 0,
    misdirectedWriteRate: 0,
    tryReadRate: 0.7,
    flushLies: false,
    flushErrorsForgotten: false,
    deadlineMs: Number.POSITIVE_INFINITY,
    pageCountMax: Number.POSITIVE_INFINITY,
    forgetsRegistrations: false,
    lateWrites: false,
  };
}

export type OperationKind = "read" | "write" | "flush" | "discard" | "fence";
type Code = DiskError["code"];

interface Operation {
  readonly kind: OperationKind;
  readonly handle: DiskHandle;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  /** Takes effect on the medium and tells the outcome. */
  readonly run: (error: Code | null) => void;
  /** What death in the middle leaves of it; null: nothing. */
  readonly interrupted: ((kind: DeathKind) => void) | null;
  readonly done: (error: DiskError | null) => void;
  answered: boolean;
}

/** What a disk does to the next operation of a kind. */
export type NextFault = "error" | "lost" | "misdirected";

export class MockDisk {
  readonly name: string;
  readonly medium: SparseMedium;
  readonly faults: DiskFaults = healthyDisk();
  /** Keys by appliance (its path to the disk); whoever is not here may not write as long as anybody is. */
  readonly registrations = new Map<string, string>();
  /** In its slot, but without an answer. */
  isAbsent = false;
  /** As `isAbsent`, for writes alone. */
  refusesWrites = false;
  readonly #kernel: Kernel;
  readonly #prng: Prng;
  readonly #underWay = new Set<Operation>();
  readonly #next: { kind: OperationKind; fault: NextFault; code: Code }[] = [];
  readonly #unreadable: { startBytes: number; endBytes: number }[] = [];
  #hung: Operation[] | null = null;

  constructor(kernel: Kernel, name: string, sizeBytes: number) {
    this.name = name;
    this.medium = new SparseMedium(sizeBytes);
    this.#kernel = kernel;
    this.#prng = kernel.prng(`disk/${name}`);
  }

  get prng(): Prng {
    return this.#prng;
  }

  get operationsUnderWay(): number {
    return this.#underWay.size;
  }

  /** The next operation of that kind (after those already marked) goes wrong. */
  failNext(kind: OperationKind, fault: NextFault = "error", code: Code = "failed"): void {
    this.#next.push({ kind, fault, code });
  }

  /** Takes back what `failNext` has marked and no operation has met. */
  forgetMarked(): void {
    this.#next.length = 0;
  }

  /** Reads of the range report `medium` until it is written again. */
  makeUnreadable(offsetBytes: number, lengthBytes: number): void {
    this.#unreadable.push({ startBytes: offsetBytes, endBytes: offsetBytes + lengthBytes });
  }

  flipBit(offsetBytes: number, bit: number): void {
    this.medium.flipBit(offsetBytes, bit);
  }

  /** Nothing completes until `unhang`. */
  hang(): void {
    this.#hung ??= [];
  }

  unhang(): void {
    const hung = this.#hung ?? [];
    this.#hung = null;
    for (const operation of hung) this.#complete(operation, this.#prng.unit() * this.faults.writeMs);
  }

  /** Whether the disk takes no writes of an appliance now. */
  refuses(appliance: string): boolean {
    return this.registrations.size > 0 && !this.registrations.has(appliance);
  }

  /** A flush that is not asked for: everything is durable now, as after a long idle time. */
  settle(): void {
    this.medium.completeFlush(this.medium.captureFlush(), true);
  }

  isUnreadable(offsetBytes: number, lengthBytes: number): boolean {
    return this.#unreadable.some(
      (range) => range.startBytes < offsetBytes + lengthBytes && offsetBytes < range.endBytes,
    );
  }

  wrote(offsetBytes: number, lengthBytes: number): void {
    for (let index = this.#unreadable.length - 1; index >= 0; index--) {
      const { startBytes, endBytes } = this.#unreadable[index]!;
      const writeEnd = offsetBytes + lengthBytes;
      if (startBytes >= writeEnd || offsetBytes >= endBytes) continue;
      this.#unreadable.splice(index, 1);
      if (startBytes < offsetBytes) this.#unreadable.push({ startBytes, endBytes: offsetBytes });
      if (writeEnd < endBytes) this.#unreadable.push({ startBytes: writeEnd, endBytes });
    }
  }

  /** For handles: an operation begins. */
  submit(operation: Operation): void {
    this.#underWay.add(operation);
    const { faults } = this;
    const { readMs: read, writeMs: write, flushMs: flush, fenceMs: fence } = faults;
    const baseMs = { read, write, discard: write, flush, fence }[operation.kind];
    const spike = this.#prng.chance(faults.spikeRate) ? 20 : 1;
    const transferMs = (operation.lengthBytes / 1048576) * faults.msPerMiB;
    const takesMs = (baseMs * this.#prng.between(0.5, 1.5) * spike + transferMs) * faults.slowFactor;
    if (faults.deadlineMs !== Number.POSITIVE_INFINITY) {
      this.#kernel.schedule(faults.deadlineMs, diskKind, null, () => this.#answer(operation, "timeout"));
    }
    this.#complete(operation, takesMs);
  }

  /** The outcome of a marked or random fault for this operation; null: it goes well. */
  drawFault(kind: OperationKind): { fault: NextFault; code: Code } | null {
    const marked = this.#next.findIndex((next) => next.kind === kind);
    if (marked >= 0) return this.#next.splice(marked, 1)[0]!;
    const { faults } = this;
    if (kind === "write") {
      if (this.#prng.chance(faults.lostWriteRate)) return { fault: "lost", code: "failed" };
      if (this.#prng.chance(faults.misdirectedWriteRate)) return { fault: "misdirected", code: "failed" };
    }
    const rates: Partial<Record<OperationKind, number>> = {
      read: faults.readErrorRate,
      flush: faults.flushErrorRate,
      fence: faults.fenceErrorRate,
    };
    const rate = rates[kind] ?? faults.writeErrorRate;
    return this.#prng.chance(rate) ? { fault: "error", code: kind === "read" ? "medium" : "failed" } : null;
  }

  /** A boot that used this disk has died. `losesCache`: what it wrote without a flush goes with it. */
  died(lifetime: Lifetime, kind: DeathKind, losesCache: boolean): void {
    for (const operation of this.#underWay) {
      if (operation.handle.lifetime !== lifetime) continue;
      this.#underWay.delete(operation);
      operation.interrupted?.(kind);
    }
    if (this.#hung !== null) this.#hung = this.#hung.filter((operation) => operation.handle.lifetime !== lifetime);
    if (kind === "power") this.lostPower(lifetime.name, losesCache);
  }

  /** What an appliance wrote without a flush, or everything so written, is decided now. */
  lostPower(appliance: string, losesCache: boolean): void {
    this.medium.losePower(this.#prng, drawTemper(this.#prng), losesCache ? null : appliance);
    if (losesCache && this.faults.forgetsRegistrations) this.registrations.clear();
  }

  /** Answers everything that a handle has under way with `absent`. */
  pulled(handle: DiskHandle): void {
    for (const operation of this.#underWay) {
      if (operation.handle !== handle) continue;
      operation.interrupted?.("process");
      this.#underWay.delete(operation);
      this.#answer(operation, "absent");
    }
  }

  #complete(operation: Operation, inMs: number): void {
    this.#kernel.schedule(inMs, diskKind, null, () => {
      if (!this.#underWay.has(operation)) return;
      if (this.#hung !== null) {
        this.#hung.push(operation);
        return;
      }
      this.#underWay.delete(operation);
      operation.run(null);
    });
  }

  #answer(operation: Operation, error: Code | null): void {
    operation.handle.answer(operation, error);
  }
}

const broken = { fault: "error", code: "failed" } as const;
const diskKind: EventKind = eventKind.disk;

/** A disk as one boot sees it, from when it appears in a slot until it is pulled or the boot dies. */
export class DiskHandle implements Disk {
  readonly place: string;
  readonly sizeBytes: number;
  readonly lifetime: Lifetime;
  readonly disk: MockDisk;
  readonly #kernel: Kernel;
  readonly #contract: ContractLog;
  #present = true;
  readonly fence?: DiskFence;
  #flushFailed = false;

  constructor(kernel: Kernel, disk: MockDisk, place: string, lifetime: Lifetime, fencing: "atomic" | "power" | "none") {
    this.#kernel = kernel;
    this.#contract = kernel;
    this.disk = disk;
    this.place = place;
    this.sizeBytes = disk.medium.sizeBytes;
    this.lifetime = lifetime;
    if (fencing === "atomic") this.fence = this.#newFence();
  }

  read(offsetBytes: number, target: Uint8Array, done: (error: DiskError | null) => void): void {
    this.#check("read", offsetBytes, target.byteLength);
    if (!this.lifetime.effect()) return;
    const fault = this.disk.drawFault("read");
    const before = crc32Of(target);
    const operation = this.#operation("read", offsetBytes, target.byteLength, done, {
      run: () => {
        // A buffer whose operation has been answered (timeout) is the caller's again.
        if (!operation.answered) {
          const after = crc32Of(target);
          demand(this.#contract, after === before, `${this.place}: a read's target changed while it was under way`);
        }
        if (fault !== null) return this.answer(operation, fault.code);
        if (this.disk.isUnreadable(offsetBytes, target.byteLength)) return this.answer(operation, "medium");
        if (!operation.answered && this.lifetime.alive) this.disk.medium.read(offsetBytes, target);
        this.answer(operation, null);
      },
      interrupted: null,
    });
    this.#submit(operation);
  }

  tryRead(offsetBytes: number, target: Uint8Array): boolean {
    this.#check("read", offsetBytes, target.byteLength);
    const { disk } = this;
    if (!this.lifetime.effect() || !this.#present || disk.isAbsent) return false;
    if (disk.faults.slowFactor > 1 || disk.isUnreadable(offsetBytes, target.byteLength)) return false;
    if (!disk.prng.chance(disk.faults.tryReadRate)) return false;
    disk.medium.read(offsetBytes, target);
    return true;
  }

  write(offsetBytes: number, sources: readonly Uint8Array[], done: (error: DiskError | null) => void): void {
    const bytes = join(sources);
    this.#check("write", offsetBytes, bytes.byteLength);
    if (!this.lifetime.effect()) return;
    const { disk } = this;
    const fault = disk.drawFault("write");
    const given = sources.slice();
    const before = crc32Of(bytes);
    this.#kernel.note(before);
    const isTooLate = this.#judge();
    const apply = (kept: Uint8Array, atBytes = offsetBytes): void => {
      if (isTooLate()) return;
      disk.medium.write(atBytes, kept, this.lifetime.name);
      disk.wrote(atBytes, kept.byteLength);
    };
    const operation = this.#operation("write", offsetBytes, bytes.byteLength, done, {
      run: () => {
        if (!operation.answered) {
          const after = given.length === 1 ? crc32Of(given[0]!) : crc32Of(join(given));
          demand(this.#contract, after === before, `${this.place}: a write's source changed while it was under way`);
        }
        if (isTooLate()) return this.answer(operation, "evicted");
        if (fault?.fault === "error") {
          this.#applyInPart(bytes, offsetBytes, apply);
          return this.answer(operation, fault.code);
        }
        if (this.#exceedsSpace(offsetBytes, bytes.byteLength)) return this.answer(operation, "no-space");
        if (fault === null) apply(bytes);
        else if (fault.fault === "misdirected") apply(bytes, this.#elsewhere(bytes.byteLength));
        this.answer(operation, null);
      },
      interrupted: (kind) => {
        // By sectors, a power loss decides afterwards: until then all of it is in the disk's cache.
        if (kind === "power") apply(bytes);
        else this.#applyInPart(bytes, offsetBytes, apply);
      },
    });
    this.#submit(operation);
  }

  flush(done: (error: DiskError | null) => void): void {
    if (!this.lifetime.effect()) return;
    const { disk } = this;
    const fault = this.#flushFailed && !disk.faults.flushErrorsForgotten ? broken : disk.drawFault("flush");
    const capture = disk.faults.flushLies ? null : disk.medium.captureFlush();
    const isTooLate = this.#judge();
    const operation = this.#operation("flush", 0, 0, done, {
      run: () => {
        if (isTooLate()) return this.answer(operation, "evicted");
        if (capture !== null) disk.medium.completeFlush(capture, fault === null);
        this.answer(operation, fault === null ? null : fault.code);
      },
      // Under the death of the process alone the flush goes on in the kernel, or the data stays in its cache.
      interrupted: (kind) => {
        if (kind === "process" && capture !== null) disk.medium.completeFlush(capture, fault === null);
      },
    });
    this.#submit(operation);
  }

  discard(offsetBytes: number, lengthBytes: number, done: (error: DiskError | null) => void): void {
    this.#check("discard", offsetBytes, lengthBytes);
    if (!this.lifetime.effect()) return;
    const { disk } = this;
    const fault = disk.drawFault("discard");
    const isTooLate = this.#judge();
    const apply = (): void => {
      if (!isTooLate()) disk.medium.discard(offsetBytes, lengthBytes, disk.prng);
    };
    const operation = this.#operation("discard", offsetBytes, lengthBytes, done, {
      run: () => {
        if (isTooLate()) return this.answer(operation, "evicted");
        apply();
        this.answer(operation, fault === null ? null : fault.code);
      },
      interrupted: apply,
    });
    this.#submit(operation);
  }

  /** Whether a change that is sent now comes too late, asked when it lands: a fence judges then, and not when it is sent. */
  #judge(): () => boolean {
    const { disk, lifetime } = this;
    const wasRefused = disk.refuses(lifetime.name);
    return () => (disk.faults.lateWrites ? wasRefused : disk.refuses(lifetime.name));
  }

  #newFence(): DiskFence {
    const { registrations } = this.disk;
    const appliance = this.lifetime.name;
    let own: string | null = null;
    let hasSucceeded = false;
    const isRegistered = (): boolean => own !== null && registrations.get(appliance) === own;
    return {
      register: (key, done) => {
        demand(this.#contract, !hasSucceeded, `${this.place}: registered a second time`);
        const wanted = key.join(" ");
        const told = (error: DiskError | null): void => {
          hasSucceeded ||= error === null;
          done(error);
        };
        this.#fencing(told, () => {
          own = wanted;
          registrations.set(appliance, wanted);
          return null;
        });
      },
      look: (done) => this.#fencing(done, () => (isRegistered() ? null : "evicted")),
      evictOthers: (done) =>
        this.#fencing(done, () => {
          if (!isRegistered()) return "evicted";
          for (const other of [...registrations.keys()]) if (other !== appliance) registrations.delete(other);
          return null;
        }),
    };
  }

  /** After an error it has happened, or not. */
  #fencing(done: (error: DiskError | null) => void, act: () => Code | null): void {
    if (!this.lifetime.effect()) return;
    const fault = this.disk.drawFault("fence");
    const operation = this.#operation("fence", 0, 0, done, {
      run: () => {
        if (fault !== null && this.disk.prng.chance(0.5)) return this.answer(operation, fault.code);
        const outcome = act();
        this.answer(operation, outcome ?? fault?.code ?? null);
      },
      interrupted: () => {
        if (this.disk.prng.chance(0.5)) act();
      },
    });
    this.#submit(operation);
  }

  /** For the disk: tells the firmware the outcome, once. */
  answer(operation: Operation, error: Code | null): void {
    if (operation.answered) return;
    operation.answered = true;
    if (operation.kind === "flush" && error !== null) this.#flushFailed = true;
    const outcome =
      error === null
        ? null
        : { code: error, text: `${this.place}: ${operation.kind} at ${operation.offsetBytes}: ${error}` };
    this.#kernel.schedule(0, diskKind, this.lifetime, () => operation.done(outcome));
  }

  /** For the shelf: the disk has left its slot. */
  pulled(): void {
    this.#present = false;
    this.disk.pulled(this);
  }

  #operation(
    kind: OperationKind,
    offsetBytes: number,
    lengthBytes: number,
    done: (error: DiskError | null) => void,
    effects: { run: () => void; interrupted: ((kind: DeathKind) => void) | null },
  ): Operation {
    return { kind, handle: this, offsetBytes, lengthBytes, done, ...effects, answered: false };
  }

  #submit(operation: Operation): void {
    const isRefused = this.disk.refusesWrites && operation.kind === "write";
    if (!this.#present || this.disk.isAbsent || isRefused) this.answer(operation, "absent");
    else this.disk.submit(operation);
  }

  #check(what: string, offsetBytes: number, lengthBytes: number): void {
    const aligned = offsetBytes % pageBytes === 0 && lengthBytes % pageBytes === 0 && lengthBytes > 0;
    const inside = Number.isSafeInteger(offsetBytes) && offsetBytes >= 0 && offsetBytes + lengthBytes <= this.sizeBytes;
    demand(this.#contract, aligned && inside, `${this.place}: ${what} of ${lengthBytes} bytes at ${offsetBytes}`);
  }

  /** A write with an unknown outcome: a seeded choice of its pages. */
  #applyInPart(bytes: Uint8Array, offsetBytes: number, apply: (kept: Uint8Array, atBytes: number) => void): void {
    const { prng } = this.disk;
    const temper = withoutGarbage(drawTemper(prng));
    if (prng.chance(temper.wholeRate)) {
      if (prng.chance(temper.appliedRate)) apply(bytes, offsetBytes);
      return;
    }
    for (let at = 0; at < bytes.byteLength; at += pageBytes) {
      if (prng.chance(temper.appliedRate)) apply(bytes.subarray(at, at + pageBytes), offsetBytes + at);
    }
  }

  #elsewhere(lengthBytes: number): number {
    return this.disk.prng.below((this.sizeBytes - lengthBytes) / pageBytes + 1) * pageBytes;
  }

  #exceedsSpace(offsetBytes: number, lengthBytes: number): boolean {
    const { medium, faults } = this.disk;
    if (medium.pageCount + lengthBytes / pageBytes <= faults.pageCountMax) return false;
    let added = 0;
    for (let at = 0; at < lengthBytes; at += pageBytes) if (!medium.hasPage(offsetBytes + at)) added++;
    return medium.pageCount + added > faults.pageCountMax;
  }
}

function join(sources: readonly Uint8Array[]): Uint8Array {
  let lengthBytes = 0;
  for (const source of sources) lengthBytes += source.byteLength;
  const bytes = new Uint8Array(lengthBytes);
  let at = 0;
  for (const source of sources) {
    bytes.set(source, at);
    at += source.byteLength;
  }
  return bytes;
}
