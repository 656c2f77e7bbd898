/**
 * A lean load generator for both protocols: a fixed depth on each connection, no verification. Run as a process of its own; what it
 * costs is in its result, so that a reader can see whether client or server was the limit.
 *
 * Its one argument is a plan as JSON. It prints `begin`, then its result as JSON. Before it measures it reads for `warmUpMs` (not for
 * `once` and `endless`), so that a short burst does not measure the start of a process.
 */
import type { LoadClient, LoadEvents } from "./client.ts";
import { IscsiClient } from "./iscsi_client.ts";
import { NbdClient } from "./nbd_client.ts";
import { type LoadPlan, type LoadResult, parsePlan, placeOf, readShareOf } from "./plan.ts";

const warmUpMs = 300;
/** A server that takes fewer connections lets one more wait for ever. */
const openLimitMs = 10_000;
const latenciesKept = 1 << 22;

/** One connection and its slots. */
class Lane implements LoadEvents {
  readonly client: LoadClient;
  readonly startedAt: Float64Array;
  readonly #load: Load;
  nextBlock = 0;

  constructor(load: Load, plan: LoadPlan, index: number) {
    this.#load = load;
    this.startedAt = new Float64Array(plan.depth);
    const shape = { blockBytes: plan.blockBytes, depth: plan.depth, index };
    const place = placeOf(plan.url);
    this.client = plan.url.startsWith("iscsi:")
      ? new IscsiClient(place, shape, this)
      : new NbdClient(place, shape, this);
  }

  completed(slot: number): void {
    this.#load.completed(this, slot);
  }

  handled(): void {
    this.#load.handled(this);
  }

  failed(error: Error): void {
    this.#load.fail(error);
  }
}

class Load {
  readonly #plan: LoadPlan;
  readonly #lanes: Lane[];
  readonly #latencies: Float32Array = new Float32Array(latenciesKept);
  readonly #isRandom: boolean;
  readonly #done: (error: Error | null) => void;
  #readShare = 1;
  #blocks = 0;
  #measuring = false;
  #cpuBefore = process.cpuUsage();
  #issued = 0;
  #issuesMax = 0;
  #ops = 0;
  #inFlight = 0;
  #beganAt = 0;
  #endsAt = 0;
  /** The time of the present event; 0: not asked for yet. */
  #now = 0;
  #state = 0x9e3779b9;

  constructor(plan: LoadPlan, done: (error: Error | null) => void) {
    this.#plan = plan;
    this.#done = done;
    this.#isRandom = plan.kind.startsWith("rand");
    this.#lanes = Array.from({ length: plan.connections }, (_, index) => new Lane(this, plan, index));
  }

  async start(): Promise<void> {
    const limit = setTimeout(() => this.fail(new Error("the server does not open the volume")), openLimitMs);
    for (const { client } of this.#lanes) await client.open();
    clearTimeout(limit);
    const { sizeBytes, blockBytes, until } = this.#plan;
    const whole = this.#lanes[0]!.client.sizeBytes;
    this.#blocks = Math.floor((sizeBytes === 0 ? whole : Math.min(whole, sizeBytes)) / blockBytes);
    if (until === "once" || until === "endless") this.#measure();
    else this.#begin(1, warmUpMs, Number.POSITIVE_INFINITY);
  }

  result(): LoadResult {
    const seconds = (performance.now() - this.#beganAt) / 1000;
    const sorted = this.#latencies.subarray(0, Math.min(this.#ops, latenciesKept)).sort();
    const at = (share: number) =>
      Math.round(1000 * (sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0));
    const { user, system } = process.cpuUsage(this.#cpuBefore);
    return {
      ops: this.#ops,
      seconds,
      iops: this.#ops / seconds,
      bytesPerSecond: (this.#ops * this.#plan.blockBytes) / seconds,
      latencyUsP50: at(0.5),
      latencyUsP99: at(0.99),
      clientCpuSeconds: (user + system) / 1e6,
    };
  }

  fail(error: Error): void {
    this.#done(error);
  }

  #measure(): void {
    this.#measuring = true;
    this.#cpuBefore = process.cpuUsage();
    process.stdout.write("begin\n");
    const { until, kind, seconds } = this.#plan;
    const opsMax = until === "once" ? this.#blocks : typeof until === "number" ? until : Number.POSITIVE_INFINITY;
    this.#begin(readShareOf[kind], until === "timed" ? seconds * 1000 : Number.POSITIVE_INFINITY, opsMax);
  }

  /** A phase, from an empty pipeline to an empty pipeline. */
  #begin(readShare: number, ms: number, opsMax: number): void {
    this.#readShare = readShare;
    this.#ops = 0;
    this.#issued = 0;
    this.#issuesMax = opsMax;
    this.#beganAt = performance.now();
    this.#endsAt = this.#beganAt + ms;
    this.#now = this.#beganAt;
    for (const [index, lane] of this.#lanes.entries()) {
      // Sequential lanes share the volume out among themselves.
      lane.nextBlock = Math.floor((this.#blocks * index) / this.#lanes.length);
      for (let slot = 0; slot < this.#plan.depth && this.#issued < opsMax; slot++) this.#issue(lane, slot);
      lane.client.push();
    }
    this.#now = 0;
  }

  #draw(): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return this.#state >>> 0;
  }

  completed(lane: Lane, slot: number): void {
    if (this.#now === 0) this.#now = performance.now();
    if (this.#ops < latenciesKept) this.#latencies[this.#ops] = this.#now - lane.startedAt[slot]!;
    this.#ops++;
    this.#inFlight--;
    if (this.#now < this.#endsAt && this.#issued < this.#issuesMax) this.#issue(lane, slot);
  }

  handled(lane: Lane): void {
    this.#now = 0;
    lane.client.push();
    if (this.#inFlight > 0) return;
    if (this.#measuring) this.#done(null);
    else this.#measure();
  }

  #issue(lane: Lane, slot: number): void {
    const block = (this.#isRandom ? this.#draw() : lane.nextBlock++) % this.#blocks;
    const share = this.#readShare;
    const isWrite = share === 0 || (share < 1 && this.#draw() >= share * 4294967296);
    this.#issued++;
    this.#inFlight++;
    lane.startedAt[slot] = this.#now;
    lane.client.issue(slot, isWrite, block * this.#plan.blockBytes);
  }
}

const load: Load = new Load(parsePlan(process.argv[2] ?? "{}"), (error) => {
  if (error !== null) {
    process.stderr.write(`${error.message}\n`);
    process.exit(1);
  }
  process.stdout.write(`${JSON.stringify(load.result())}\n`);
  process.exit(0);
});
load.start().catch((error: unknown) => {
  process.stderr.write(`${String(error)}\n`);
  process.exit(1);
});
