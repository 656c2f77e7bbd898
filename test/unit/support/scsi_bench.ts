/**
 * The device server over volumes in memory, driven task by task as a transport would: judge, execute, read what "reads".
 */
import type { Nexus, NexusHost, NexusIdentity } from "../../../firmware/frontend/scsi/device_server.ts";
import { TargetDevice } from "../../../firmware/frontend/scsi/target_device.ts";
import type { TargetPortGroup } from "../../../firmware/frontend/scsi/target_port_groups.ts";
import { type ScsiStatus, type ScsiTask, TaskAttribute } from "../../../firmware/frontend/scsi/task.ts";
import { type BlockRequest, type BlockTarget, logicalBlockBytes } from "../../../firmware/volume/block_request.ts";
import { ManualClock } from "./manual_clock.ts";
import { MemoryLuns, MemoryVolume } from "./memory_target.ts";

export const targetName = "iqn.2026-11.test.goldcopy:oak";
const empty = new Uint8Array(0);

const noTarget: BlockTarget = {
  name: "",
  lendsReads: false,
  blockCount: () => 0,
  readOnly: () => true,
  atomicBlocksMax: () => 0,
  tryRead: () => false,
  submit: () => {
    throw new Error("a task without a volume submits nothing");
  },
  onEnded: () => {},
  close: () => {},
};

/** A task and what became of it. */
export class BenchTask implements ScsiTask {
  lun = new Uint8Array(8);
  cdb = new Uint8Array(16);
  attribute: TaskAttribute = TaskAttribute.simple;
  tag = 0;
  dataOutBytesMax = 0;
  dataInBytesMax = 0xffffffff;
  dataOutBytes = 0;
  dataOut: Uint8Array[] = [];
  status: ScsiStatus = 0;
  sense: Uint8Array = empty;
  dataIn: Uint8Array = empty;
  dataInBytes = 0;
  medium = { target: noTarget, startLba: 0, blockCount: 0 };
  aborted = false;
  standing: unknown = null;
  onDone: (task: ScsiTask) => void = () => this.end();
  onReads: (task: ScsiTask) => void = () => this.readLater();
  /** The transport's part of a read that had to wait. */
  readLater: () => void = () => {};

  outcome: "rejected" | "accepted" | "done" | "reads" | "pending" = "accepted";
  ends = 0;

  end(): void {
    this.ends++;
    if (this.ends > 1) throw new Error("a task ends once");
  }

  get ended(): boolean {
    return this.ends === 1;
  }

  /** `0xKKAAQQ`; 0 without sense. Either format. */
  get senseCode(): number {
    const { sense } = this;
    if (sense.byteLength === 0) return 0;
    const isDescriptor = sense[0] === 0x72;
    const [key, asc, ascq] = isDescriptor ? [sense[1]!, sense[2]!, sense[3]!] : [sense[2]!, sense[12]!, sense[13]!];
    return (key << 16) | (asc << 8) | ascq;
  }

  /** The INFORMATION field of fixed sense data; null: not valid. */
  get information(): number | null {
    return (this.sense[0]! & 0x80) === 0 ? null : new DataView(this.sense.buffer).getUint32(3);
  }
}

export interface TaskOptions {
  readonly lun?: number;
  readonly data?: Uint8Array | readonly number[];
  /** Announced to be shorter or longer than `data`. */
  readonly announcedBytes?: number;
  readonly attribute?: TaskAttribute;
}

export class BenchNexus implements NexusHost {
  readonly nexus: Nexus;
  readonly endedWith: string[] = [];
  private readonly bench: ScsiBench;
  private tags = 0;

  constructor(bench: ScsiBench, identity: NexusIdentity) {
    this.bench = bench;
    this.nexus = bench.device.attach(identity, this);
  }

  nexusEnded(reason: string): void {
    this.endedWith.push(reason);
  }

  attention(): void {}

  /** Judges a task; its data has not landed. */
  judge(cdb: readonly number[], options: TaskOptions = {}): BenchTask {
    const task = new BenchTask();
    task.lun[1] = options.lun ?? 0;
    task.cdb.set(cdb);
    task.attribute = options.attribute ?? TaskAttribute.simple;
    task.tag = this.tags++;
    task.readLater = () => this.read(task);
    const data = Uint8Array.from(options.data ?? []);
    task.dataOutBytesMax = options.announcedBytes ?? data.byteLength;
    task.outcome = this.nexus.judge(task);
    if (task.outcome === "rejected") task.end();
    else {
      const kept = data.subarray(0, Math.min(task.dataOutBytes, task.dataOutBytesMax));
      // In two pieces, as a network brings it.
      const middle = kept.byteLength >> 1;
      if (kept.byteLength > 0) task.dataOut = [kept.subarray(0, middle), kept.subarray(middle)];
    }
    return task;
  }

  /** All of its data has landed. */
  execute(task: BenchTask): BenchTask {
    task.outcome = this.nexus.execute(task);
    if (task.outcome === "done") task.end();
    return task;
  }

  /** The transport's part of a read. */
  read(task: BenchTask): BenchTask {
    const { target, startLba, blockCount } = task.medium;
    const bytes = new Uint8Array(blockCount * logicalBlockBytes);
    const request: BlockRequest = {
      kind: "read",
      startLba,
      blockCount,
      payload: [],
      target: bytes,
      keepAllocated: false,
      atomic: false,
      miscompareOffset: 0,
      extents: [],
      error: null,
      onDone: ({ error }) => {
        if (error === null) task.dataIn = bytes;
        this.nexus.readDone(task, error);
        task.end();
      },
    };
    target.submit(request);
    return task;
  }

  /** From the header to the end, as far as nothing is held. */
  run(cdb: readonly number[], options: TaskOptions = {}): BenchTask {
    const task = this.judge(cdb, options);
    if (task.outcome === "rejected") return task;
    this.execute(task);
    if (task.outcome === "reads") this.read(task);
    this.bench.settle(() => task.ended);
    return task;
  }

  /** The unit attention that every new nexus finds has been told, and the units are open. */
  ready(): this {
    for (const [lun] of this.bench.luns.volumes.entries()) {
      this.run([0], { lun });
      this.run([0], { lun });
    }
    return this;
  }
}

export class ScsiBench {
  readonly clock = new ManualClock();
  readonly luns = new MemoryLuns();
  readonly kept = new Map<string, unknown>();
  /** As in a pair: also without APTPL. Counts from the next `start` on. */
  keepsAll = false;
  /** What the shelf says to the next saves; null: it keeps them. */
  saveError: string | null = null;
  /** What `device.portGroupsChanged` finds. */
  portGroups: readonly TargetPortGroup[] = [{ id: 1, state: "active-optimized", preferred: false, ports: [1, 2] }];
  device: TargetDevice;

  constructor(volumes = 1, sizeBytes = 8 << 20) {
    for (let index = 0; index < volumes; index++) this.luns.add(new MemoryVolume(`v${index}`, sizeBytes, null));
    this.device = this.start();
  }

  /** An appliance starts: what was not kept on the shelf is gone. */
  start(): TargetDevice {
    this.device = new TargetDevice({
      clock: this.clock,
      luns: this.luns,
      reservations: {
        keepsAll: this.keepsAll,
        load: (uuid) => this.kept.get(uuid),
        save: (uuid, document, done) => {
          const error = this.saveError;
          this.clock.defer(() => {
            if (error === null) {
              if (document === undefined) this.kept.delete(uuid);
              else this.kept.set(uuid, document);
            }
            done(error);
          });
        },
      },
      targetName,
      portGroups: () => this.portGroups,
    });
    return this.device;
  }

  get volume(): MemoryVolume {
    return this.luns.volumes[0]!;
  }

  /** `name` a, b, c, ...: the initiator port. */
  nexus(name: string, relativePort = 1): BenchNexus {
    const iqn = `iqn.2026-11.test.host:${name}`;
    return new BenchNexus(this, {
      host: { remote: "192.0.2.1:40000", iqn, tlsName: null },
      initiatorPort: portOf(name),
      portalGroup: 1,
      relativePort,
    });
  }

  /** Lets time pass until `condition`, or until nothing is left to happen. */
  settle(condition: () => boolean = () => false): void {
    this.clock.runDeferred();
    while (!condition() && this.clock.timerCount > 0) this.clock.step();
  }
}

export function portOf(name: string): string {
  return `iqn.2026-11.test.host:${name},i,0x00023d000001`;
}

// -------------------------------------------------------------------- CDBs and parameter lists

export function be(value: number, bytes: number): number[] {
  return Array.from({ length: bytes }, (_, index) => Math.floor(value / 256 ** (bytes - 1 - index)) % 256);
}

export const cdb = {
  read10: (lba: number, blocks: number) => [0x28, 0, ...be(lba, 4), 0, ...be(blocks, 2), 0],
  write10: (lba: number, blocks: number) => [0x2a, 0, ...be(lba, 4), 0, ...be(blocks, 2), 0],
  read16: (lba: readonly number[], blocks: number) => [0x88, 0, ...lba, ...be(blocks, 4), 0, 0],
  write16: (lba: readonly number[], blocks: number) => [0x8a, 0, ...lba, ...be(blocks, 4), 0, 0],
  compareAndWrite: (lba: number, blocks: number) => [0x89, 0, ...be(lba, 8), 0, 0, 0, blocks, 0, 0],
  unmap: (bytes: number) => [0x42, 0, 0, 0, 0, 0, 0, ...be(bytes, 2), 0],
  inquiry: (page: number | null, allocationBytes = 255) => [
    0x12,
    page === null ? 0 : 1,
    page ?? 0,
    ...be(allocationBytes, 2),
    0,
  ],
  modeSense6: (page: number, control = 0) => [0x1a, 0x08, (control << 6) | page, 0, 255, 0],
  modeSelect6: (bytes: number) => [0x15, 0x10, 0, 0, bytes, 0],
  reserveIn: (action: number, allocationBytes = 4096) => [0x5e, action, 0, 0, 0, 0, 0, ...be(allocationBytes, 2), 0],
  reserveOut: (action: number, type: number, bytes = 24) => [0x5f, action, type, 0, 0, ...be(bytes, 4), 0],
};

/** The parameter list of PERSISTENT RESERVE OUT; keys are small numbers. */
export function reserveList(key: number, actionKey: number, flags = 0): number[] {
  return [...be(key, 8), ...be(actionKey, 8), 0, 0, 0, 0, flags, 0, 0, 0];
}

export function unmapList(extents: readonly (readonly [number, number])[]): number[] {
  const body = extents.flatMap(([lba, blocks]) => [...be(lba, 8), ...be(blocks, 4), 0, 0, 0, 0]);
  return [...be(6 + body.length, 2), ...be(body.length, 2), 0, 0, 0, 0, ...body];
}

export function transportId(name: string): number[] {
  const text = [...new TextEncoder().encode(portOf(name)), 0];
  while (text.length % 4 !== 0) text.push(0);
  return [0x45, 0, ...be(text.length, 2), ...text];
}
