/**
 * A host with two paths to one volume, one of them in use: when that one breaks, or does not answer in time, the other one is opened
 * and everything unanswered is repeated there, and so on to and fro until one takes it.
 *
 *   connecting ──a path opens──▶ in use ──closed, reset, no answer in time──▶ connecting (the other path first)
 *
 * Invariants:
 * - A request is answered once. It is repeated for as long as it is not; what is repeated is the same request, byte for byte.
 * - `answerLimitMs` is longer than a pair takes to fence a partner: a write is repeated elsewhere only when nobody can execute its
 *   first copy any more.
 */
import { placeOf } from "../load/plan.ts";
import { IscsiPath } from "./iscsi_path.ts";
import { NbdPath } from "./nbd_path.ts";
import type { PathClient, PathEvents, PathShape, Refusal } from "./path_client.ts";

/** How long a host waits; `usualWaits` where nothing is said. */
export interface Waits {
  /** A path that takes longer to open is left for the other one: a paused process accepts connections and says nothing. */
  readonly openLimitMs: number;
  readonly answerLimitMs: number;
}

const usualWaits: Waits = { openLimitMs: 500, answerLimitMs: 5000 };
/** Between two tries: what a gap can be too long by. */
const pauseMs = 5;
export interface Request {
  readonly offsetBytes: number;
  /** null: a read. Stays as it is until the answer. */
  readonly payload: Uint8Array | null;
}

export interface TwoPathsEvents {
  answered(slot: number, data: Uint8Array | null): void;
  handled(): void;
  /** The request will be repeated. */
  refused(refusal: Refusal, text: string): void;
  broken(why: string): void;
}

export class TwoPaths {
  readonly #urls: readonly string[];
  readonly #blockBytes: number;
  readonly #waits: Waits;
  readonly #events: TwoPathsEvents;
  readonly #open: (Request | null)[];
  #at = 0;
  #client: PathClient | null = null;
  #lastAnswerMs = 0;
  #watch: Timer | null = null;
  #isOver = false;

  /** `urls`: the path that is tried first comes first. */
  constructor(
    urls: readonly string[],
    blockBytes: number,
    depth: number,
    events: TwoPathsEvents,
    waits: Waits = usualWaits,
  ) {
    this.#urls = urls;
    this.#blockBytes = blockBytes;
    this.#waits = waits;
    this.#events = events;
    this.#open = new Array<Request | null>(depth).fill(null);
  }

  /** Which path is in use; null: none is now. */
  get inUse(): string | null {
    return this.#client === null ? null : this.#urls[this.#at]!;
  }

  /** The volume's size. */
  async start(): Promise<number> {
    const sizeBytes = await this.#connect();
    this.#lastAnswerMs = performance.now();
    this.#watch = setInterval(() => this.#look(), this.#waits.answerLimitMs / 10);
    return sizeBytes;
  }

  /** Goes out with the next `push`. The slot is free. */
  request(slot: number, request: Request): void {
    this.#open[slot] = request;
    this.#issue(slot, request);
  }

  push(): void {
    this.#client?.push();
  }

  stop(): void {
    this.#isOver = true;
    if (this.#watch !== null) clearInterval(this.#watch);
    this.#client?.drop();
    this.#client = null;
  }

  #issue(slot: number, { offsetBytes, payload }: Request): void {
    if (payload === null) this.#client?.read(slot, offsetBytes);
    else this.#client?.write(slot, offsetBytes, payload);
  }

  async #connect(): Promise<number> {
    for (let tries = 1; ; tries++) {
      const opened = await this.#openOne();
      if (this.#isOver) {
        opened?.client.drop();
        return 0;
      }
      if (opened !== null) {
        this.#client = opened.client;
        this.#lastAnswerMs = performance.now();
        for (const [slot, request] of this.#open.entries()) if (request !== null) this.#issue(slot, request);
        this.#client.push();
        return opened.sizeBytes;
      }
      this.#at = (this.#at + 1) % this.#urls.length;
      if (tries % this.#urls.length === 0) await Bun.sleep(pauseMs);
    }
  }

  async #openOne(): Promise<{ client: PathClient; sizeBytes: number } | null> {
    const url = this.#urls[this.#at]!;
    const shape: PathShape = {
      place: placeOf(url),
      blockBytes: this.#blockBytes,
      depth: this.#open.length,
      index: this.#at,
    };
    const events: PathEvents = {
      answered: (slot, data) => {
        this.#lastAnswerMs = performance.now();
        this.#open[slot] = null;
        this.#events.answered(slot, data);
      },
      refused: (slot, refusal, text) => this.#refused(client, slot, refusal, text),
      handled: () => this.#events.handled(),
      broken: (why) => this.#broken(client, why),
    };
    const client: PathClient = url.startsWith("iscsi:") ? new IscsiPath(shape, events) : new NbdPath(shape, events);
    const limit = setTimeout(() => client.drop(), this.#waits.openLimitMs);
    try {
      return { client, sizeBytes: await client.open() };
    } catch {
      client.drop();
      return null;
    } finally {
      clearTimeout(limit);
    }
  }

  /** Repeated on the path that refused it, a moment later. */
  #refused(client: PathClient, slot: number, refusal: Refusal, text: string): void {
    this.#lastAnswerMs = performance.now();
    this.#events.refused(refusal, text);
    const request = this.#open[slot]!;
    const repeat = () => {
      if (this.#client !== client || request === null) return;
      this.#issue(slot, request);
      client.push();
    };
    setTimeout(repeat, refusal === "again" ? 0 : pauseMs);
  }

  #broken(client: PathClient, why: string): void {
    if (this.#client !== client) return;
    this.#client = null;
    this.#events.broken(`${this.#urls[this.#at]}: ${why}`);
    this.#at = (this.#at + 1) % this.#urls.length;
    void this.#connect();
  }

  #look(): void {
    const client = this.#client;
    const { answerLimitMs } = this.#waits;
    const isIdle = this.#open.every((request) => request === null);
    if (client === null || isIdle || performance.now() - this.#lastAnswerMs < answerLimitMs) return;
    client.drop();
    this.#broken(client, `no answer for ${answerLimitMs} ms`);
  }
}
