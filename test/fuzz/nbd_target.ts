/**
 * The NBD front end as a target of the fuzzer: a server with a volume of every temper, a quiet host beside the mutated one, and
 * limits small enough to be reached.
 *
 * After every case must hold: nothing was thrown; the conversation was one that the specification allows (`nbd_conversation.ts`);
 * the quiet host reads what it wrote; a session that has ended holds no memory, no timer and no target; what all sessions hold
 * stays within the stated bound.
 */
import type { NbdLimits } from "../../firmware/frontend/nbd/limits.ts";
import type { TlsUse } from "../../firmware/frontend/nbd/negotiation.ts";
import { NbdServer } from "../../firmware/frontend/nbd/server.ts";
import type { BlockError, BlockTarget, ExportInfo } from "../../firmware/volume/block_request.ts";
import type { HostIdentity } from "../../firmware/volume/host_access.ts";
import { Prng } from "../../hal/mock/prng.ts";
import { ManualClock } from "../unit/support/manual_clock.ts";
import { MemoryExports, MemoryVolume } from "../unit/support/memory_target.ts";
import { bytesOf, command, goData, HostStream, option } from "../unit/support/nbd_host.ts";
import { Conversation } from "./nbd_conversation.ts";
import { nbdCorpus } from "./nbd_corpus.ts";
import { playLive } from "./nbd_live.ts";
import type { CaseReport, FuzzCase, FuzzTarget, Script } from "./target.ts";

const volumeBytes = 131_072;
const quietRemote = "198.51.100.1";

const limits: Partial<NbdLimits> = {
  failedLoginsMax: 1_000_000_000,
  optionsMax: 24,
  optionDataBytesMax: 8192,
  optionSkipBytesMax: 65_536,
  requestBytesMax: 65_536,
  requestsInFlightMax: 8,
  sessionBytesMax: 131_072,
  guaranteedBytes: 16_384,
  sharedBytesMax: 262_144,
  outputBacklogBytes: 65_536,
  extentsMax: 8,
};
/** Reply headers may go beyond the grant: so many in flight, so many bytes each. */
const headersBytesMax = 65_536;

/** The quiet host's volume is seen by nobody else. */
class GuardedExports extends MemoryExports {
  override list(host: HostIdentity): ExportInfo[] {
    const quiet = host.remote === quietRemote;
    return super.list(host).filter((info) => (info.name === "quiet") === quiet);
  }

  override open(name: string, host: HostIdentity): BlockTarget | "unknown" | "not-ready" {
    if ((name === "quiet") !== (host.remote === quietRemote)) return "unknown";
    return super.open(name, host);
  }
}

class Bench {
  readonly clock = new ManualClock();
  readonly exports = new GuardedExports();
  readonly volume: MemoryVolume;
  readonly golden: MemoryVolume;
  readonly server: NbdServer;
  codes: string[] = [];
  readonly #quiet: HostStream;
  #stamp = 0;

  constructor(tls: TlsUse) {
    this.volume = this.exports.add(new MemoryVolume("demo-1", volumeBytes, null, "fuzzed"));
    this.golden = this.exports.add(new MemoryVolume("golden", volumeBytes, null, "read-only"));
    this.golden.readOnly = true;
    this.exports.add(new MemoryVolume("quiet", 4096, null));
    for (const volume of this.exports.volumes.values()) volume.recording = false;
    const events = { emit: (code: string) => void this.codes.push(code) };
    this.server = new NbdServer({ clock: this.clock, exports: this.exports, events, limits, tls });
    this.#quiet = this.connect(quietRemote);
    this.#quiet.send(bytesOf({ u32: 3 }));
    if (tls === "required") {
      this.#quiet.send(option(5));
      this.#quiet.secured({ ok: true, clientName: "quiet" });
    }
    this.#quiet.send(option(7, goData("quiet")));
    this.#quiet.takeAll();
  }

  connect(remote: string): HostStream {
    const stream = new HostStream(this.clock, remote);
    stream.handler = this.server.accept(stream);
    this.clock.runDeferred();
    return stream;
  }

  /** What is wrong with the quiet host's session; null: nothing. */
  quietTrouble(): string | null {
    const payload = new Uint8Array(512).fill(++this.#stamp & 255);
    this.#quiet.send(command({ command: 1, cookie: 1n, payload }), command({ command: 0, cookie: 2n, length: 512 }));
    const received = this.#quiet.takeAll();
    if (received.byteLength !== 16 + 16 + 512) return `the quiet host was answered ${received.byteLength} bytes`;
    return Buffer.compare(received.subarray(32), payload) === 0
      ? null
      : "the quiet host reads other bytes than it wrote";
  }
}

const blockErrors: readonly BlockError[] = ["read-only", "not-ready", "no-space", "medium-error", "closed"];

/** One mutated session on a bench. */
class Play {
  readonly #bench: Bench;
  readonly #prng: Prng;
  readonly #stream: HostStream;
  readonly #sent: Uint8Array[] = [];
  /** Something beyond the host's doing ends the session, or answers come with errors of the volume. */
  #trouble: string | null = null;

  constructor(bench: Bench, scenarioSeed: number) {
    this.#bench = bench;
    this.#prng = new Prng(scenarioSeed, "fuzz scenario");
    const { volume } = bench;
    const prng = this.#prng;
    volume.cold = prng.chance(0.3);
    volume.gate = prng.chance(0.3);
    volume.ready = !prng.chance(0.03);
    volume.failing.clear();
    if (prng.chance(0.1)) volume.failing.set(prng.chance(0.5) ? "read" : "write", blockErrors[prng.below(5)]!);
    bench.codes = [];
    this.#stream = bench.connect("192.0.2.7");
    if (prng.chance(0.3)) this.#stream.roomBytes = prng.below(4096);
  }

  run(script: Script): CaseReport {
    for (const message of script) {
      if (this.#stream.state !== "open") break;
      this.#deliver(message);
      this.#meanwhile();
    }
    this.#settle();
    const { sent, received } = { sent: Buffer.concat(this.#sent), received: this.#stream.received };
    const ended = this.#stream.state !== "open";
    const conversation = new Conversation({ sent, received, ended, settled: true, payloadBytesMax: 65_536 });
    const reached = [...conversation.reached];
    const events = this.#bench.codes.map((code) => `event ${code}`);
    reached.push(...events, `${conversation.lastWord}, then ${events.join(", ")} ${this.#stream.state}`);
    return { reached, finding: conversation.finding ?? this.#leave() };
  }

  #deliver(message: Uint8Array): void {
    const prng = this.#prng;
    const pieceCount = prng.chance(0.7) ? 1 : 1 + prng.below(6);
    let at = 0;
    for (let index = 1; index <= pieceCount && at < message.byteLength; index++) {
      const end = index === pieceCount ? message.byteLength : at + prng.below(message.byteLength - at + 1);
      if (end === at) continue;
      const piece = message.subarray(at, end);
      this.#sent.push(piece);
      this.#stream.send(piece);
      at = end;
    }
  }

  /** What the world does between two messages. */
  #meanwhile(): void {
    const prng = this.#prng;
    const { volume, clock, server } = this.#bench;
    if (this.#stream.handshake !== null) {
      const ok = prng.chance(0.9);
      this.#stream.secured(ok ? { ok, clientName: "fuzz" } : { ok, reason: "refused" });
    }
    if (volume.gate && prng.chance(0.5)) volume.release(1 + prng.below(3));
    if (prng.chance(0.3)) this.#stream.drain(prng.below(65_536));
    if (prng.chance(0.01)) volume.end("role change");
    if (prng.chance(0.01)) volume.readOnly = !volume.readOnly;
    if (prng.chance(0.005)) clock.pass(15_001);
    clock.runDeferred();
    const mostBytes = limits.sharedBytesMax! + headersBytesMax;
    if (server.sharedBytes > mostBytes)
      this.#trouble = `sessions hold ${server.sharedBytes} bytes, ${mostBytes} allowed`;
  }

  /** Everything that can complete does, and the host reads all of it. */
  #settle(): void {
    const { volume, clock } = this.#bench;
    volume.gate = false;
    for (let quietRounds = 0; quietRounds < 3; ) {
      const before = this.#stream.received.byteLength;
      const waiting = volume.waiting.length;
      volume.release();
      if (this.#stream.state === "open" || this.#stream.state === "ended") this.#stream.drain(Number.POSITIVE_INFINITY);
      clock.pass(1);
      const moved = this.#stream.received.byteLength !== before || waiting > 0;
      quietRounds = moved ? 0 : quietRounds + 1;
    }
    if (this.#stream.unread > 0 && this.#stream.state === "open")
      this.#trouble ??= "input waits though nothing is under way";
  }

  /** The host goes; what is wrong then, or was before. */
  #leave(): string | null {
    const { server, clock, volume, golden } = this.#bench;
    if (this.#stream.state === "open") {
      this.#stream.handler.onEnd();
      this.#settle();
      if (this.#stream.state === "open" && this.#stream.handshake === null)
        this.#trouble ??= "the session outlives its host";
    }
    this.#stream.close();
    volume.release();
    clock.pass(1);
    volume.readOnly = false;
    if (server.sessionCount !== 1) this.#trouble ??= `${server.sessionCount} sessions are left`;
    if (server.sharedBytes !== 0) this.#trouble ??= `${server.sharedBytes} shared bytes are left`;
    if (clock.timerCount !== 0) this.#trouble ??= `${clock.timerCount} timers are left`;
    if (volume.targets.size + golden.targets.size !== 0) this.#trouble ??= "a target is left open";
    return this.#trouble ?? this.#bench.quietTrouble();
  }
}

export class NbdFuzzTarget implements FuzzTarget {
  readonly name = "nbd";
  readonly numbers: readonly bigint[] = [
    ...[0n, 1n, 2n, 4n, 5n, 7n, 8n, 11n, 16n, 32n, 512n, 4096n, 8192n, 65_536n, 131_072n, 262_144n],
    ...[2n ** 15n, 2n ** 16n, 2n ** 25n, 2n ** 31n, 2n ** 32n, 2n ** 53n, 2n ** 63n, 2n ** 64n, 2n ** 64n - 512n],
    ...[0x4e42444d41474943n, 0x49484156454f5054n, 0x25609513n, 0x21e41c71n, 0x67446698n, 0x668e33efn, 0x6e8a278cn],
  ];
  readonly #volume: string;
  #benches: Record<TlsUse, Bench> | null = null;

  constructor(volume = "demo-1") {
    this.#volume = volume;
  }

  corpus(): readonly Script[] {
    return nbdCorpus(this.#volume);
  }

  runCase({ script, scenarioSeed }: FuzzCase): CaseReport {
    this.#benches ??= { off: new Bench("off"), optional: new Bench("optional"), required: new Bench("required") };
    const tls = (["off", "optional", "required"] as const)[scenarioSeed % 3]!;
    try {
      const report = new Play(this.#benches[tls], scenarioSeed).run(script);
      // A bench that has shown a fault may be damaged: the next case gets a fresh one.
      if (report.finding !== null) this.#benches = null;
      return report;
    } catch (error) {
      this.#benches = null;
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      return { reached: [], finding: `thrown: ${text}` };
    }
  }

  runAt(at: string, volume: string, fuzzCase: FuzzCase): Promise<CaseReport> {
    return playLive(at, volume, fuzzCase);
  }
}
