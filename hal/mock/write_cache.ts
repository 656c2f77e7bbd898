/**
 * Simulated NVRAM: the module in the machine, and the write cache that one boot sees.
 *
 * Fault model:
 * - process death: in domain `battery` every declared store stays; in `flush` what no completed `persist` covered is applied or
 *   dropped per 512-byte sector;
 * - power loss: in `battery` all stays while the battery is good, and all is lost when it has failed; in `flush` what no completed
 *   `persist` covered is applied, dropped or garbled per sector;
 * - `persist` takes time (`flush`; in `battery` on demand), or fails: what it covered then never becomes durable, and all later ones
 *   of that boot fail too, or (`persistErrorsForgotten`) succeed;
 * - the battery fails and recovers; an old image of the whole content comes back; the module is replaced by a blank one.
 *
 * A store that was not declared by `wrote` in its event is a broken contract. It is looked for between events: everywhere at a
 * death, and after persists in a seeded sample (`storeCheck: "full"`: everywhere, after every persist).
 */
import type { BatteryState, PersistenceDomain, WriteCache } from "../api/write_cache.ts";
import { type ContractLog, demand } from "./contract.ts";
import { eventKind } from "./event_heap.ts";
import type { Kernel } from "./kernel.ts";
import type { DeathKind, Lifetime } from "./lifetime.ts";
import type { Prng } from "./prng.ts";
import { sameBytes } from "./runtime.ts";
import { decideSectors, drawTemper, sectorBytes, withoutGarbage } from "./sector_fates.ts";

const sampleBytes = 16384;
const batterySampleRate = 0.125;
/** Sectors are decided in regions of this size. */
const regionSectors = 8;

/** May be changed at any time. */
export interface CacheFaults {
  /** Domain `flush`. */
  persistMs: number;
  /** The share of persists that take twenty times as long. */
  spikeRate: number;
  persistFailRate: number;
  /** A persist after a failed one may succeed, though what the failed one covered is lost. */
  persistErrorsForgotten: boolean;
  /** Domain `battery`: the share of persists that complete after they have returned. */
  latePersistRate: number;
}

export interface CacheSpec {
  readonly sizeBytes: number;
  readonly domain: PersistenceDomain;
  readonly storeCheck?: "full" | "sample" | "off";
}

/** The module's content at one moment. */
export interface CacheImage {
  readonly bytes: Uint8Array;
}

export class MockNvram {
  readonly sizeBytes: number;
  readonly domain: PersistenceDomain;
  readonly faults: CacheFaults = {
    persistMs: 0.25,
    spikeRate: 0.01,
    persistFailRate: 0,
    persistErrorsForgotten: false,
    latePersistRate: 0,
  };
  readonly #kernel: Kernel;
  readonly #prng: Prng;
  readonly #storeCheck: "full" | "sample" | "off";
  #battery: BatteryState = "good";
  /** What a machine that is down holds; while it is up, what is durable. */
  #durable: Uint8Array;
  #boot: MockWriteCache | null = null;
  #persistsToFail = 0;
  #struck: (() => void) | null = null;

  constructor(kernel: Kernel, name: string, spec: CacheSpec) {
    this.#kernel = kernel;
    this.#prng = kernel.prng(`nvram/${name}`);
    this.sizeBytes = spec.sizeBytes;
    this.domain = spec.domain;
    this.#storeCheck = spec.storeCheck ?? "sample";
    this.#durable = new Uint8Array(spec.sizeBytes);
  }

  get battery(): BatteryState {
    return this.#battery;
  }

  failBattery(): void {
    this.#setBattery("failed");
  }

  repairBattery(): void {
    this.#setBattery("good");
  }

  /** The next `count` persists fail. */
  failPersists(count = 1): void {
    this.#persistsToFail += count;
  }

  /** Calls `strike` while the next persist of domain `flush` is under way. */
  strikeNextPersist(strike: () => void): void {
    this.#struck = strike;
  }

  /** For the boot: a persist that takes `takesMs` has begun. */
  persistBegan(takesMs: number): void {
    const strike = this.#struck;
    this.#struck = null;
    if (strike !== null) this.#kernel.schedule(this.#prng.unit() * takesMs, eventKind.fault, null, strike);
  }

  /** Takes back what `failPersists` and `strikeNextPersist` have marked and no persist has met. */
  forgetMarked(): void {
    this.#persistsToFail = 0;
    this.#struck = null;
  }

  /** The content as a snapshot of the machine would keep it: what is declared, if it is up. */
  image(): CacheImage {
    return { bytes: (this.#boot?.declared ?? this.#durable).slice() };
  }

  /** Puts an older content back; the machine is down. */
  restore(image: CacheImage): void {
    this.#demandDown();
    if (image.bytes.byteLength !== this.sizeBytes) throw new RangeError("an image of another cache");
    this.#durable = image.bytes.slice();
  }

  /** A new module: zeros. The machine is down. */
  replace(): void {
    this.#demandDown();
    this.#durable = new Uint8Array(this.sizeBytes);
  }

  /** A broken bit, in what is read and in what is durable. `bit` is 0 to 7. */
  flipBit(offsetBytes: number, bit: number): void {
    this.#durable[offsetBytes]! ^= 1 << bit;
    this.#boot?.flipBit(offsetBytes, bit);
  }

  /** For the appliance. */
  attach(lifetime: Lifetime): WriteCache {
    this.#demandDown();
    this.#boot = new MockWriteCache(this, this.#kernel, this.#prng, lifetime, this.#durable, this.#storeCheck);
    return this.#boot;
  }

  /** For the appliance. `midEvent`: the firmware was at work, and may have stored what it had no time to declare. */
  died(kind: DeathKind, midEvent: boolean): void {
    const boot = this.#boot;
    if (boot === null) return;
    this.#boot = null;
    this.#durable = boot.remains(kind, midEvent, this.#battery);
  }

  /** The power of a machine whose firmware is dead already. */
  lostPower(): void {
    if (this.domain === "battery" && this.#battery === "failed") this.#prng.fill(this.#durable);
  }

  /** For the boot. */
  persistFails(): boolean {
    if (this.#persistsToFail === 0) return this.#prng.chance(this.faults.persistFailRate);
    this.#persistsToFail--;
    return true;
  }

  #setBattery(state: BatteryState): void {
    if (this.#battery === state) return;
    this.#battery = state;
    this.#boot?.batteryChanged();
  }

  #demandDown(): void {
    if (this.#boot !== null) throw new Error("the machine is up");
  }
}

class MockWriteCache implements WriteCache {
  readonly sizeBytes: number;
  readonly domain: PersistenceDomain;
  readonly memory: Uint8Array;
  /** The content as far as it was declared. */
  readonly declared: Uint8Array;
  readonly #module: MockNvram;
  readonly #kernel: Kernel;
  readonly #contract: ContractLog;
  readonly #prng: Prng;
  readonly #lifetime: Lifetime;
  readonly #storeCheck: "full" | "sample" | "off";
  #failed = false;
  #told: BatteryState;
  #listener: ((state: BatteryState) => void) | null = null;
  /** Domain `flush`: durable content, and the sectors declared since the last persist. */
  readonly #durable: Uint8Array;
  #dirty = new Set<number>();
  /** Persists under way, oldest first, with the sectors as they were when they were called. */
  #underWay: Map<number, Uint8Array>[] = [];
  /** The same with their callers: outcomes are handed out in the order of the calls, whatever each one's own time. */
  readonly #waiting: {
    covered: Map<number, Uint8Array>;
    outcome: "persisted" | "failed";
    done: (outcome: "persisted" | "failed") => void;
  }[] = [];
  readonly #finished = new Set<Map<number, Uint8Array>>();
  /** Sectors that a failed persist left behind: not durable, and no later persist will make them so. */
  readonly #lost = new Set<number>();

  constructor(
    module: MockNvram,
    kernel: Kernel,
    prng: Prng,
    lifetime: Lifetime,
    content: Uint8Array,
    storeCheck: "full" | "sample" | "off",
  ) {
    this.#module = module;
    this.#kernel = kernel;
    this.#contract = kernel;
    this.#prng = prng;
    this.#lifetime = lifetime;
    this.#storeCheck = storeCheck;
    this.sizeBytes = module.sizeBytes;
    this.domain = module.domain;
    this.#told = module.battery;
    // The boot gets memory of its own: what a dead one stores on its way out is nobody's.
    this.memory = content.slice();
    this.declared = content.slice();
    this.#durable = content.slice();
  }

  battery(): BatteryState {
    return this.#module.battery;
  }

  onBattery(listener: (state: BatteryState) => void): void {
    this.#listener = listener;
  }

  wrote(offsetBytes: number, lengthBytes: number): void {
    const inside = offsetBytes >= 0 && lengthBytes >= 0 && offsetBytes + lengthBytes <= this.sizeBytes;
    demand(this.#contract, inside, `a store of ${lengthBytes} bytes at ${offsetBytes} of the cache`);
    if (!this.#lifetime.effect()) return;
    this.declared.set(this.memory.subarray(offsetBytes, offsetBytes + lengthBytes), offsetBytes);
    if (this.domain === "battery") return;
    const last = Math.ceil((offsetBytes + lengthBytes) / sectorBytes);
    for (let sector = Math.floor(offsetBytes / sectorBytes); sector < last; sector++) this.#dirty.add(sector);
  }

  persist(done: (outcome: "persisted" | "failed") => void): void {
    if (!this.#lifetime.effect()) return;
    const { faults } = this.#module;
    const failed = (this.#failed && !faults.persistErrorsForgotten) || this.#module.persistFails();
    this.#failed ||= failed;
    const outcome = failed ? "failed" : "persisted";
    if (this.domain === "battery") {
      if (this.#storeCheck === "full" || (this.#storeCheck === "sample" && this.#prng.chance(batterySampleRate))) {
        this.#kernel.schedule(0, eventKind.persist, null, () => this.#checkStores(this.#storeCheck));
      }
      if (this.#prng.chance(faults.latePersistRate)) {
        this.#kernel.schedule(this.#prng.unit() * faults.persistMs, eventKind.persist, this.#lifetime, () =>
          done(outcome),
        );
      } else done(outcome);
      return;
    }
    const covered = new Map<number, Uint8Array>();
    for (const sector of this.#dirty) covered.set(sector, this.#sectorOf(this.declared, sector).slice());
    this.#dirty.clear();
    this.#kernel.note(covered.size);
    this.#underWay.push(covered);
    const spike = this.#prng.chance(faults.spikeRate) ? 20 : 1;
    const takesMs = faults.persistMs * this.#prng.between(0.5, 1.5) * spike;
    this.#kernel.schedule(takesMs, eventKind.persist, null, () => this.#finish(covered, failed));
    this.#waiting.push({ covered, outcome, done });
    this.#module.persistBegan(takesMs);
  }

  batteryChanged(): void {
    this.#kernel.schedule(0, eventKind.battery, this.#lifetime, () => {
      const state = this.battery();
      if (state === this.#told) return;
      this.#told = state;
      this.#listener?.(state);
    });
  }

  flipBit(offsetBytes: number, bit: number): void {
    for (const copy of [this.memory, this.declared, this.#durable]) copy[offsetBytes]! ^= 1 << bit;
  }

  /** What is left in the module after this boot. */
  remains(kind: DeathKind, midEvent: boolean, battery: BatteryState): Uint8Array {
    if (!midEvent) this.#checkStores(this.#storeCheck === "off" ? "off" : "full");
    const content = this.declared.slice();
    if (this.domain === "battery") {
      if (kind === "power" && battery === "failed") return this.#prng.fill(content);
      if (midEvent) this.#addUndeclared(content);
      return content;
    }
    const temper = drawTemper(this.#prng);
    this.#decide(content, kind === "power" ? temper : withoutGarbage(temper));
    return content;
  }

  #finish(covered: Map<number, Uint8Array>, failed: boolean): void {
    if (!this.#lifetime.alive) return;
    this.#checkStores(this.#storeCheck);
    this.#finished.add(covered);
    if (failed) {
      for (const sector of covered.keys()) if (!this.#dirty.has(sector)) this.#lost.add(sector);
      this.#underWay.splice(this.#underWay.indexOf(covered), 1);
    }
    for (;;) {
      const first = this.#waiting[0];
      if (first === undefined || !this.#finished.has(first.covered)) return;
      this.#waiting.shift();
      this.#finished.delete(first.covered);
      if (first.outcome === "persisted") this.#makeDurable(first.covered);
      this.#kernel.schedule(0, eventKind.persist, this.#lifetime, () => first.done(first.outcome));
    }
  }

  #makeDurable(covered: Map<number, Uint8Array>): void {
    for (const [sector, content] of covered) {
      this.#durable.set(content, sector * sectorBytes);
      this.#lost.delete(sector);
    }
    const at = this.#underWay.indexOf(covered);
    if (at >= 0) this.#underWay.splice(at, 1);
  }

  /** Domain `flush`: what becomes of every sector whose durable content is not the declared one. */
  #decide(content: Uint8Array, temper: ReturnType<typeof drawTemper>): void {
    const open = new Set([...this.#dirty, ...this.#lost]);
    for (const covered of this.#underWay) for (const sector of covered.keys()) open.add(sector);
    for (const sector of this.#undeclared()) open.add(sector);
    const sectors = [...open].sort((a, b) => a - b);
    for (let at = 0; at < sectors.length; ) {
      // Neighbours within one region share their fate when the temper says so.
      let count = 1;
      while (count < regionSectors && sectors[at + count] === sectors[at]! + count) count++;
      this.#decideRegion(content, temper, sectors[at]!, count);
      at += count;
    }
  }

  #decideRegion(content: Uint8Array, temper: ReturnType<typeof drawTemper>, first: number, count: number): void {
    const start = first * sectorBytes;
    const end = start + count * sectorBytes;
    const versions = [this.#durable.slice(start, end)];
    for (const covered of this.#underWay) {
      const version = versions.at(-1)!.slice();
      for (let index = 0; index < count; index++) {
        const sector = covered.get(first + index);
        if (sector !== undefined) version.set(sector, index * sectorBytes);
      }
      versions.push(version);
    }
    // Stores are in the memory before they are declared; a death in the middle of an event may catch them there.
    versions.push(this.declared.slice(start, end), this.memory.slice(start, end));
    decideSectors(this.#prng, temper, versions, content.subarray(start, end));
  }

  /** Domain `battery`, death in the middle of an event: stores that were not declared in time are there or not. */
  #addUndeclared(content: Uint8Array): void {
    for (const sector of this.#undeclared()) {
      if (this.#prng.chance(0.5)) content.set(this.#sectorOf(this.memory, sector), sector * sectorBytes);
    }
  }

  #undeclared(): number[] {
    if (sameBytes(this.memory, this.declared)) return [];
    const sectors: number[] = [];
    for (let sector = 0; sector < this.sizeBytes / sectorBytes; sector++) {
      if (!sameBytes(this.#sectorOf(this.memory, sector), this.#sectorOf(this.declared, sector))) sectors.push(sector);
    }
    return sectors;
  }

  #checkStores(how: "full" | "sample" | "off"): void {
    if (how === "off" || !this.#lifetime.alive) return;
    let start = 0;
    let end = this.sizeBytes;
    if (how === "sample" && end > sampleBytes) {
      start = this.#prng.below(end - sampleBytes + 1);
      end = start + sampleBytes;
    }
    if (sameBytes(this.memory.subarray(start, end), this.declared.subarray(start, end))) return;
    while (this.memory[start] === this.declared[start]) start++;
    demand(this.#contract, false, `a store to byte ${start} of the cache was not declared`);
  }

  #sectorOf(bytes: Uint8Array, sector: number): Uint8Array {
    return bytes.subarray(sector * sectorBytes, (sector + 1) * sectorBytes);
  }
}
