/**
 * A GroupStore as plain Maps: the oracle that the log, destage and groups are tested against. Durable state is what the last commit
 * saw; `afterCrash` gives the store as a restart would find it: blocks that an unfinished apply touched may hold either content.
 */
import type {
  GroupStore,
  GroupUsage,
  HomeExtent,
  HomeStep,
  LogSlot,
  ScrubReport,
  StoreDone,
  StoredFork,
  StoredVolume,
  StoreError,
} from "../../../firmware/store/store.ts";
import type { Clock } from "../../../hal/api/clock.ts";

interface Image {
  volumes: StoredVolume[];
  blocks: Map<string, Uint8Array>;
}

interface SlotState {
  written: Uint8Array;
  flushed: Uint8Array;
}

const blockBytes = 4096;

export class PlainStore implements GroupStore {
  readonly id: string;
  readonly logSlotBytes: number;
  readonly #clock: Clock;
  #head: Image = { volumes: [], blocks: new Map() };
  readonly #forks = new Map<string, { seq: number; image: Image }>();
  #committed: { document: unknown; volumes: StoredVolume[] };
  readonly #slots = new Map<number, SlotState>();
  #nextSlot = 1;
  chunksLeft = Number.POSITIVE_INFINITY;
  /** Set to make the next operations fail. */
  failure: StoreError | null = null;
  /** Set to make the flushes of log slots fail. */
  flushFailure: StoreError | null = null;
  /** Set to make reads of log slots fail. */
  readFailure: StoreError | null = null;
  /** How many slots the shelf has for the log. */
  slotsMax = Number.POSITIVE_INFINITY;
  /** What the log was last said to want beyond what it has. */
  slotsExpected = 0;
  applied = 0;

  constructor(clock: Clock, document: unknown, options: { id: string; logSlotBytes: number }) {
    this.#clock = clock;
    this.id = options.id;
    this.logSlotBytes = options.logSlotBytes;
    this.#committed = { document, volumes: [] };
  }

  document(): unknown {
    return structuredClone(this.#committed.document);
  }

  /** The store as a restart finds it. */
  afterCrash(clock: Clock): PlainStore {
    const next = new PlainStore(clock, structuredClone(this.#committed.document), {
      id: this.id,
      logSlotBytes: this.logSlotBytes,
    });
    next.#head = { volumes: [...this.#committed.volumes], blocks: new Map(this.#head.blocks) };
    next.#committed = { document: structuredClone(this.#committed.document), volumes: [...this.#committed.volumes] };
    for (const [index, slot] of this.#slots) {
      next.#slots.set(index, { written: slot.flushed.slice(), flushed: slot.flushed.slice() });
      next.#nextSlot = Math.max(next.#nextSlot, index + 1);
    }
    for (const [id, fork] of this.#forks) next.#forks.set(id, fork);
    return next;
  }

  volumes(version: string): readonly StoredVolume[] {
    return this.#image(version)?.volumes ?? [];
  }

  createVolume(volume: StoredVolume): void {
    this.#head.volumes.push(volume);
  }

  resizeVolume(number: number, sizeBytes: number): void {
    this.#head.volumes = this.#head.volumes.map((volume) =>
      volume.number === number ? { number, sizeBytes } : volume,
    );
  }

  deleteVolume(number: number): void {
    this.#head.volumes = this.#head.volumes.filter((volume) => volume.number !== number);
  }

  tryRead(version: string, volume: number, firstBlock: number, target: Uint8Array): boolean {
    const image = this.#image(version);
    if (image === null) return false;
    for (let at = 0; at < target.byteLength / blockBytes; at++) {
      const block = image.blocks.get(`${volume}/${firstBlock + at}`);
      if (block === undefined) target.fill(0, at * blockBytes, (at + 1) * blockBytes);
      else target.set(block, at * blockBytes);
    }
    return true;
  }

  read(version: string, volume: number, firstBlock: number, target: Uint8Array, done: StoreDone): void {
    this.#later(() => {
      if (this.#image(version) === null) return done({ code: "unknown-version", text: version });
      this.tryRead(version, volume, firstBlock, target);
      done(null);
    });
  }

  extents(
    version: string,
    volume: number,
    range: { readonly firstBlock: number; readonly blockCount: number; readonly limit: number },
    done: (error: StoreError | null, extents: readonly HomeExtent[]) => void,
  ): void {
    this.#later(() => {
      const image = this.#image(version);
      if (image === null) return done({ code: "unknown-version", text: version }, []);
      const extents: { firstBlock: number; blockCount: number; allocated: boolean }[] = [];
      for (let block = range.firstBlock; block < range.firstBlock + range.blockCount; block++) {
        const allocated = image.blocks.has(`${volume}/${block}`);
        const last = extents[extents.length - 1];
        if (last?.allocated === allocated) last.blockCount++;
        else if (extents.length === range.limit) break;
        else extents.push({ firstBlock: block, blockCount: 1, allocated });
      }
      done(null, extents);
    });
  }

  apply(steps: readonly HomeStep[], done: StoreDone): void {
    this.#later(() => {
      if (this.failure !== null) return done(this.failure);
      for (const step of steps) this.#applyStep(step);
      this.applied += steps.length;
      done(null);
    });
  }

  #applyStep(step: HomeStep): void {
    if (step.kind === "data") {
      for (let at = 0; at < step.crcs.length; at++) {
        const bytes = step.bytes.slice(at * blockBytes, (at + 1) * blockBytes);
        if (Bun.hash.crc32(bytes) !== step.crcs[at])
          throw new Error(`block ${step.firstBlock + at} does not match its checksum`);
        this.#head.blocks.set(`${step.volume}/${step.firstBlock + at}`, bytes);
      }
      return;
    }
    for (let at = 0; at < step.blockCount; at++) this.#head.blocks.delete(`${step.volume}/${step.firstBlock + at}`);
  }

  commit(document: unknown, done: StoreDone): void {
    const copy = structuredClone(document);
    this.#later(() => {
      if (this.failure !== null) return done(this.failure);
      this.#committed = { document: copy, volumes: [...this.#head.volumes] };
      done(null);
    });
  }

  forks(): readonly StoredFork[] {
    return [...this.#forks].map(([id, fork]) => ({ id, seq: fork.seq, volumes: fork.image.volumes }));
  }

  hasRoomForFork(): boolean {
    return true;
  }

  fork(id: string, seq: number): void {
    this.#forks.set(id, { seq, image: { volumes: [...this.#head.volumes], blocks: new Map(this.#head.blocks) } });
  }

  dropFork(id: string): void {
    this.#forks.delete(id);
  }

  promoteFork(id: string, keepHeadAs: { readonly id: string; readonly seq: number } | null): void {
    const { image } = this.#forks.get(id)!;
    if (keepHeadAs !== null) this.#forks.set(keepHeadAs.id, { seq: keepHeadAs.seq, image: this.#head });
    this.#head = { volumes: [...image.volumes], blocks: new Map(image.blocks) };
  }

  reserveChunks(count: number): boolean {
    if (this.chunksLeft < count) return false;
    this.chunksLeft -= count;
    return true;
  }

  releaseChunks(count: number): void {
    this.chunksLeft += count;
  }

  chunksNeeded(volume: number, firstBlock: number, blockCount: number): number | null {
    if (!this.#head.volumes.some((one) => one.number === volume)) throw new Error(`volume ${volume} does not exist`);
    const missing = new Set<number>();
    for (let block = firstBlock; block < firstBlock + blockCount; block++) {
      if (!this.#head.blocks.has(`${volume}/${block}`)) missing.add(Math.floor(block / 16));
    }
    return missing.size;
  }

  loadMap(_volume: number, _firstBlock: number, _blockCount: number, done: StoreDone): void {
    this.#later(() => done(null));
  }

  logSlots(): readonly LogSlot[] {
    return [...this.#slots.keys()].map((index) => ({ index }));
  }

  expectLogSlots(slotCount: number): boolean {
    this.slotsExpected = slotCount;
    return this.#slots.size + slotCount <= this.slotsMax;
  }

  allocateLogSlot(done: (slot: LogSlot | null) => void): void {
    this.#later(() => {
      if (this.#slots.size >= this.slotsMax) return done(null);
      const index = this.#nextSlot++;
      this.#slots.set(index, {
        written: new Uint8Array(this.logSlotBytes),
        flushed: new Uint8Array(this.logSlotBytes),
      });
      done({ index });
    });
  }

  allocateSpareLogSlot(done: (slot: LogSlot | null) => void): void {
    if (this.#slots.size + this.slotsExpected < this.slotsMax) this.allocateLogSlot(done);
    else this.#later(() => done(null));
  }

  freeLogSlot(slot: LogSlot): void {
    if (!this.#slots.delete(slot.index)) throw new Error(`log slot ${slot.index} is freed, and is not in use`);
  }

  writeLogSlot(slot: LogSlot, offsetBytes: number, sources: readonly Uint8Array[], done: StoreDone): void {
    if (!this.#slots.has(slot.index)) throw new Error(`log slot ${slot.index} is written, and is not in use`);
    this.#later(() => {
      if (this.failure !== null) return done(this.failure);
      let at = offsetBytes;
      for (const source of sources) {
        this.#slots.get(slot.index)?.written.set(source, at);
        at += source.byteLength;
      }
      done(null);
    });
  }

  readLogSlot(slot: LogSlot, offsetBytes: number, target: Uint8Array, done: StoreDone): void {
    this.#later(() => {
      const state = this.#slots.get(slot.index);
      if (this.readFailure !== null) return done(this.readFailure);
      if (state === undefined) return done({ code: "corrupt", text: "no such slot" });
      target.set(state.written.subarray(offsetBytes, offsetBytes + target.byteLength));
      done(null);
    });
  }

  flushLog(done: StoreDone): void {
    this.#later(() => {
      const failure = this.flushFailure ?? this.failure;
      if (failure !== null) {
        // As a kernel may do: what could not be flushed is let go, and the next flush is clean without it.
        for (const slot of this.#slots.values()) slot.written.set(slot.flushed);
        return done(failure);
      }
      for (const slot of this.#slots.values()) slot.flushed.set(slot.written);
      done(null);
    });
  }

  scrub(_progress: (checkedBytes: number, totalBytes: number) => boolean, done: (report: ScrubReport) => void): void {
    done({ checkedBytes: 0, damaged: [], finished: true });
  }

  usage(): GroupUsage {
    return { dataBytes: this.#head.blocks.size * blockBytes, metadataBytes: 0, logBytes: 0, reservedBytes: 0 };
  }

  #image(version: string): Image | null {
    return version === "head" ? this.#head : (this.#forks.get(version)?.image ?? null);
  }

  #later(task: () => void): void {
    this.#clock.after(0.1, task);
  }
}
