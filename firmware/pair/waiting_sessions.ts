/**
 * Sessions of hosts that come in while nobody serves the array: between two owners, and at a start. They wait with their connection open
 * and are served as soon as somebody does.
 *
 * Why they are not closed at once: an initiator whose fresh connection is reset may never come back. Linux's open-iscsi then binds a
 * session to a connection that its kernel has given up already, again and again (open-iscsi issue 387). And who waits here is served
 * sooner than who is turned away and tries again after two seconds.
 *
 * Invariants:
 * - A session waits `waitMs` at most, and then ends.
 * - Of what it sends no more is kept than comes in before its `pause` takes effect.
 */
import type { StreamHandler } from "../../hal/api/byte_stream.ts";
import type { Clock, Timer } from "../../hal/api/clock.ts";
import type { HostStream } from "../../hal/api/hba.ts";
import { pairLimits } from "./limits.ts";

/** Finds who serves the session; null: nobody yet. */
type FindServer = () => StreamHandler | null;

export class WaitingSessions {
  readonly #clock: Clock;
  /** In the order of their arrival. */
  readonly #sessions = new Set<WaitingSession>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** null: too many wait. */
  add(stream: HostStream, find: FindServer): StreamHandler | null {
    if (this.#sessions.size >= pairLimits.waitingMax) return null;
    const session = new WaitingSession(stream, find, () => this.#sessions.delete(session));
    session.limit = this.#clock.after(pairLimits.waitMs, () => session.giveUp());
    this.#sessions.add(session);
    return session;
  }

  /** Somebody may serve now. Not within a call of a stream's. */
  look(): void {
    for (const session of [...this.#sessions]) session.look();
  }

  closeAll(): void {
    for (const session of [...this.#sessions]) session.giveUp();
  }
}

class WaitingSession implements StreamHandler {
  limit: Timer | null = null;
  readonly #stream: HostStream;
  readonly #find: FindServer;
  readonly #over: () => void;
  #server: StreamHandler | null = null;
  #kept: Uint8Array[] = [];
  #hasEnded = false;
  #isClosed = false;

  constructor(stream: HostStream, find: FindServer, over: () => void) {
    this.#stream = stream;
    this.#find = find;
    this.#over = over;
  }

  look(): void {
    if (this.#isClosed || this.#server !== null) return;
    const server = this.#find();
    if (server === null) return;
    this.#leave();
    this.#server = server;
    const kept = this.#kept;
    this.#kept = [];
    // Before the server hears anything: it may pause the stream again.
    if (kept.length > 0) this.#stream.resume();
    for (const chunk of kept) if (!this.#isClosed) server.onData(chunk);
    if (this.#hasEnded && !this.#isClosed) server.onEnd();
  }

  giveUp(): void {
    if (this.#isClosed || this.#server !== null) return;
    this.#leave();
    this.#stream.abort();
  }

  onData(chunk: Uint8Array): void {
    if (this.#server !== null) return this.#server.onData(chunk);
    if (this.#kept.length === 0) this.#stream.pause();
    this.#kept.push(chunk);
  }

  onDrain(): void {
    this.#server?.onDrain();
  }

  onEnd(): void {
    if (this.#server !== null) return this.#server.onEnd();
    this.#hasEnded = true;
  }

  onClose(): void {
    this.#isClosed = true;
    this.#kept = [];
    if (this.#server !== null) return this.#server.onClose();
    this.#leave();
  }

  #leave(): void {
    this.limit?.cancel();
    this.#over();
  }
}
