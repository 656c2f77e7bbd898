/**
 * The golden side of a verify: answers questions about a fork that the boundary made, then drops it.
 *
 * Invariants: one question is hashed at a time, a bounded number waits; a fork whose primary has gone, or does not know it, is
 * dropped.
 */
import type { FrameOf } from "../peer/frame.ts";
import { verifyLimits } from "../peer/limits.ts";
import type { Link } from "../peer/link.ts";
import { ForkDigester } from "./fork_digests.ts";
import type { GroupContext } from "./group_context.ts";
import { verifyForkPrefix } from "./verify_source.ts";

export class VerifyTarget {
  readonly #context: GroupContext;
  readonly #link: Link;
  readonly #forks = new Map<string, ForkDigester>();
  #asks: FrameOf<"verifyAsk">[] = [];
  #hashing = false;

  constructor(context: GroupContext, link: Link) {
    this.#context = context;
    this.#link = link;
  }

  /** This copy has forked at a verify boundary. `forkId`: the boundary's id. */
  onForked(forkId: string, seq: number): void {
    const id = forkId.slice(verifyForkPrefix.length);
    this.#forks.set(id, new ForkDigester(this.#context.port, forkId));
    const volumes = this.#context.port.forkVolumes(forkId);
    this.#link.send({ kind: "verifyForked", id, seq, volumes });
  }

  /** False: more questions than agreed. */
  onAsk(ask: FrameOf<"verifyAsk">): boolean {
    if (this.#asks.length >= 2 * verifyLimits.asksMax) return false;
    this.#asks.push(ask);
    this.#next();
    return true;
  }

  onEnd(end: FrameOf<"verifyEnd">): void {
    this.#drop(end.id);
  }

  stop(): void {
    this.#asks = [];
    for (const id of [...this.#forks.keys()]) this.#drop(id);
  }

  #drop(id: string): void {
    const digester = this.#forks.get(id);
    if (digester === undefined) return;
    digester.stop();
    this.#forks.delete(id);
    if (this.#asks[0]?.id === id) this.#hashing = false;
    this.#asks = this.#asks.filter((ask) => ask.id !== id);
    this.#context.port.dropFork(verifyForkPrefix + id, () => {});
    this.#next();
  }

  #next(): void {
    const ask = this.#asks[0];
    if (ask === undefined || this.#hashing) return;
    const digester = this.#forks.get(ask.id);
    if (digester === undefined) return this.#answer(ask, null);
    this.#hashing = true;
    digester.range(ask.volume, ask.firstMib, ask.mibCount, (digests) => {
      this.#hashing = false;
      this.#answer(ask, digests);
    });
  }

  #answer(ask: FrameOf<"verifyAsk">, digests: Uint8Array | null): void {
    this.#asks.shift();
    const failed = digests === null;
    this.#link.send({ kind: "verifyDigests", id: ask.id, ask: ask.ask, failed }, failed ? [] : [digests]);
    this.#next();
  }
}
