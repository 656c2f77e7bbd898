/**
 * The primary's side of a verify: both sides fork at one boundary record, and compare digests of the forks.
 *
 *   marking (boundary record) ──▶ forking (until both sides have forked) ──▶ comparing ──▶ ended
 *        └──────────────── link lost, group closed, read failed ───────────────────────▶ ended (failed)
 *
 * Invariants (R4): what is compared is the group at one seq on both sides, so writes meanwhile raise no false alarm; replication
 * goes on; the fork is dropped at the end, whatever the end is.
 */
import { toHex } from "../codec/bytes.ts";
import type { FrameOf } from "../peer/frame.ts";
import { verifyLimits } from "../peer/limits.ts";
import type { Link } from "../peer/link.ts";
import { ForkDigester, mibCountOf } from "./fork_digests.ts";
import { type GroupContext, newId } from "./group_context.ts";

const { digestBytes, mibBytes } = verifyLimits;

export const verifyForkPrefix = "verify-";

export interface VerifyReport {
  readonly seq: number;
  readonly equal: boolean;
  readonly comparedBytes: number;
  readonly volumes: readonly {
    readonly number: number;
    readonly equal: boolean;
    readonly digest: string;
    readonly peerDigest: string;
    /** Where they differ, in bytes, adjoining MiBs joined; at most 100 ranges. */
    readonly mismatches: readonly { readonly offsetBytes: number; readonly lengthBytes: number }[];
  }[];
}

export type VerifyOutcome =
  | { readonly kind: "compared"; readonly report: VerifyReport }
  | { readonly kind: "failed"; readonly code: "not-connected" | "not-writable" | "failed"; readonly text: string };

interface Ask {
  readonly ask: number;
  readonly firstMib: number;
  readonly mibCount: number;
  ours: Uint8Array | null;
  theirs: Uint8Array | null;
}

interface VolumeUnderWay {
  readonly number: number;
  readonly mibs: number;
  readonly sizeBytes: number;
  readonly ours: Uint8Array;
  readonly theirs: Uint8Array;
}

export class VerifySource {
  readonly id: string;
  readonly #context: GroupContext;
  readonly #link: Link;
  readonly #done: (outcome: VerifyOutcome) => void;
  readonly #digester: ForkDigester;
  #state: "marking" | "forking" | "comparing" | "ended" = "marking";
  #seq: number | null = null;
  #forkedHere = false;
  #theirVolumes: FrameOf<"verifyForked">["volumes"] | null = null;
  #volumes: VolumeUnderWay[] = [];
  #volumeIndex = 0;
  #nextMib = 0;
  #askNumber = 0;
  #asks: Ask[] = [];
  #hashing = false;
  #comparedBytes = 0;

  constructor(context: GroupContext, link: Link, done: (outcome: VerifyOutcome) => void) {
    this.#context = context;
    this.#link = link;
    this.#done = done;
    this.id = newId(context);
    this.#digester = new ForkDigester(context.port, this.forkId);
  }

  get forkId(): string {
    return verifyForkPrefix + this.id;
  }

  get progress(): { readonly doneBytes: number; readonly totalBytes: number | null } {
    const totalBytes = this.#volumes.reduce((sum, volume) => sum + volume.sizeBytes, 0);
    return { doneBytes: this.#comparedBytes, totalBytes: this.#state === "comparing" ? totalBytes : null };
  }

  start(): void {
    this.#context.port.writeBoundary(this.forkId, "verify", (error, seq) => {
      if (this.#state === "ended") return;
      if (error !== null) {
        return this.#fail("not-writable", `the boundary could not be written: ${error.text}`);
      }
      this.#seq = seq;
      if (this.#state === "marking") this.#state = "forking";
      this.#compareWhenForked();
    });
  }

  /** This side has forked at the boundary. */
  onForkedHere(): void {
    this.#forkedHere = true;
    if (this.#state === "ended") this.#dropFork();
    else this.#compareWhenForked();
  }

  onForkedThere(forked: FrameOf<"verifyForked">): void {
    if (this.#state === "ended") return;
    this.#theirVolumes = forked.volumes;
    this.#compareWhenForked();
  }

  /** The link is gone, or the role is. */
  cancel(text: string): void {
    this.#fail("not-connected", text);
  }

  onDigests(answer: FrameOf<"verifyDigests">, payload: Uint8Array): void {
    if (this.#state !== "comparing") return;
    const ask = this.#asks.find((candidate) => candidate.ask === answer.ask);
    if (ask === undefined || ask.theirs !== null) return;
    if (answer.failed || payload.byteLength !== ask.mibCount * digestBytes) {
      return this.#fail("failed", "the other side could not read its fork");
    }
    ask.theirs = payload;
    this.#settle();
  }

  #compareWhenForked(): void {
    if (this.#state !== "forking" || !this.#forkedHere || this.#theirVolumes === null) return;
    this.#state = "comparing";
    this.#volumes = this.#context.port.forkVolumes(this.forkId).map(({ number, sizeBytes }) => {
      const mibs = mibCountOf(sizeBytes);
      return {
        number,
        sizeBytes,
        mibs,
        ours: new Uint8Array(mibs * digestBytes),
        theirs: new Uint8Array(mibs * digestBytes),
      };
    });
    const theirs = new Map(this.#theirVolumes.map((volume) => [volume.number, volume.sizeBytes]));
    const sameTables =
      theirs.size === this.#volumes.length &&
      this.#volumes.every((volume) => theirs.get(volume.number) === volume.sizeBytes);
    if (!sameTables) return this.#end(false);
    this.#next();
  }

  #next(): void {
    while (this.#asks.length < verifyLimits.asksMax) {
      const volume = this.#volumes[this.#volumeIndex];
      if (volume === undefined) break;
      if (this.#nextMib >= volume.mibs) {
        // Answers are placed by the volume under way, so one volume is finished before the next begins.
        if (this.#asks.length > 0) break;
        this.#volumeIndex++;
        this.#nextMib = 0;
        continue;
      }
      const mibCount = Math.min(verifyLimits.mibsPerAsk, volume.mibs - this.#nextMib);
      const ask: Ask = { ask: ++this.#askNumber, firstMib: this.#nextMib, mibCount, ours: null, theirs: null };
      this.#nextMib += mibCount;
      this.#asks.push(ask);
      const { ask: number, firstMib } = ask;
      this.#link.send({ kind: "verifyAsk", id: this.id, ask: number, volume: volume.number, firstMib, mibCount });
    }
    if (this.#asks.length === 0) return this.#end(true);
    this.#hash();
  }

  /** Our own digests, one question after the other. */
  #hash(): void {
    const ask = this.#asks.find((candidate) => candidate.ours === null);
    const volume = this.#volumes[this.#volumeIndex];
    if (ask === undefined || volume === undefined || this.#hashing) return;
    this.#hashing = true;
    this.#digester.range(volume.number, ask.firstMib, ask.mibCount, (digests) => {
      this.#hashing = false;
      if (this.#state !== "comparing") return;
      if (digests === null) return this.#fail("failed", "the fork here could not be read");
      ask.ours = digests;
      this.#settle();
    });
  }

  #settle(): void {
    const volume = this.#volumes[this.#volumeIndex]!;
    this.#asks = this.#asks.filter((ask) => {
      if (ask.ours === null || ask.theirs === null) return true;
      volume.ours.set(ask.ours, ask.firstMib * digestBytes);
      volume.theirs.set(ask.theirs, ask.firstMib * digestBytes);
      const end = Math.min(volume.sizeBytes, (ask.firstMib + ask.mibCount) * mibBytes);
      this.#comparedBytes += end - ask.firstMib * mibBytes;
      return false;
    });
    this.#next();
  }

  #end(sameTables: boolean): void {
    const volumes = this.#volumes.map((volume) => {
      const mismatches = sameTables ? differences(volume) : [];
      return {
        number: volume.number,
        equal: sameTables && mismatches.length === 0,
        digest: toHex(this.#context.port.digests.sha256(volume.ours)),
        peerDigest: toHex(this.#context.port.digests.sha256(volume.theirs)),
        mismatches,
      };
    });
    const equal = sameTables && volumes.every((volume) => volume.equal);
    this.#finish(equal, true);
    const report = { seq: this.#seq ?? 0, equal, comparedBytes: this.#comparedBytes, volumes };
    this.#done({ kind: "compared", report });
  }

  #fail(code: "not-connected" | "not-writable" | "failed", text: string): void {
    if (this.#state === "ended") return;
    this.#finish(false, false);
    this.#done({ kind: "failed", code, text });
  }

  #finish(equal: boolean, finished: boolean): void {
    this.#state = "ended";
    this.#digester.stop();
    this.#link.send({ kind: "verifyEnd", id: this.id, equal, finished });
    if (this.#forkedHere) this.#dropFork();
  }

  #dropFork(): void {
    this.#context.port.dropFork(this.forkId, () => {});
  }
}

function differences(volume: VolumeUnderWay): { offsetBytes: number; lengthBytes: number }[] {
  const found: { offsetBytes: number; lengthBytes: number }[] = [];
  for (let mib = 0; mib < volume.mibs && found.length < 100; mib++) {
    let equal = true;
    for (let at = mib * digestBytes; at < (mib + 1) * digestBytes; at++) {
      if (volume.ours[at] !== volume.theirs[at]) {
        equal = false;
        break;
      }
    }
    if (equal) continue;
    const offsetBytes = mib * mibBytes;
    const lengthBytes = Math.min(mibBytes, volume.sizeBytes - offsetBytes);
    const last = found[found.length - 1];
    if (last !== undefined && last.offsetBytes + last.lengthBytes === offsetBytes) last.lengthBytes += lengthBytes;
    else found.push({ offsetBytes, lengthBytes });
  }
  return found;
}
