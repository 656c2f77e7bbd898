/**
 * A lean NBD load generator: one connection, a fixed depth, simple replies, no verification. Run as a process of its own; what it
 * costs is in its result, so that a reader can see whether client or server was the limit.
 *
 * Arguments: HOST:PORT/NAME, `randread|randwrite|read|write`, block bytes, depth, seconds, size in bytes (`0`: the whole export),
 * and until when: `timed`, `once` (one pass over the size), `endless` or a number of operations. Prints `begin`, then its result as
 * JSON.
 *
 * Before it measures it reads for `warmUpMs` (not for `once` and `endless`), so that a short burst does not measure the start of a
 * process.
 *
 * All requests that become due in one event go out in one write, as every good client does it.
 */

interface Plan {
  readonly host: string;
  readonly port: number;
  readonly name: string;
  readonly work: string;
  readonly blockBytes: number;
  readonly depth: number;
  readonly seconds: number;
  readonly sizeBytes: number;
  readonly warmUp: boolean;
  /** Infinity: until the time is up; NaN: one pass. */
  readonly opsMax: number;
}

const warmUpMs = 300;

function parsePlan(args: readonly string[]): Plan {
  const match = /^(.+):(\d+)\/(.*)$/.exec(args[0] ?? "");
  const [work, blockBytes, depth, seconds, sizeBytes] = [args[1] ?? "", ...args.slice(2, 6).map(Number)];
  if (match === null || !["randread", "randwrite", "read", "write"].includes(work))
    throw new Error("usage: see the source");
  return {
    host: match[1]!,
    port: Number(match[2]),
    name: match[3]!,
    work,
    blockBytes: blockBytes ?? 4096,
    depth: depth ?? 1,
    seconds: seconds ?? 1,
    sizeBytes: sizeBytes ?? 0,
    warmUp: args[6] !== "once" && args[6] !== "endless",
    opsMax: args[6] === "once" ? Number.NaN : Number(args[6] ?? "") || Number.POSITIVE_INFINITY,
  };
}

/** Messages up to this size are gathered into one write; larger ones go out one by one from buffers of their own. */
const gatheredBytesMax = 65536;

class Load {
  private readonly plan: Plan;
  private readonly writes: boolean;
  private writing = false;
  private readonly random: boolean;
  /** Header, and room for the payload of a write. */
  private readonly messageBytesMax: number;
  private readonly messages: Uint8Array[] = [];
  private readonly startedAt: Float64Array;
  private readonly latencies: Float32Array = new Float32Array(1 << 22);
  private blocks = 0;
  private nextBlock = 0;
  private measuring = false;
  private cpuBefore = process.cpuUsage();
  private messageBytes = 28;
  private issued = 0;
  private issuesMax = 0;
  private ops = 0;
  private inFlight = 0;
  private beganAt = 0;
  private endsAt = 0;
  private state = 0x9e3779b9;

  private socket!: Bun.Socket<undefined>;
  private readonly gather: Uint8Array;
  private gatherStart = 0;
  private gatherEnd = 0;
  private readonly queue: number[] = [];
  private queueOffset = 0;

  /** Bytes of handshake reply still expected; then replies. */
  private greeting: number[] | null = [];
  private readonly head = new Uint8Array(16);
  private headFilled = 0;
  private payloadLeft = 0;
  private slot = 0;
  private readonly done: (error: Error | null) => void;

  constructor(plan: Plan, done: (error: Error | null) => void) {
    this.plan = plan;
    this.done = done;
    this.writes = plan.work.endsWith("write");
    this.random = plan.work.startsWith("rand");
    this.messageBytesMax = 28 + (this.writes ? plan.blockBytes : 0);
    this.startedAt = new Float64Array(plan.depth);
    for (let slot = 0; slot < plan.depth; slot++) {
      const message = new Uint8Array(this.messageBytesMax);
      for (let at = 28; at < message.byteLength; at++) message[at] = this.draw() >>> 24;
      const view = new DataView(message.buffer);
      view.setUint32(0, 0x25609513);
      view.setUint32(12, slot);
      view.setUint32(24, plan.blockBytes);
      this.messages.push(message);
    }
    this.gather = new Uint8Array(this.messageBytesMax <= gatheredBytesMax ? this.messageBytesMax * plan.depth : 0);
  }

  async connect(): Promise<void> {
    this.socket = await Bun.connect({
      hostname: this.plan.host,
      port: this.plan.port,
      socket: {
        data: (_, chunk) => this.data(chunk),
        drain: () => this.push(),
        close: () => this.done(new Error("the server closed the connection")),
        error: (_, error) => this.done(error),
      },
    });
    const name = new TextEncoder().encode(this.plan.name);
    const hello = new Uint8Array(4 + 16 + name.byteLength);
    const view = new DataView(hello.buffer);
    view.setUint32(0, 3);
    view.setUint32(4, 0x49484156);
    view.setUint32(8, 0x454f5054);
    view.setUint32(12, 1);
    view.setUint32(16, name.byteLength);
    hello.set(name, 20);
    this.socket.write(hello);
  }

  result(): object {
    const seconds = (performance.now() - this.beganAt) / 1000;
    const sorted = this.latencies.slice(0, Math.min(this.ops, this.latencies.length)).sort();
    const at = (share: number) =>
      Math.round(1000 * (sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0));
    const { user, system } = process.cpuUsage(this.cpuBefore);
    return {
      ops: this.ops,
      seconds,
      iops: this.ops / seconds,
      bytesPerSecond: (this.ops * this.plan.blockBytes) / seconds,
      latencyUsP50: at(0.5),
      latencyUsP99: at(0.99),
      clientCpuSeconds: (user + system) / 1e6,
    };
  }

  private draw(): number {
    this.state ^= this.state << 13;
    this.state ^= this.state >>> 17;
    this.state ^= this.state << 5;
    return this.state >>> 0;
  }

  /** Greeting 18 bytes, then size 8 and flags 2. */
  private greet(chunk: Uint8Array): void {
    const seen = this.greeting!;
    for (const byte of chunk) seen.push(byte);
    if (seen.length < 28) return;
    const size = Number(new DataView(new Uint8Array(seen).buffer).getBigUint64(18));
    const usable = this.plan.sizeBytes === 0 ? size : Math.min(size, this.plan.sizeBytes);
    this.blocks = Math.floor(usable / this.plan.blockBytes);
    this.greeting = null;
    if (this.plan.warmUp) this.begin(false, warmUpMs, Number.POSITIVE_INFINITY);
    else this.measure();
  }

  private measure(): void {
    this.measuring = true;
    this.cpuBefore = process.cpuUsage();
    process.stdout.write("begin\n");
    const opsMax = Number.isNaN(this.plan.opsMax) ? this.blocks : this.plan.opsMax;
    const timed = opsMax === Number.POSITIVE_INFINITY;
    this.begin(this.writes, timed ? this.plan.seconds * 1000 : Number.POSITIVE_INFINITY, opsMax);
  }

  /** A phase, from an empty pipeline to an empty pipeline. */
  private begin(writing: boolean, ms: number, opsMax: number): void {
    this.writing = writing;
    this.messageBytes = writing ? this.messageBytesMax : 28;
    this.ops = 0;
    this.issued = 0;
    this.nextBlock = 0;
    this.issuesMax = opsMax;
    for (const message of this.messages) message[7] = writing ? 1 : 0;
    this.beganAt = performance.now();
    this.endsAt = this.beganAt + ms;
    for (let slot = 0; slot < this.plan.depth && this.issued < opsMax; slot++) this.issue(slot, this.beganAt);
    this.push();
  }

  private data(chunk: Uint8Array): void {
    if (this.greeting !== null) {
      this.greet(chunk);
      return;
    }
    const now = performance.now();
    let at = 0;
    while (at < chunk.byteLength) {
      if (this.payloadLeft === 0) {
        const take = Math.min(16 - this.headFilled, chunk.byteLength - at);
        for (let index = 0; index < take; index++) this.head[this.headFilled + index] = chunk[at + index]!;
        this.headFilled += take;
        at += take;
        if (this.headFilled < 16) break;
        this.headFilled = 0;
        const error = this.head[7]!;
        if (error !== 0) return this.done(new Error(`error ${error}`));
        this.slot = (this.head[14]! << 8) | this.head[15]!;
        this.payloadLeft = this.writing ? 0 : this.plan.blockBytes;
      }
      const take = Math.min(this.payloadLeft, chunk.byteLength - at);
      this.payloadLeft -= take;
      at += take;
      if (this.payloadLeft === 0) this.replied(now);
    }
    if (this.inFlight > 0) this.push();
    else if (this.measuring) this.done(null);
    else this.measure();
  }

  private replied(now: number): void {
    if (this.ops < this.latencies.length) this.latencies[this.ops] = now - this.startedAt[this.slot]!;
    this.ops++;
    this.inFlight--;
    if (now < this.endsAt && this.issued < this.issuesMax) this.issue(this.slot, now);
  }

  private issue(slot: number, now: number): void {
    const block = this.random ? this.draw() % this.blocks : this.nextBlock % this.blocks;
    this.nextBlock++;
    this.issued++;
    const offset = block * this.plan.blockBytes;
    const message = this.messages[slot]!;
    this.startedAt[slot] = now;
    this.inFlight++;
    const high = Math.floor(offset / 4294967296);
    for (let index = 0; index < 4; index++) {
      message[16 + index] = high >>> (24 - 8 * index);
      message[20 + index] = offset >>> (24 - 8 * index);
    }
    if (this.gather.byteLength === 0) {
      this.queue.push(slot);
      return;
    }
    if (this.gatherEnd + this.messageBytes > this.gather.byteLength) {
      this.gather.copyWithin(0, this.gatherStart, this.gatherEnd);
      this.gatherEnd -= this.gatherStart;
      this.gatherStart = 0;
    }
    this.gather.set(
      this.messageBytes === message.byteLength ? message : message.subarray(0, this.messageBytes),
      this.gatherEnd,
    );
    this.gatherEnd += this.messageBytes;
  }

  private push(): void {
    if (this.gatherEnd > this.gatherStart) {
      this.gatherStart += this.socket.write(this.gather.subarray(this.gatherStart, this.gatherEnd));
      if (this.gatherStart === this.gatherEnd) {
        this.gatherStart = 0;
        this.gatherEnd = 0;
      }
    }
    while (this.queue.length > 0) {
      const message = this.messages[this.queue[0]!]!;
      this.queueOffset += this.socket.write(message.subarray(this.queueOffset, this.messageBytes));
      if (this.queueOffset < this.messageBytes) return;
      this.queueOffset = 0;
      this.queue.shift();
    }
  }
}

const load: Load = new Load(parsePlan(process.argv.slice(2)), (error) => {
  if (error !== null) {
    process.stderr.write(`${error.message}\n`);
    process.exit(1);
  }
  process.stdout.write(`${JSON.stringify(load.result())}\n`);
  process.exit(0);
});
load.connect().catch((error: unknown) => {
  process.stderr.write(`${String(error)}\n`);
  process.exit(1);
});
