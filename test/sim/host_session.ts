/**
 * A simulated host's session with one volume of one array. It connects again whenever it loses its connection, at a pair over the other
 * appliance, reads whatever the array shows, and writes where the array lets it; every answer goes to the oracle.
 *
 *     waiting ──▶ connecting ──▶ ready: keeps up to `depth` commands open ──▶ closed ──▶ waiting
 *
 * A host that has no answer for `stallMs` gives the session up, as a real one would.
 */
import { Errno } from "../../firmware/frontend/nbd/constants.ts";
import { eventKind } from "../../hal/mock/event_heap.ts";
import type { Prng } from "../../hal/mock/prng.ts";
import type { ReadTicket } from "./copy_view.ts";
import type { HistoryVolume, HostWrite, Position } from "./history.ts";
import { type ExportFacts, NbdClient } from "./nbd_client.ts";
import { describeCommand } from "./oracle.ts";
import type { Boot, SimArray, SimMachine } from "./sim_array.ts";
import type { Site } from "./site.ts";
import { stampSectors } from "./stamp.ts";

/** What all sessions of a site obey; changed at any time. */
export interface HostOrders {
  /** Connects and issues commands. */
  active: boolean;
  writes: boolean;
  /** Every read goes on where the last one ended: a whole image is seen within seconds. */
  sweeps: boolean;
  /** Errors that arrays may answer with now, by array. */
  mayFail: (array: SimArray, errno: number) => boolean;
  /** Whether the operator has given up the cache of an array. */
  gaveCacheUp: (array: SimArray) => boolean;
}

interface OpenCommand {
  readonly kind: "read" | "write" | "flush";
  readonly startLba: number;
  readonly sectorCount: number;
  readonly write: HostWrite | null;
  readonly ticket: ReadTicket | null;
  readonly issuedMs: number;
  /** The firmware that the session belongs to was at work when the command was sent. */
  readonly wasServed: boolean;
}

/** The fork that a session reads; null: the head. */
interface ForkSeen {
  readonly id: string;
  readonly at: Position;
}

const stallMs = 20_000;
const sweepSectors = 128;
/** One begins anywhere, the second one has seen everything since the order. */
export const sweepsWanted = 2;
/** Most of the traffic meets in the first chunks, so that writes overlap. */
const hotSectors = 384;

export class HostSession {
  readonly array: SimArray;
  readonly volume: HistoryVolume;
  readonly #site: Site;
  readonly #orders: HostOrders;
  readonly #prng: Prng;
  readonly exportName: string;
  #client: NbdClient | null = null;
  #boot: Boot | null = null;
  #writable = false;
  #fork: ForkSeen | null = null;
  #ready = false;
  /** Which of the array's appliances is tried next, or is in use. */
  #path: number;
  readonly #paths: readonly SimMachine[];
  #sweepLba = 0;
  #nextCookie = 1;
  /** Grows with every connection: late events of an earlier one are told apart by it. */
  #attempt = 0;
  readonly #open = new Map<number, OpenCommand>();
  /** Sweeps that went through the whole volume since they were counted last. */
  sweepsDone = 0;

  constructor(
    site: Site,
    array: SimArray,
    volume: HistoryVolume,
    index: number,
    orders: HostOrders,
    exportName = volume.name,
    paths: readonly SimMachine[] = array.machines,
  ) {
    this.#site = site;
    this.array = array;
    this.volume = volume;
    this.#orders = orders;
    this.exportName = exportName;
    this.#paths = paths;
    this.#path = index % paths.length;
    this.#prng = site.world.prng(`host/${array.name}/${exportName}/${index}`);
  }

  get openWrites(): number {
    let count = 0;
    for (const { write } of this.#open.values()) if (write !== null) count++;
    return count;
  }

  get isReady(): boolean {
    return this.#ready;
  }

  get isWritable(): boolean {
    return this.#ready && this.#writable;
  }

  start(): void {
    this.#later(this.#prng.unit() * 5, () => this.#connect());
  }

  disconnect(): void {
    this.#client?.disconnect();
  }

  #later(delayMs: number, task: () => void): void {
    this.#site.world.schedule(delayMs, eventKind.host, null, task);
  }

  #connect(): void {
    if (!this.#orders.active) return this.#later(50, () => this.#connect());
    const attempt = ++this.#attempt;
    const structured = this.#prng.chance(0.5);
    this.#site.world.connectHost(
      this.#paths[this.#path]!.hbaAddress,
      (stream) => {
        this.#boot = this.array.live;
        const client = new NbdClient(stream, this.exportName, structured, {
          ready: (facts) => this.#becameReady(facts),
          reply: (cookie, errno, data) => this.#answered(cookie, errno, data),
          closed: () => {
            if (attempt === this.#attempt) this.#closed();
          },
          broken: (what) => this.#site.chronicle.fail("protocol", `${this.array.name} sent an NBD host ${what}`),
        });
        this.#client = client;
        return client;
      },
      () => this.#retry(),
    );
  }

  #retry(): void {
    this.#path = (this.#path + 1) % this.#paths.length;
    this.#later(this.#prng.between(5, 150), () => this.#connect());
  }

  #becameReady(facts: ExportFacts): void {
    const boot = this.#boot;
    const group = boot?.group() ?? null;
    if (boot === null || group === null || !boot.alive()) {
      this.#client?.disconnect();
      return;
    }
    if (facts.sizeBytes !== this.volume.sectorCount * 512) {
      const text = `${this.array.name} shows ${this.exportName} with ${facts.sizeBytes} bytes`;
      this.#site.chronicle.fail("D5", text, [`it has ${this.volume.sectorCount * 512}`]);
    }
    const { readable } = group.serving();
    const forkId = this.exportName.includes("@")
      ? this.#salvageFork(boot)
      : readable === null || readable === "head"
        ? null
        : readable.fork;
    this.#fork = forkId === null ? null : this.#forkSeen(boot, forkId);
    if (forkId !== null && this.#fork === null) {
      this.#client?.disconnect();
      return;
    }
    this.#writable = !facts.readOnly;
    this.#ready = true;
    for (let turn = 0; turn < this.#site.plan.depth; turn++) this.#endTurn();
  }

  #salvageFork(boot: Boot): string | null {
    const id = this.exportName.slice(this.exportName.indexOf("@") + 1);
    return (
      boot
        .entry()
        ?.replication.status()
        .salvage.find((one) => one.id === id)?.id ?? null
    );
  }

  #forkSeen(boot: Boot, id: string): ForkSeen | null {
    const fork = boot
      .group()!
      .forks()
      .find((one) => one.id === id);
    const at = fork === undefined ? null : this.#site.oracle.forkPosition(fork);
    return at === null ? null : { id, at };
  }

  #closed(): void {
    this.#ready = false;
    this.#client = null;
    for (const { ticket } of this.#open.values()) if (ticket !== null) this.#site.oracle.readForgotten(ticket);
    this.#open.clear();
    this.#retry();
  }

  // ---------------------------------------------------------------- commands

  /** One of the session's `depth` slots: a command, its answer, a wait. */
  #takeTurn(attempt: number): void {
    if (attempt !== this.#attempt || !this.#ready) return;
    const { active, sweeps } = this.#orders;
    if (active && !(sweeps && this.sweepsDone >= sweepsWanted)) this.#issue();
    else this.#endTurn();
  }

  #endTurn(): void {
    const attempt = this.#attempt;
    const { thinkMs } = this.#site.plan;
    // Readers of a copy need less to see everything.
    const meanMs = this.#orders.sweeps ? 0.3 : this.#writable ? thinkMs : 8 * thinkMs + 10;
    this.#later(this.#prng.exponential(meanMs), () => this.#takeTurn(attempt));
  }

  #issue(): void {
    const roll = this.#prng.unit();
    if (this.#orders.sweeps) return this.#sweep();
    if (this.#writable && this.#orders.writes) {
      if (roll < 0.55) return this.#write("write");
      if (roll < 0.59) return this.#write("zero");
      if (roll < 0.63) return this.#write("trim");
      if (roll < 0.66) return this.#send("flush", "flush", 0, 0, null, null);
    } else if (roll < 0.1) return this.#sweep();
    const range = this.#drawRange();
    this.#read(range.startLba, range.sectorCount);
  }

  #sweep(): void {
    const startLba = this.#sweepLba;
    const sectorCount = Math.min(sweepSectors, this.volume.sectorCount - startLba);
    this.#sweepLba = startLba + sectorCount;
    if (this.#sweepLba === this.volume.sectorCount) {
      this.#sweepLba = 0;
      this.sweepsDone++;
    }
    this.#read(startLba, sectorCount);
  }

  #drawRange(): { startLba: number; sectorCount: number } {
    const prng = this.#prng;
    const { sectorCount: size } = this.volume;
    const roll = prng.unit();
    let sectorCount = 8 * (1 + prng.below(3));
    if (roll < 0.3) sectorCount = 1 + prng.below(16);
    else if (roll < 0.4) sectorCount = 8 * (1 + prng.below(16));
    else if (roll < 0.41) sectorCount = 1 + prng.below(512);
    const zone = prng.chance(0.6) ? Math.min(hotSectors, size) : size;
    let startLba = prng.below(Math.max(1, zone - sectorCount));
    if (roll >= 0.3 && roll < 0.9) startLba -= startLba % 8;
    return { startLba, sectorCount: Math.min(sectorCount, size - startLba) };
  }

  #write(kind: HostWrite["kind"]): void {
    const range = this.#drawRange();
    if (kind !== "write" && this.#prng.chance(0.2)) range.sectorCount = this.volume.sectorCount - range.startLba;
    const { oracle } = this.#site;
    const write = oracle.writeIssued(this.array.name, { kind, volume: this.volume.number, ...range });
    let payload: Uint8Array | null = null;
    if (kind === "write") {
      payload = new Uint8Array(range.sectorCount * 512);
      stampSectors(payload, write.number, this.volume.number, range.startLba);
    }
    this.#send("write", kind, range.startLba, range.sectorCount, write, payload);
  }

  #read(startLba: number, sectorCount: number): void {
    this.#send("read", "read", startLba, sectorCount, null, null);
  }

  #send(
    kind: OpenCommand["kind"],
    command: "read" | "write" | "zero" | "trim" | "flush",
    startLba: number,
    sectorCount: number,
    write: HostWrite | null,
    payload: Uint8Array | null,
  ): void {
    const { world, oracle } = this.#site;
    const cookie = this.#nextCookie++;
    const ticket = kind === "read" && this.#fork === null ? oracle.readIssued(this.#boot!) : null;
    const wasServed = this.#boot!.alive();
    const open: OpenCommand = { kind, startLba, sectorCount, write, ticket, issuedMs: world.nowMs, wasServed };
    this.#open.set(cookie, open);
    this.#client!.send(command, cookie, startLba * 512, sectorCount * 512, payload);
    const attempt = this.#attempt;
    this.#later(stallMs, () => {
      if (attempt !== this.#attempt || this.#open.get(cookie) !== open) return;
      this.#site.chronicle.note(this.array.name, `a host gave up: no answer to ${command} for ${stallMs} ms`);
      this.#client?.disconnect();
    });
  }

  #answered(cookie: number, errno: number, data: Uint8Array | null): void {
    const open = this.#open.get(cookie)!;
    this.#open.delete(cookie);
    if (errno !== 0) this.#failed(open, errno);
    else if (!open.wasServed) this.#judgeStranger(open);
    else if (open.write !== null) this.#site.oracle.writeAcknowledged(this.#boot!, open.write);
    else if (data !== null) this.#judgeRead(open, data);
    this.#endTurn();
  }

  /** D3, L1: whoever was not the array's owner any more when the command was sent has no answer to give. */
  #judgeStranger(open: OpenCommand): void {
    const text = `${this.array.name} answered a ${open.kind} that was sent when its firmware there was over`;
    this.#site.chronicle.fail("D3", text, [`over ${this.#paths[this.#path]!.name}, sent at ${open.issuedMs} ms`]);
  }

  #judgeRead(open: OpenCommand, data: Uint8Array): void {
    const read = { volume: this.volume.number, startLba: open.startLba, data };
    if (this.#fork !== null) this.#site.oracle.forkReadAnswered(this.array.name, this.#fork, read);
    else if (open.ticket !== null) this.#site.oracle.readAnswered(this.#boot!, open.ticket, read);
  }

  #failed(open: OpenCommand, errno: number): void {
    if (open.ticket !== null) this.#site.oracle.readForgotten(open.ticket);
    if (errno === Errno.shutdown || (errno === Errno.perm && open.write !== null)) return;
    if (this.#orders.mayFail(this.array, errno) || (errno === Errno.io && this.#isTornFork(open))) return;
    const what = open.write === null ? `${open.kind} at LBA ${open.startLba}` : describeCommand(open.write);
    this.#site.chronicle.fail("D5", `${this.array.name} answered ${what} of ${this.exportName} with error ${errno}`, [
      "nothing that has happened to it explains an error",
    ]);
  }

  /**
   * A destage writes new blocks in place, under the protection of the log that repeats it. Once that log is given up with its cache,
   * a fork made afterwards holds blocks that are newer than itself: nobody can vouch for them, and an error is the truth.
   */
  #isTornFork({ kind, startLba, sectorCount }: OpenCommand): boolean {
    const fork = this.#fork;
    if (kind !== "read" || fork === null || !this.#orders.gaveCacheUp(this.array)) return false;
    return this.#site.oracle.history.isTouchedBehind(fork.at, this.volume.number, startLba, sectorCount);
  }
}
