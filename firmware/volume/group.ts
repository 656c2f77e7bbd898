/**
 * A consistency group on this array: its log, its home, its volumes, put together. The unit of placement: nothing in here is
 * shared with another group but the cache's free segments and the pool's free slabs.
 *
 * A write goes down: VolumeTarget → Admission → WriteLog → (persist, peers) → commit, and its completion comes up from there.
 * Later the Destager takes it home.
 *
 * A start is a recovery: `open` reads the root's document, finds the log's segments, enters what was committed into the index,
 * and leaves the rest undecided until the role is settled (see room peer).
 */
import type { Clock } from "../../hal/api/clock.ts";
import type { Digests } from "../../hal/api/digests.ts";
import type { Entropy } from "../../hal/api/entropy.ts";
import type { Nvram } from "../cache/nvram.ts";
import { fromHex, toHex } from "../codec/bytes.ts";
import { Destager } from "../destage/destager.ts";
import { LogCursors } from "../log/log_cursors.ts";
import { LogReceiver } from "../log/log_receive.ts";
import { LogRoom, type MoreSpace } from "../log/log_room.ts";
import { type RecordHeader, RecordKind } from "../log/record.ts";
import { recoverLog } from "../log/recovery.ts";
import type { LogPlace } from "../log/segment_list.ts";
import { WriteLog } from "../log/write_log.ts";
import { ShelfWriteThrough } from "../log/write_through.ts";
import type { EventSink } from "../manage/events.ts";
import type { LineageEntry } from "../peer/lineage.ts";
import type { GroupStore, HomeExtent, StoreDone, StoreError, Version } from "../store/store.ts";
import { Admission } from "./admission.ts";
import type { BlockRequest } from "./block_request.ts";
import { decodeBoundary, encodeBoundary } from "./boundary.ts";
import { type GroupDocument, readGroupDocument, rootGrowthBytes, savedLineage } from "./group_document.ts";
import { GroupForks } from "./group_forks.ts";
import type { GroupVolume, Serving } from "./group_port.ts";
import { GroupVolumes } from "./group_volumes.ts";
import { LogAppends } from "./log_appends.ts";
import { newestReader } from "./newest_read.ts";
import { OpenTargets } from "./open_targets.ts";
import { PoolFull } from "./pool_full.ts";
import { ReadPath } from "./read_path.ts";
import { type FoundHardware, RootSaves } from "./root_saves.ts";
import { ChunkLedger } from "./space_ledger.ts";
import { StoreQueue } from "./store_queue.ts";
import { decodeChange, encodeChange, nextNumberAfter, type VolumeChange } from "./volume_table.ts";
import type { VolumeTarget } from "./volume_target.ts";

export interface GroupOptions extends FoundHardware {
  readonly id: string;
  readonly store: GroupStore;
  readonly nvram: Nvram;
  readonly clock: Clock;
  readonly digests: Digests;
  readonly entropy: Entropy;
  readonly events: EventSink;
  readonly shelfLogBytes: number;
  readonly moreSpace: MoreSpace;
}

const drainRetryMs = 1000;
const retireLookMs = 1;

type Ready = (error: StoreError | null) => void;

export class Group {
  readonly id: string;
  readonly store: GroupStore;
  readonly clock: Clock;
  readonly digests: Digests;
  readonly entropy: Entropy;
  readonly events: EventSink;
  readonly groupTag: number;
  readonly log: WriteLog;
  readonly cursors: LogCursors;
  readonly receiver: LogReceiver;
  readonly room: LogRoom;
  readonly writeThrough: ShelfWriteThrough;
  readonly destager: Destager;
  readonly queue = new StoreQueue();
  readonly admission: Admission;
  readonly #options: GroupOptions;
  readonly #ledger: ChunkLedger;
  readonly #reads: ReadPath;
  readonly #place: LogPlace = { ordinal: 0, offset: 0 };
  #document: GroupDocument;
  readonly #saves: RootSaves;
  readonly #forks: GroupForks;
  readonly #volumes = new GroupVolumes();
  #replication: unknown = null;
  #serving: Serving = { writable: false, why: "the group is starting", readable: null };
  readonly #targets = new OpenTargets();
  readonly #appends: LogAppends;
  /** Volumes were created, resized or deleted, here or at the primary; `gone` are those deleted. Called while their record commits. */
  onVolumesChanged: (gone: readonly GroupVolume[]) => void = () => {};
  #boundaryListeners: ((boundary: { id: string; purpose: string; seq: number }) => void)[] = [];
  #consistentListeners: ((mark: { peer: string; seq: number }) => void)[] = [];
  /** It has stopped with everything at home, and its root says so. */
  isClean = false;
  cacheWasLost = false;
  /** It was lost since the last stop, which the group's root does not say yet. */
  cacheLostNow = false;
  cacheValidThrough: number | "open" = "open";
  readonly poolFull: PoolFull;
  #troubleTold = "";
  /** What the shelf refused last and has not done since; null: nothing. */
  shelfTrouble: string | null = null;

  constructor(options: GroupOptions, document: GroupDocument) {
    this.#options = options;
    this.#document = document;
    this.id = options.id;
    this.store = options.store;
    this.clock = options.clock;
    this.digests = options.digests;
    this.entropy = options.entropy;
    this.events = options.events;
    this.poolFull = new PoolFull(options.clock, options.events);
    this.groupTag = options.digests.crc32(fromHex(options.id));
    this.#ledger = new ChunkLedger(options.store);
    this.#saves = new RootSaves(options, document, (error) => this.#trouble("root-not-saved", error));
    const { clock, digests, nvram, store } = options;
    this.log = new WriteLog({ clock, digests, nvram, groupId: this.id, groupTag: this.groupTag, ledger: this.#ledger });
    // Before the log lets go of what has come home.
    this.log.onDestaged(() => this.#saves.durable());
    this.#forks = new GroupForks(store, this.log, document.forks);
    this.cursors = new LogCursors(this.log, store);
    this.receiver = new LogReceiver(this.log, this.cursors);
    this.room = new LogRoom(this.log, store, options.moreSpace, this.#place, options.shelfLogBytes);
    this.writeThrough = new ShelfWriteThrough(this.log, store, this.room, clock, this.#place, (validThrough, done) => {
      this.cacheValidThrough = validThrough;
      this.#save(done);
    });
    this.log.writeThrough = this.writeThrough;
    this.#reads = new ReadPath(this.log.index, this.log.list.region.bytes, store);
    this.destager = new Destager({
      log: this.log,
      store,
      queue: this.queue,
      clock,
      digests,
      place: this.#place,
      document: (seq, place) => this.#documentAt(seq, place),
      decodeBoundary: (at, header) => decodeBoundary(this.#payload(header, at), header.firstSeq),
      applySpecials: (records) => this.#volumes.bringHome(this.store, records),
      release: (header) => this.#ledger.release(header),
      forkAt: (boundary, seq) => {
        const error = this.#forks.take(boundary.id, seq, rootGrowthBytes(this.#document));
        if (error !== null) this.#trouble("fork-refused", error);
      },
      boundaryReached: (boundary, seq) => {
        if (!this.#forks.has(boundary.id)) return;
        for (const listener of this.#boundaryListeners) listener({ ...boundary, seq });
      },
      trouble: (error) => this.#trouble("destage-failed", error),
      unreadable: (volume, block) => this.#unreadable(volume, block),
    });
    this.admission = new Admission({
      log: this.log,
      store,
      ledger: this.#ledger,
      drain: (done) => this.#drainAdmitted(done),
      readNewest: newestReader(this.log, () => ({ reads: this.#reads, appends: this.#appends })),
      kickDestage: () => this.destager.kick(),
      reclaim: () => this.room.reclaim(),
      changed: () => this.#appends.retry(),
      refusedForSpace: () => this.poolFull.refused(this.name),
      moreSpace: options.moreSpace,
    });
    this.#appends = new LogAppends({
      log: this.log,
      admission: this.admission,
      makeRoom: () => {
        this.room.reclaim();
        this.destager.kick();
      },
    });
    this.log.onSpecial = (header, at) => this.#special(header, at);
    this.writeThrough.onCopied = () => this.room.reclaim();
    this.writeThrough.onTrouble = (error) => this.#trouble("write-through-failed", error);
    nvram.onRoom(() => this.#roomCame());
    this.log.onDestaged(() => {
      this.shelfTrouble = null;
      this.#roomCame();
    });
  }

  get name(): string {
    return this.#document.name;
  }

  /** Recovers the group. Afterwards the log stands, the index shows what is known to be committed, and nothing is served yet. */
  static open(options: GroupOptions, done: (error: StoreError | null, group: Group | null) => void): void {
    const document = readGroupDocument(options.store.document());
    if (typeof document === "string") return done({ code: "corrupt", text: document }, null);
    const group = new Group(options, document);
    group.#recover((error) => done(error, error === null ? group : null));
  }

  // ---------------------------------------------------------------- start and stop

  #recover(done: Ready): void {
    const document = this.#document;
    this.#volumes.set(document.volumes);
    this.#replication = document.replication ?? null;
    const start = {
      destagedSeq: document.destagedSeq,
      destagedPlace: document.place,
      lineage: document.lineage,
      nextOrdinal: document.nextOrdinal,
      firstOrdinal: document.firstOrdinal,
      cacheValidThrough: this.#options.cacheTrusted ? document.cacheValidThrough : null,
      commitSeq: document.commitSeq,
      quotaBytes: this.#options.shelfLogBytes,
    };
    recoverLog(this.log, this.store, start, this.#place, (error, recovered) => {
      if (error !== null) return done(error);
      const through = document.cacheValidThrough;
      const wholeOnShelf = through !== "open" && recovered.headSeq >= through;
      this.cacheLostNow = !this.#options.cacheTrusted && !document.clean && !wholeOnShelf;
      this.cacheWasLost = this.cacheLostNow || recovered.durableLost || document.cacheLost || this.#saves.isStale;
      this.#retakeSpace();
      this.log.followPrimary(this.log.knownCommitSeq);
      // Until `settle` a root that is saved says of the cache what the last one did: it has not been persisted since.
      this.cacheValidThrough = document.cacheValidThrough;
      done(null);
    });
  }

  /** The root says how the log stands now: after recovery, when the cache has been persisted and `counts` by its nonce, that its copy is good. */
  settle(done: Ready, counts = true): void {
    if (counts && !this.writeThrough.active) this.cacheValidThrough = "open";
    this.#save(done);
  }

  /** Takes everything home and marks the stop as orderly. A shelf that does not take it is left to the recovery of the next start. */
  stop(done: () => void): void {
    this.setServing({ writable: false, why: "the appliance is stopping", readable: null });
    this.destager.drain(() => {
      this.queue.run((next) => {
        const clean =
          this.destager.records >= this.log.committedRecords && this.log.committedRecords === this.log.appendedRecords;
        const document = { ...this.#documentAt(this.log.destagedSeq, this.#place), clean };
        this.#saves.commit(document, (error) => {
          this.isClean = clean && error === null;
          this.close();
          next();
          done();
        });
      });
    });
  }

  /** Nothing new begins; whoever still waits for an answer gets one. */
  close(): void {
    this.destager.close();
    this.room.close();
    this.writeThrough.close();
    this.queue.close();
    this.admission.close("closed");
    this.log.abandonRequests(-1, "closed");
    this.#appends.close();
  }

  /** Closes, then calls `done` when nothing of the group is under way at the store any more. */
  retire(done: () => void): void {
    this.close();
    const look = (): void => {
      if (this.queue.idle && !this.room.busy && !this.writeThrough.busy) done();
      else this.clock.after(retireLookMs, look);
    };
    look();
  }

  #retakeSpace(): void {
    const short = this.#ledger.retakeFrom(this.log.list, this.#place);
    // The log's share comes behind: what was acknowledged goes home without it.
    this.room.keepSlots();
    if (short === 0) return;
    const text = `the pool is too full to set space aside again for the worst case of ${short} records; delete volumes`;
    this.events.emit("space-short", `group ${this.name}: ${text}`, { records: short });
  }

  // ---------------------------------------------------------------- the document

  replicationDocument(): unknown {
    return this.#replication;
  }

  saveReplicationDocument(document: unknown, done: Ready): void {
    this.#replication = document;
    this.#save(done);
  }

  #save(done: Ready): void {
    this.queue.run((next) => {
      this.#saves.commit(this.#documentAt(this.log.destagedSeq, this.#place), (error) => {
        next();
        done(error);
      });
    });
  }

  #documentAt(seq: number, place: LogPlace): GroupDocument {
    this.#document = {
      ...this.#document,
      lineage: savedLineage(this.log.lineage()),
      destagedSeq: seq,
      place: { ...place },
      nextOrdinal: this.log.list.nextOrdinal,
      firstOrdinal: this.log.list.firstOrdinal,
      commitSeq: this.log.commitSeq,
      cacheValidThrough: this.cacheValidThrough,
      rootNumber: this.#saves.next(),
      clean: false,
      cacheLost: this.cacheWasLost,
      volumes: this.#volumes.home.map((volume) => ({ ...volume })),
      forks: this.#forks.list(),
      replication: this.#replication,
    };
    return this.#document;
  }

  #trouble(code: string, error: StoreError): void {
    this.shelfTrouble = error.text;
    if (this.#troubleTold === `${code} ${error.text}`) return;
    this.#troubleTold = `${code} ${error.text}`;
    this.events.emit(code, `group ${this.name}: ${error.text}`, { group: this.name, code: error.code });
  }

  #unreadable(volume: number, block: number): void {
    const name = this.#volumes.find(volume)?.name ?? `#${volume}`;
    const text = `4 KiB of volume ${name} at byte ${block * 4096} cannot be read, and were written in part: they stay unreadable`;
    this.events.emit("block-unreadable", `group ${this.name}: ${text} until they are written whole`, {
      volume: name,
      block,
    });
  }

  // ---------------------------------------------------------------- serving hosts

  serving(): Serving {
    return this.#serving;
  }

  setServing(serving: Serving): void {
    const before = this.#serving;
    this.#serving = serving;
    if (serving.writable) this.admission.open();
    else if (before.writable) this.admission.close("not-ready");
    const sameView = JSON.stringify(before.readable) === JSON.stringify(serving.readable);
    if (sameView && before.writable === serving.writable) return;
    this.#targets.end(null, serving.why ?? "the volume's role has changed");
  }

  addTarget(target: VolumeTarget): void {
    this.#targets.add(target);
  }

  targetClosed(target: VolumeTarget): void {
    this.#targets.remove(target);
  }

  endTargets(volume: number | null, reason: string, isLost = false): void {
    this.#targets.end(volume, reason, isLost);
  }

  /** In bytes, as hosts see it now. */
  sizeOf(volume: number): number {
    return this.#volumes.find(volume)?.sizeBytes ?? 0;
  }

  submitWrite(request: BlockRequest, volume: number): void {
    this.admission.submit(request, volume);
  }

  /** Everything acknowledged is durable already (WCE = 0); what is admitted and not yet answered is waited for. */
  flush(request: BlockRequest): void {
    this.log.await(request);
  }

  tryRead(volume: number, firstBlock: number, target: Uint8Array): boolean {
    const view = this.#serving.readable;
    if (view === "head") return this.#reads.tryRead(volume, firstBlock, target);
    return view !== null && this.store.tryRead(view.fork, volume, firstBlock, target);
  }

  read(volume: number, firstBlock: number, target: Uint8Array, done: StoreDone): void {
    const view = this.#serving.readable;
    if (view === "head") this.#reads.read(volume, firstBlock, target, done);
    else if (view !== null) this.store.read(view.fork, volume, firstBlock, target, done);
    else done({ code: "unknown-version", text: "the group is not readable now" });
  }

  extents(
    volume: number,
    range: { readonly firstBlock: number; readonly blockCount: number; readonly limit: number },
    done: (error: StoreError | null, extents: readonly HomeExtent[]) => void,
  ): void {
    const view = this.#serving.readable;
    if (view === null) return done({ code: "unknown-version", text: "the group is not readable now" }, []);
    if (view === "head") this.#reads.extents(volume, range, done);
    else this.store.extents(view.fork, volume, range, done);
  }

  // ---------------------------------------------------------------- committed state

  /** Reads of the committed state, whatever hosts see. */
  get head(): ReadPath {
    return this.#reads;
  }

  volumes(): readonly GroupVolume[] {
    return this.#volumes.committed;
  }

  /** The number for the next volume: above every one that was ever handed out. */
  nextVolumeNumber(): number {
    return Math.max(this.#document.nextVolumeNumber, this.#volumes.nextNumber);
  }

  /** Writes a change of the volume table into the log; `done` when it is committed. */
  changeVolumes(change: VolumeChange, done: Ready): void {
    if (change.op === "create") {
      this.#document = { ...this.#document, nextVolumeNumber: change.volume.number + 1 };
    }
    this.#appends.special(RecordKind.control, encodeChange(change), (error) => done(error));
  }

  #roomCame(): void {
    this.#appends.retry();
    this.admission.retry();
  }

  #payload(header: RecordHeader, at: number): Uint8Array {
    const from = at + header.headerBytes;
    return this.log.list.region.bytes.subarray(from, from + header.payloadBytes);
  }

  /** A record without blocks has been committed. */
  #special(header: RecordHeader, at: number): void {
    if (header.kind === RecordKind.control || header.kind === RecordKind.table) {
      const change = decodeChange(this.#payload(header, at));
      if (change === null) {
        this.events.emit(
          "bad-control-record",
          `group ${this.name}: record ${header.firstSeq} is not a change of volumes`,
        );
        return;
      }
      const nextVolumeNumber = Math.max(this.#document.nextVolumeNumber, nextNumberAfter(change));
      this.#document = { ...this.#document, nextVolumeNumber };
      const gone = this.#volumes.commit(change, this.log.committedRecords - 1);
      for (const volume of gone) this.endTargets(volume.number, "the volume was deleted");
      this.onVolumesChanged(gone);
    } else if (header.kind === RecordKind.consistentAt) {
      const peer = new TextDecoder().decode(this.#payload(header, at));
      for (const listener of this.#consistentListeners) listener({ peer, seq: header.lastSeq });
    }
  }

  // ---------------------------------------------------------------- timelines, forks, resets

  /** See `GroupPort.openForWriting`. */
  openForWriting(
    done: (error: StoreError | null, opened: { timeline: string; firstSeq: number } | null) => void,
  ): void {
    this.log.commitAllDurable();
    const timeline = toHex(this.entropy.fill(new Uint8Array(16)));
    this.#appends.open(timeline, (error, firstSeq) => done(error, error === null ? { timeline, firstSeq } : null));
  }

  /** Everything admitted is decided and at home. */
  #drainAdmitted(done: () => void): void {
    this.#appends.whenCommitted(this.log.headSeq, () => this.#drainCommitted(done), done);
  }

  #drainCommitted(done: () => void): void {
    this.destager.drain((error) => {
      if (error === null) return done();
      this.clock.after(drainRetryMs, () => this.#drainCommitted(done));
    });
  }

  drainToHome(done: (error: StoreError | null, seq: number) => void): void {
    this.#appends.whenAllPersisted(() => {
      const following = this.log.heardSeq;
      this.log.commitAllDurable();
      if (following !== Number.POSITIVE_INFINITY) this.log.followPrimary(this.log.commitSeq);
      this.destager.drain((error) => done(error, this.log.destagedSeq));
    });
  }

  forkHere(id: string, done: (error: StoreError | null, seq: number) => void): void {
    this.drainToHome((error, seq) => {
      if (error !== null) return done(error, seq);
      this.queue.run((next) => {
        const at = this.log.destagedSeq;
        const refused = this.#forks.take(id, at, rootGrowthBytes(this.#document));
        if (refused !== null) {
          next();
          return done(refused, at);
        }
        this.#saves.commit(this.#documentAt(at, this.#place), (commitError) => {
          next();
          // A fork of that id that was there before a crash has the seq of then.
          done(commitError, this.#forks.find(id)?.seq ?? at);
        });
      });
    });
  }

  dropFork(id: string, done: Ready): void {
    this.queue.run((next) => {
      if (this.#forks.has(id)) this.store.dropFork(id);
      this.#saves.commit(this.#documentAt(this.log.destagedSeq, this.#place), (error) => {
        next();
        done(error);
      });
    });
  }

  forks(): readonly { readonly id: string; readonly seq: number }[] {
    return this.#forks.list();
  }

  promoteFork(id: string, keepAs: string | null, done: Ready): void {
    this.drainToHome((drainError) => {
      if (drainError !== null) return done(drainError);
      const fork = this.#forks.find(id);
      if (fork === undefined) return done({ code: "unknown-version", text: `there is no fork ${id}` });
      this.queue.run((next) => {
        const headSeq = this.log.destagedSeq;
        const kept = keepAs === null ? null : { id: keepAs, seq: headSeq };
        this.store.promoteFork(id, kept);
        if (keepAs !== null) this.#forks.remember(keepAs, headSeq, this.log.lineage());
        const volumes = this.store.volumes("head").map((stored) => {
          const known = this.#volumes.find(stored.number);
          return {
            number: stored.number,
            sizeBytes: stored.sizeBytes,
            name: known?.name ?? `volume-${stored.number}`,
            uuid: known?.uuid ?? toHex(this.entropy.fill(new Uint8Array(16))),
          };
        });
        this.#volumes.set(volumes);
        this.#emptyLog(fork.lineage, fork.seq);
        this.#saves.commit(this.#documentAt(fork.seq, this.#place), (error) => {
          next();
          done(error);
        });
      });
    });
  }

  resetLog(position: { readonly lineage: readonly LineageEntry[]; readonly seq: number }, done: Ready): void {
    this.queue.run((next) => {
      this.#emptyLog(position.lineage, position.seq);
      this.log.followPrimary(position.seq);
      this.#saves.commit(this.#documentAt(position.seq, this.#place), (error) => {
        next();
        done(error);
      });
    });
  }

  /** Forgets every record. Runs as a task of the store queue: no destage is under way. */
  #emptyLog(lineage: readonly LineageEntry[], seq: number): void {
    this.log.list.forEachFrom(this.#place, (header) => this.#ledger.release(header));
    this.log.reset(lineage, seq);
    this.#volumes.forgetPending();
    this.destager.reset({ ordinal: this.log.list.nextOrdinal, offset: 0 });
  }

  // ---------------------------------------------------------------- boundaries

  writeBoundary(id: string, purpose: string, done: (error: StoreError | null, seq: number) => void): void {
    this.#appends.special(RecordKind.boundary, encodeBoundary({ id, purpose }), (error, seq) => {
      done(error, seq);
      this.destager.kick();
    });
  }

  writeConsistentAt(peer: string, done: (error: StoreError | null, seq: number) => void): void {
    this.#appends.special(RecordKind.consistentAt, new TextEncoder().encode(peer), done);
  }

  onBoundary(
    listener: (boundary: { readonly id: string; readonly purpose: string; readonly seq: number }) => void,
  ): void {
    this.#boundaryListeners.push(listener);
  }

  onConsistentAt(listener: (mark: { readonly peer: string; readonly seq: number }) => void): void {
    this.#consistentListeners.push(listener);
  }

  readFork(id: Version, volume: number, firstBlock: number, target: Uint8Array, done: StoreDone): void {
    if (this.store.tryRead(id, volume, firstBlock, target)) done(null);
    else this.store.read(id, volume, firstBlock, target, done);
  }
}
