/**
 * One NIC for several users (lanes): each listens and connects as if the NIC were its own. Whose a connection is that comes in is
 * told by its first bytes.
 *
 * Invariants:
 * - What a lane gets of a stream is everything that came in, from the first byte that is not the lane's mark.
 * - A stream whose lane is not known in time, or is nobody's, is closed; so many wait at most.
 */
import type { ByteStream, StreamHandler } from "../../hal/api/byte_stream.ts";
import type { Clock, Timer } from "../../hal/api/clock.ts";
import type { Nic } from "../../hal/api/nic.ts";
import { pairLimits } from "./limits.ts";
import { turnedAway } from "./turned_away.ts";

export type Choice =
  | { readonly kind: "lane"; readonly lane: number /** Bytes that are not for the lane. */; readonly skipBytes: number }
  | { readonly kind: "more" }
  /** `answer` is sent before the stream ends. */
  | { readonly kind: "nobody"; readonly answer: Uint8Array };

export interface LaneRule {
  /** What a connection of the lane sends first. */
  markOf(lane: number): Uint8Array;
  /** Of the bytes that have come in so far. */
  choose(bytes: Uint8Array): Choice;
}

type Accept = (stream: ByteStream) => StreamHandler;

/** Lanes are told by one byte, sent by whoever connects. */
export const lanesByMark: LaneRule = {
  markOf: (lane) => Uint8Array.of(lane),
  choose: (bytes) => (bytes.byteLength === 0 ? { kind: "more" } : { kind: "lane", lane: bytes[0]!, skipBytes: 1 }),
};

export class SharedNic {
  readonly lanes: readonly Nic[];
  readonly #nic: Nic;
  readonly #clock: Clock;
  readonly #rule: LaneRule;
  readonly #accepts: (Accept | null)[];
  readonly #arriving = new Set<Arriving>();
  #listening: Promise<string | null> | null = null;

  constructor(nic: Nic, laneCount: number, clock: Clock, rule: LaneRule) {
    this.#nic = nic;
    this.#clock = clock;
    this.#rule = rule;
    this.#accepts = new Array<Accept | null>(laneCount).fill(null);
    this.lanes = this.#accepts.map((_, lane) => this.#lane(lane));
  }

  #lane(lane: number): Nic {
    const nic = this.#nic;
    return {
      name: nic.name,
      get address() {
        return nic.address;
      },
      listen: (accept, done) => {
        this.#accepts[lane] = accept;
        this.#listening ??= new Promise((resolve) => nic.listen((stream) => this.#accept(stream), resolve));
        this.#listening.then(done);
      },
      close: () => {
        this.#accepts[lane] = null;
      },
      connect: (address, connected, failed) =>
        nic.connect(
          address,
          (stream) => {
            const mark = this.#rule.markOf(lane);
            // Before anything that the lane's user sends, which it may do once its handler is known.
            if (mark.byteLength > 0) this.#clock.defer(() => stream.write(mark));
            return connected(stream);
          },
          failed,
        ),
      shape: (remote, shaping) => nic.shape(remote, shaping),
      shapings: () => nic.shapings(),
    };
  }

  /** No lane is served any more. */
  stop(): void {
    this.#accepts.fill(null);
    for (const arriving of [...this.#arriving]) arriving.giveUp();
    if (this.#listening !== null) this.#nic.close();
  }

  #accept(stream: ByteStream): StreamHandler {
    if (this.#accepts.every((accept) => accept === null)) return turnedAway(this.#clock, stream);
    if (this.#arriving.size >= pairLimits.strangersMax) {
      const [oldest] = this.#arriving;
      oldest?.giveUp();
    }
    const find = (bytes: Uint8Array): Choice => {
      const choice = this.#rule.choose(bytes);
      const isNobody = choice.kind === "lane" && (this.#accepts[choice.lane] ?? null) === null;
      return isNobody ? { kind: "nobody", answer: new Uint8Array(0) } : choice;
    };
    const arriving: Arriving = new Arriving(
      stream,
      find,
      (lane) => this.#accepts[lane]!(stream),
      () => this.#arriving.delete(arriving),
    );
    arriving.limit = this.#clock.after(pairLimits.dialMs, () => arriving.giveUp());
    this.#arriving.add(arriving);
    return arriving;
  }
}

/** A stream until it is known whose it is. */
class Arriving implements StreamHandler {
  limit: Timer | null = null;
  readonly #stream: ByteStream;
  readonly #find: (bytes: Uint8Array) => Choice;
  readonly #give: (lane: number) => StreamHandler;
  readonly #over: () => void;
  #kept = new Uint8Array(0);
  #lane: StreamHandler | null = null;
  #isClosed = false;

  constructor(
    stream: ByteStream,
    find: (bytes: Uint8Array) => Choice,
    give: (lane: number) => StreamHandler,
    over: () => void,
  ) {
    this.#stream = stream;
    this.#find = find;
    this.#give = give;
    this.#over = over;
  }

  onData(chunk: Uint8Array): void {
    if (this.#lane !== null) return this.#lane.onData(chunk);
    if (this.#isClosed) return;
    const kept = new Uint8Array(this.#kept.byteLength + chunk.byteLength);
    kept.set(this.#kept);
    kept.set(chunk, this.#kept.byteLength);
    this.#kept = kept;
    const choice = this.#find(kept);
    if (choice.kind === "nobody") {
      if (choice.answer.byteLength > 0) this.#stream.write(choice.answer);
      this.#leave();
      this.#isClosed = true;
      this.#stream.end();
    } else if (choice.kind === "lane") {
      this.#leave();
      this.#lane = this.#give(choice.lane);
      const rest = kept.subarray(choice.skipBytes);
      if (rest.byteLength > 0) this.#lane.onData(rest);
    }
  }

  onDrain(): void {
    this.#lane?.onDrain();
  }

  onEnd(): void {
    if (this.#lane !== null) return this.#lane.onEnd();
    this.giveUp();
  }

  onClose(): void {
    if (this.#lane !== null) return this.#lane.onClose();
    this.#leave();
    this.#isClosed = true;
  }

  giveUp(): void {
    if (this.#isClosed || this.#lane !== null) return;
    this.#leave();
    this.#isClosed = true;
    this.#stream.abort();
  }

  #leave(): void {
    this.limit?.cancel();
    this.#over();
  }
}
