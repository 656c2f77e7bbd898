/**
 * The iSCSI front end as a target of the fuzzer: a server over a device server of every temper, a quiet initiator beside the mutated
 * one, and limits small enough to be reached.
 *
 * After every case must hold: nothing was thrown (the device server of the bench asserts its contract); what was answered are whole
 * PDUs of a target, StatSN without a gap, ExpCmdSN and MaxCmdSN never going back; the quiet initiator reads what it wrote; a session
 * that has ended holds no memory, no timer and no task; what all sessions hold stays within the stated bound.
 */
import type { IscsiLimits } from "../../firmware/frontend/iscsi/limits.ts";
import type { BlockError } from "../../firmware/volume/block_request.ts";
import type { HostIdentity } from "../../firmware/volume/host_access.ts";
import { Prng } from "../../hal/mock/prng.ts";
import { IscsiBench, read10, targetName, write10 } from "../unit/support/iscsi_bench.ts";
import type { Initiator } from "../unit/support/iscsi_initiator.ts";
import type { HostStream } from "../unit/support/nbd_host.ts";
import { judgeAnswers } from "./iscsi_conversation.ts";
import { iscsiCorpus } from "./iscsi_corpus.ts";
import { playLive } from "./iscsi_live.ts";
import type { CaseReport, FuzzCase, FuzzTarget, Script } from "./target.ts";

const KiB = 1024;
const volumeBytes = 128 * KiB;
const quietRemote = "198.51.100.1:1";
/** Its own block: nobody else writes there often enough to matter, and it writes before it reads, in one event. */
const quietLba = 255;

const limits: Partial<IscsiLimits> = {
  loginRequestsMax: 12,
  keysMax: 24,
  failedLoginsMax: 1_000_000,
  receiveSegmentBytesMax: 16 * KiB,
  burstBytesMax: 16 * KiB,
  firstBurstBytesMax: 8 * KiB,
  tasksMax: 8,
  immediateTasksMax: 2,
  writeBytesMax: 64 * KiB,
  sessionBytesMax: 128 * KiB,
  guaranteedBytes: 16 * KiB,
  sharedBytesMax: 256 * KiB,
  outputBacklogBytes: 32 * KiB,
};
/** Replies may go beyond the grant: twice the backlog, and a PDU. */
const repliesBytesMax = 128 * KiB;

class Bench extends IscsiBench {
  #quiet: { stream: HostStream; initiator: Initiator };
  #stamp = 0;

  constructor() {
    super(limits, volumeBytes);
    this.volume.recording = false;
    this.#quiet = this.#connectQuiet();
  }

  #connectQuiet(): { stream: HostStream; initiator: Initiator } {
    const quiet = this.connect(quietRemote);
    quiet.initiator.login({ InitiatorName: "iqn.2026-11.test:quiet", TargetName: targetName });
    return quiet;
  }

  override required(host: HostIdentity): ReturnType<IscsiBench["required"]> {
    return host.remote === quietRemote ? "open" : this.access;
  }

  /** A sign of life: without one, two looks and it is dead. */
  quietSpeaks(): void {
    if (this.#quiet.stream.state === "open") this.#quiet.initiator.nop("", { itt: 0xffffffff, immediate: true });
  }

  /** What is wrong with the quiet initiator's session; null: nothing. */
  quietTrouble(): string | null {
    const data = new Uint8Array(512).fill(++this.#stamp & 255);
    // A TARGET COLD RESET ends all sessions, and says so.
    if (this.#quiet.stream.state !== "open") {
      const last = this.#quiet.initiator.answers().at(-1);
      if (last?.opcode !== 0x32 || last.u8(36) !== 3) return "the quiet initiator's session has ended";
      this.#quiet.stream.close();
      this.#quiet = this.#connectQuiet();
    }
    const quiet = this.#quiet.initiator;
    quiet.command({ cdb: write10(quietLba, 1), write: true, data });
    quiet.command({ cdb: read10(quietLba, 1), read: true, expected: 512 });
    const answers = quiet.answers().filter(({ itt }) => itt !== 0xffffffff);
    if (answers.length !== 2) return `the quiet initiator was answered ${answers.length} times`;
    return Buffer.compare(answers[1]!.data, data) === 0 ? null : "the quiet initiator reads other bytes than it wrote";
  }
}

const blockErrors: readonly BlockError[] = ["read-only", "not-ready", "no-space", "medium-error", "closed"];

/** One mutated session on a bench. */
class Play {
  readonly #bench: Bench;
  readonly #prng: Prng;
  readonly #stream: HostStream;
  readonly #nexusesBefore: number;
  #trouble: string | null = null;

  constructor(bench: Bench, scenarioSeed: number) {
    this.#bench = bench;
    this.#prng = new Prng(scenarioSeed, "fuzz scenario");
    const { volume } = bench;
    const prng = this.#prng;
    volume.cold = prng.chance(0.3);
    volume.gate = prng.chance(0.3);
    volume.failing.clear();
    if (prng.chance(0.1)) volume.failing.set(prng.chance(0.5) ? "read" : "write", blockErrors[prng.below(5)]!);
    bench.access = prng.chance(0.1) ? { user: "one", secret: new Uint8Array(16).fill(1) } : "open";
    bench.events.length = 0;
    this.#nexusesBefore = bench.nexuses.length;
    this.#stream = bench.connect("192.0.2.7:5").stream;
    if (prng.chance(0.3)) this.#stream.roomBytes = prng.below(4096);
  }

  run(script: Script): CaseReport {
    for (const message of script) {
      if (this.#stream.state !== "open") break;
      this.#deliver(message);
      this.#meanwhile();
    }
    this.#settle();
    const { reached, finding } = judgeAnswers(this.#stream.received, this.#stream.state === "aborted");
    this.#trouble ??= finding;
    for (const code of this.#bench.codes()) reached.push(`event ${code} ${this.#stream.state}`);
    return { reached, finding: this.#trouble ?? this.#leave() };
  }

  #deliver(message: Uint8Array): void {
    const prng = this.#prng;
    const pieceCount = prng.chance(0.7) ? 1 : 1 + prng.below(6);
    let at = 0;
    for (let index = 1; index <= pieceCount && at < message.byteLength; index++) {
      const end = index === pieceCount ? message.byteLength : at + prng.below(message.byteLength - at + 1);
      if (end === at) continue;
      this.#stream.send(message.subarray(at, end));
      at = end;
    }
  }

  /** What the world does between two messages. */
  #meanwhile(): void {
    const prng = this.#prng;
    const { volume, clock, server } = this.#bench;
    const nexus = this.#nexus;
    if (volume.gate && prng.chance(0.5)) volume.release(1 + prng.below(3));
    if (prng.chance(0.3)) this.#stream.drain(prng.below(65_536));
    if (nexus !== null && !nexus.closed) {
      if (prng.chance(0.1)) nexus.hold = !nexus.hold;
      if (!nexus.hold && nexus.held.length > 0) nexus.release();
      if (prng.chance(0.01)) nexus.host.attention();
      if (prng.chance(0.005)) nexus.host.nexusEnded("role change");
    }
    if (prng.chance(0.01)) {
      clock.pass(15_001);
      this.#bench.quietSpeaks();
    }
    clock.runDeferred();
    const mostBytes = limits.sharedBytesMax! + repliesBytesMax;
    if (server.sharedBytes > mostBytes) {
      this.#trouble = `sessions hold ${server.sharedBytes} bytes, ${mostBytes} allowed`;
    }
  }

  get #nexus() {
    return this.#bench.nexuses.length > this.#nexusesBefore ? this.#bench.nexuses.at(-1)! : null;
  }

  /** Everything that can complete does, and the host reads all of it. */
  #settle(): void {
    const { volume, clock } = this.#bench;
    volume.gate = false;
    const nexus = this.#nexus;
    if (nexus !== null) nexus.hold = false;
    for (let quietRounds = 0; quietRounds < 3; ) {
      const before = this.#stream.received.byteLength;
      const waiting = volume.waiting.length;
      volume.release();
      if (nexus !== null && !nexus.closed) nexus.release();
      if (this.#stream.state !== "aborted") this.#stream.drain(Number.POSITIVE_INFINITY);
      clock.pass(1);
      const moved = this.#stream.received.byteLength !== before || waiting > 0;
      quietRounds = moved ? 0 : quietRounds + 1;
    }
    if (this.#stream.unread > 0 && this.#stream.state === "open") {
      this.#trouble ??= "input waits though nothing is under way";
    }
  }

  /** The host goes; what is wrong then, or was before. */
  #leave(): string | null {
    const { server, clock, volume } = this.#bench;
    if (this.#stream.state === "open") {
      this.#stream.handler.onEnd();
      this.#settle();
      if ((this.#stream.state as string) === "open") this.#trouble ??= "the session outlives its host";
    }
    this.#stream.close();
    volume.release();
    clock.pass(1);
    const nexus = this.#nexus;
    const tasks = nexus?.tasks.size ?? 0;
    volume.failing.clear();
    volume.cold = false;
    const quietTrouble = this.#bench.quietTrouble();
    if (tasks !== 0) this.#trouble ??= `${tasks} tasks are left`;
    if (nexus?.closed === false) this.#trouble ??= "the nexus is left open";
    if (server.sessionCount !== 1) this.#trouble ??= `${server.sessionCount} sessions are left`;
    if (server.sharedBytes !== 0) this.#trouble ??= `${server.sharedBytes} shared bytes are left`;
    // The quiet initiator's look for life.
    if (clock.timerCount !== 1) this.#trouble ??= `${clock.timerCount} timers are left`;
    this.#bench.nexuses.length = 0;
    return quietTrouble ?? this.#trouble;
  }
}

export class IscsiFuzzTarget implements FuzzTarget {
  readonly name = "iscsi";
  readonly numbers: readonly bigint[] = [
    ...[0n, 1n, 2n, 3n, 4n, 5n, 7n, 8n, 16n, 48n, 63n, 128n, 255n, 512n, 2048n, 4096n, 8192n, 16_384n, 65_536n],
    ...[0x87n, 0x83n, 0xa1n, 0xc1n, 0x43n, 0x3fn, 0x28n, 0x2an, 2n ** 16n, 2n ** 24n, 2n ** 31n, 2n ** 32n, 2n ** 64n],
  ];
  readonly #targetName: string;
  #bench: Bench | null = null;

  /** The target that the recorded sessions name. */
  constructor(name = targetName) {
    this.#targetName = name;
  }

  corpus(): readonly Script[] {
    return iscsiCorpus(this.#targetName);
  }

  runCase({ script, scenarioSeed }: FuzzCase): CaseReport {
    // Time adds up, and with it the silence of the quiet initiator: it speaks after every case.
    this.#bench ??= new Bench();
    try {
      const report = new Play(this.#bench, scenarioSeed).run(script);
      // A bench that has shown a fault may be damaged: the next case gets a fresh one.
      if (report.finding !== null) this.#bench = null;
      return report;
    } catch (error) {
      this.#bench = null;
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      return { reached: [], finding: `thrown: ${text}` };
    }
  }

  runAt(at: string, volume: string, fuzzCase: FuzzCase): Promise<CaseReport> {
    return playLive(at, volume, fuzzCase);
  }
}
