/**
 * An iSCSI server over a device server that knows four commands, for tests of the transport alone.
 *
 * The fake device server: READ(10), WRITE(10) on a memory volume, TEST UNIT READY (0x00), INQUIRY (0x12: 36 bytes of 0x5a);
 * anything else is ILLEGAL REQUEST. LUN 0 exists. It notes what it was asked, and can hold tasks (`hold`) until released.
 */
import { createHash } from "node:crypto";
import type { IscsiLimits } from "../../../firmware/frontend/iscsi/limits.ts";
import type { ChapHashes } from "../../../firmware/frontend/iscsi/ports.ts";
import { IscsiServer } from "../../../firmware/frontend/iscsi/server.ts";
import type {
  DeviceServer,
  Nexus,
  NexusHost,
  NexusIdentity,
  TaskFunction,
  TaskFunctionOutcome,
} from "../../../firmware/frontend/scsi/device_server.ts";
import { ScsiStatus, type ScsiTask } from "../../../firmware/frontend/scsi/task.ts";
import type { BlockError, BlockRequest } from "../../../firmware/volume/block_request.ts";
import type { ChapCredentials, HostAuthority, HostIdentity } from "../../../firmware/volume/host_access.ts";
import type { Entropy } from "../../../hal/api/entropy.ts";
import { crc32c, Initiator } from "./iscsi_initiator.ts";
import { ManualClock } from "./manual_clock.ts";
import { MemoryTarget, MemoryVolume } from "./memory_target.ts";
import { HostStream } from "./nbd_host.ts";

export const targetName = "iqn.2026-11.test.goldcopy:oak";
export const initiatorName = "iqn.2026-11.test.host:one";
export const blockBytes = 512;

export const chapHashes: ChapHashes = {
  hash(algorithm, parts) {
    const hash = algorithm === "sha3-256" ? new Bun.CryptoHasher("sha3-256") : createHash(algorithm);
    for (const part of parts) hash.update(part);
    return new Uint8Array(hash.digest() as Buffer);
  },
};

export class FakeNexus implements Nexus {
  readonly identity: NexusIdentity;
  readonly host: NexusHost;
  readonly log: string[] = [];
  readonly held: ScsiTask[] = [];
  hold = false;
  /** Reads wait for their turn too. */
  holdReads = false;
  closed = false;
  /** In the task set: judged and not ended. */
  readonly tasks = new Set<ScsiTask>();
  private readonly executed = new Set<ScsiTask>();
  private readonly bench: IscsiBench;
  private managing: { done: (outcome: TaskFunctionOutcome) => void; waits: Set<ScsiTask> }[] = [];

  constructor(bench: IscsiBench, identity: NexusIdentity, host: NexusHost) {
    this.bench = bench;
    this.identity = identity;
    this.host = host;
  }

  judge(task: ScsiTask): "accepted" | "rejected" {
    this.alive();
    const opcode = task.cdb[0]!;
    this.log.push(`judge ${task.tag} 0x${opcode.toString(16)}`);
    if (task.lun[1] !== 0) return this.illegal(task, 0x2500);
    if (![0x00, 0x12, 0x28, 0x2a].includes(opcode)) return this.illegal(task, 0x2000);
    const { startLba, blockCount } = this.range(task);
    const isMedium = opcode === 0x28 || opcode === 0x2a;
    if (isMedium && startLba + blockCount > this.bench.target.blockCount()) return this.illegal(task, 0x2100);
    if (opcode === 0x2a) task.dataOutBytes = this.range(task).blockCount * blockBytes;
    this.tasks.add(task);
    return "accepted";
  }

  execute(task: ScsiTask): "done" | "reads" | "pending" {
    this.alive();
    if (!this.tasks.has(task)) throw new Error("executed out of its turn");
    this.log.push(`execute ${task.tag}`);
    this.executed.add(task);
    if (task.cdb[0] === 0x28 ? this.holdReads : this.hold) {
      this.held.push(task);
      return "pending";
    }
    return this.run(task);
  }

  /** Goes on with held tasks, oldest first. */
  release(): void {
    for (const task of this.held.splice(0)) {
      const outcome = this.run(task);
      if (outcome === "done") task.onDone(task);
      else if (outcome === "reads") task.onReads(task);
    }
  }

  private run(task: ScsiTask): "done" | "reads" | "pending" {
    switch (task.cdb[0]) {
      case 0x12:
        task.dataIn = new Uint8Array(36).fill(0x5a);
        task.dataInBytes = 36;
        break;
      case 0x28: {
        const { startLba, blockCount } = this.range(task);
        task.medium.target = this.bench.target;
        task.medium.startLba = startLba;
        task.medium.blockCount = blockCount;
        task.dataInBytes = blockCount * blockBytes;
        return "reads";
      }
      case 0x2a: {
        if (task.dataOut.reduce((sum, piece) => sum + piece.byteLength, 0) % blockBytes !== 0) {
          this.sense(task, 0x0b0c0d);
          break;
        }
        const request: BlockRequest = {
          kind: "write",
          startLba: this.range(task).startLba,
          payload: task.dataOut,
          blockCount: task.dataOut.reduce((sum, piece) => sum + piece.byteLength, 0) / blockBytes,
          target: new Uint8Array(0),
          keepAllocated: false,
          atomic: false,
          miscompareOffset: 0,
          extents: [],
          error: null,
          onDone: (done) => {
            task.aborted = this.closed || task.aborted;
            if (done.error !== null) this.sense(task, 0x030c00);
            this.ended(task);
            task.onDone(task);
          },
        };
        this.bench.target.submit(request);
        return "pending";
      }
    }
    this.ended(task);
    return "done";
  }

  readDone(task: ScsiTask, error: BlockError | null): void {
    if (!this.tasks.has(task)) throw new Error("readDone for a task that is not there");
    this.log.push(`readDone ${task.tag}`);
    if (error !== null) this.sense(task, 0x031100);
    this.ended(task);
  }

  drop(task: ScsiTask): void {
    this.alive();
    if (!this.tasks.has(task)) throw new Error("a task is dropped that is not there");
    this.log.push(`drop ${task.tag}`);
    this.ended(task);
  }

  manage(action: TaskFunction, lun: Uint8Array, tag: number, done: (outcome: TaskFunctionOutcome) => void): void {
    this.alive();
    this.log.push(`manage ${action} ${tag >>> 0}`);
    if (lun[1] !== 0) {
      done("lun-not-there");
      return;
    }
    const affected = [...this.tasks].filter((task) => action !== 1 || task.tag === tag);
    if (action === 1 && affected.length === 0) {
      done("task-not-there");
      return;
    }
    for (const task of affected) task.aborted = true;
    const waits = new Set(affected);
    this.managing.push({ done, waits });
    for (const task of affected) {
      const heldAt = this.held.indexOf(task);
      const before = !this.executed.has(task);
      if (heldAt < 0 && !before) continue;
      if (heldAt >= 0) this.held.splice(heldAt, 1);
      this.ended(task);
      task.onDone(task);
    }
    this.settle();
  }

  close(): void {
    this.alive();
    this.closed = true;
    this.log.push("close");
    for (const task of [...this.tasks]) {
      if (!this.executed.has(task)) this.tasks.delete(task);
    }
    for (const task of this.held.splice(0)) {
      task.aborted = true;
      this.ended(task);
      task.onDone(task);
    }
  }

  private ended(task: ScsiTask): void {
    this.tasks.delete(task);
    this.executed.delete(task);
    for (const { waits } of this.managing) waits.delete(task);
    this.settle();
  }

  private settle(): void {
    const over = this.managing.filter(({ waits }) => waits.size === 0);
    this.managing = this.managing.filter(({ waits }) => waits.size > 0);
    for (const { done } of over) done("complete");
  }

  private range(task: ScsiTask): { startLba: number; blockCount: number } {
    const view = new DataView(task.cdb.buffer, task.cdb.byteOffset);
    return { startLba: view.getUint32(2), blockCount: view.getUint16(7) };
  }

  private illegal(task: ScsiTask, code: number): "rejected" {
    this.sense(task, 0x050000 | code);
    return "rejected";
  }

  private sense(task: ScsiTask, sense: number): void {
    task.status = ScsiStatus.checkCondition;
    task.sense = new Uint8Array(18);
    task.sense.set([0x70, 0, sense >> 16, 0, 0, 0, 0, 10, 0, 0, 0, 0, (sense >> 8) & 255, sense & 255]);
  }

  private alive(): void {
    if (this.closed) throw new Error("the nexus is closed");
  }
}

export class IscsiBench implements DeviceServer, HostAuthority {
  readonly clock = new ManualClock();
  readonly volume: MemoryVolume;
  readonly target: MemoryTarget;
  readonly server: IscsiServer;
  readonly events: { code: string; text: string; fields: Readonly<Record<string, unknown>> }[] = [];
  readonly nexuses: FakeNexus[] = [];
  /** Who was last judged for a login. */
  asked: HostIdentity | null = null;
  access: "unknown" | "open" | ChapCredentials = "open";
  own: ChapCredentials | null = null;
  private random = 7;

  constructor(limits: Partial<IscsiLimits> = {}, sizeBytes = 4 << 20) {
    this.volume = new MemoryVolume("demo-1", sizeBytes, null);
    this.target = new MemoryTarget(this.volume);
    const entropy: Entropy = {
      fill: (target) => {
        for (let index = 0; index < target.byteLength; index++) {
          this.random = (Math.imul(this.random, 1664525) + 1013904223) >>> 0;
          target[index] = this.random >>> 24;
        }
        return target;
      },
    };
    this.server = new IscsiServer({
      clock: this.clock,
      entropy,
      digests: { crc32c },
      hashes: chapHashes,
      authority: this,
      deviceServer: this,
      events: { emit: (code, text, fields) => this.events.push({ code, text, fields: fields ?? {} }) },
      targetName,
      portals: () => ["192.0.2.1:3260", "[2001:db8::1]:3260"].map((address) => ({ address, portalGroup: 1 })),
      limits,
    });
  }

  required(host: HostIdentity): "unknown" | "open" | ChapCredentials {
    this.asked = host;
    return this.access;
  }

  attach(identity: NexusIdentity, host: NexusHost): Nexus {
    const nexus = new FakeNexus(this, identity, host);
    this.nexuses.push(nexus);
    return nexus;
  }

  get nexus(): FakeNexus {
    return this.nexuses.at(-1)!;
  }

  connect(remote = "192.0.2.7:40000", relativePort = 1): { stream: HostStream; initiator: Initiator } {
    const stream = new HostStream(this.clock, remote);
    stream.handler = this.server.accept(stream, relativePort);
    this.clock.runDeferred();
    return { stream, initiator: new Initiator(stream) };
  }

  /** In full feature, after a login of one request. */
  open(keys: Readonly<Record<string, string>> = {}, remote?: string): { stream: HostStream; initiator: Initiator } {
    const { stream, initiator } = this.connect(remote);
    const answer = initiator.login({ InitiatorName: initiatorName, TargetName: targetName, ...keys });
    if (answer.loginStatus !== 0 || (answer.flags & 0x83) !== 0x83) throw new Error(`login: ${answer.loginStatus}`);
    initiator.digests = {
      header: answer.keys["HeaderDigest"] === "CRC32C",
      data: answer.keys["DataDigest"] === "CRC32C",
    };
    return { stream, initiator };
  }

  codes(): string[] {
    return this.events.map((event) => event.code);
  }

  /** The reason of the last rejected login. */
  get reason(): unknown {
    return this.events.at(-1)?.fields["reason"];
  }
}

export function read10(lba: number, blocks: number): number[] {
  return [0x28, 0, lba >>> 24, (lba >>> 16) & 255, (lba >>> 8) & 255, lba & 255, 0, blocks >> 8, blocks & 255, 0];
}

export function write10(lba: number, blocks: number): number[] {
  return [0x2a, ...read10(lba, blocks).slice(1)];
}
