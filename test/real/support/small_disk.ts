/**
 * The least device server that initiators take for a disk: one LUN 0 on a volume in memory, for tests of the iSCSI transport alone with
 * third-party initiators. It knows what they ask before they read and write, and no more; everything else is ILLEGAL REQUEST.
 */
import type {
  DeviceServer,
  Nexus,
  TaskFunction,
  TaskFunctionOutcome,
} from "../../../firmware/frontend/scsi/device_server.ts";
import { ScsiStatus, type ScsiTask } from "../../../firmware/frontend/scsi/task.ts";
import { type BlockError, type BlockTarget, logicalBlockBytes } from "../../../firmware/volume/block_request.ts";

const Op = {
  testUnitReady: 0x00,
  inquiry: 0x12,
  modeSense6: 0x1a,
  readCapacity10: 0x25,
  read10: 0x28,
  write10: 0x2a,
  synchronizeCache10: 0x35,
  read16: 0x88,
  write16: 0x8a,
  serviceActionIn16: 0x9e,
  reportLuns: 0xa0,
} as const;
const known: ReadonlySet<number> = new Set(Object.values(Op));

interface Range {
  readonly startLba: number;
  readonly blockCount: number;
}

export class SmallDisk implements DeviceServer {
  readonly #target: BlockTarget;

  constructor(target: BlockTarget) {
    this.#target = target;
  }

  attach(): Nexus {
    return new SmallDiskNexus(this.#target);
  }
}

class SmallDiskNexus implements Nexus {
  readonly #target: BlockTarget;
  readonly #tasks = new Set<ScsiTask>();
  readonly #executed = new Set<ScsiTask>();
  #managing: { done: (outcome: TaskFunctionOutcome) => void; waits: Set<ScsiTask> }[] = [];
  #closed = false;

  constructor(target: BlockTarget) {
    this.#target = target;
  }

  judge(task: ScsiTask): "accepted" | "rejected" {
    const opcode = task.cdb[0]!;
    const anyLun = opcode === Op.inquiry || opcode === Op.reportLuns;
    if (task.lun.some((byte) => byte !== 0) && !anyLun) return refuse(task, 0x052500);
    if (!known.has(opcode)) return refuse(task, 0x052000);
    const { startLba, blockCount } = rangeOf(task);
    if (startLba + blockCount > this.#target.blockCount()) return refuse(task, 0x052100);
    if (opcode === Op.write10 || opcode === Op.write16) task.dataOutBytes = blockCount * logicalBlockBytes;
    this.#tasks.add(task);
    return "accepted";
  }

  execute(task: ScsiTask): "done" | "reads" | "pending" {
    this.#executed.add(task);
    const { startLba, blockCount } = rangeOf(task);
    switch (task.cdb[0]) {
      case Op.read10:
      case Op.read16:
        task.medium.target = this.#target;
        task.medium.startLba = startLba;
        task.medium.blockCount = blockCount;
        task.dataInBytes = blockCount * logicalBlockBytes;
        return "reads";
      case Op.write10:
      case Op.write16: {
        const bytes = task.dataOut.reduce((sum, piece) => sum + piece.byteLength, 0);
        if (bytes === 0) break;
        this.#write(task, { startLba, blockCount: bytes / logicalBlockBytes });
        return "pending";
      }
      default:
        answer(task, this.#target.blockCount());
    }
    this.#ended(task);
    return "done";
  }

  #write(task: ScsiTask, { startLba, blockCount }: Range): void {
    const { request } = task;
    request.kind = "write";
    request.startLba = startLba;
    request.blockCount = blockCount;
    request.payload = task.dataOut;
    request.error = null;
    request.onDone = () => {
      if (this.#closed) task.aborted = true;
      if (request.error !== null) refuse(task, 0x030c00);
      this.#ended(task);
      task.onDone(task);
    };
    this.#target.submit(request);
  }

  readDone(task: ScsiTask, error: BlockError | null): void {
    if (error !== null) refuse(task, 0x031100);
    this.#ended(task);
  }

  drop(task: ScsiTask): void {
    this.#ended(task);
  }

  manage(action: TaskFunction, _lun: Uint8Array, tag: number, done: (outcome: TaskFunctionOutcome) => void): void {
    const isAbortTask = action === 1;
    const waits = new Set([...this.#tasks].filter((task) => !isAbortTask || task.tag === tag));
    if (isAbortTask && waits.size === 0) {
      done("task-not-there");
      return;
    }
    this.#managing.push({ done, waits });
    for (const task of [...waits]) {
      task.aborted = true;
      if (this.#executed.has(task)) continue;
      this.#ended(task);
      task.onDone(task);
    }
    this.#settle();
  }

  close(): void {
    this.#closed = true;
    for (const task of this.#tasks) if (!this.#executed.has(task)) this.#tasks.delete(task);
  }

  #ended(task: ScsiTask): void {
    this.#tasks.delete(task);
    this.#executed.delete(task);
    for (const { waits } of this.#managing) waits.delete(task);
    this.#settle();
  }

  #settle(): void {
    const over = this.#managing.filter(({ waits }) => waits.size === 0);
    if (over.length === 0) return;
    this.#managing = this.#managing.filter(({ waits }) => waits.size > 0);
    for (const { done } of over) done("complete");
  }
}

function rangeOf({ cdb }: ScsiTask): Range {
  const view = new DataView(cdb.buffer, cdb.byteOffset);
  if (cdb[0] === Op.read10 || cdb[0] === Op.write10) {
    return { startLba: view.getUint32(2), blockCount: view.getUint16(7) };
  }
  if (cdb[0] === Op.read16 || cdb[0] === Op.write16) {
    return { startLba: Number(view.getBigUint64(2)), blockCount: view.getUint32(10) };
  }
  return { startLba: 0, blockCount: 0 };
}

/** The small answers. */
function answer(task: ScsiTask, blockCount: number): void {
  const { cdb } = task;
  const view = new DataView(cdb.buffer, cdb.byteOffset);
  const data = new Uint8Array(36);
  const out = new DataView(data.buffer);
  switch (cdb[0]) {
    case Op.inquiry:
      if ((cdb[1]! & 1) !== 0) {
        // VPD: the list of pages, and a serial number.
        if (cdb[2] === 0x00) data.set([0, 0, 0, 2, 0x00, 0x80]);
        else if (cdb[2] === 0x80) data.set([0, 0x80, 0, 4, 0x30, 0x30, 0x30, 0x31]);
        else {
          refuse(task, 0x052400);
          return;
        }
        give(task, data.subarray(0, 4 + data[3]!), view.getUint16(3));
        return;
      }
      data.set([task.lun[1] === 0 ? 0 : 0x7f, 0, 6, 2, 31, 0, 0, 2]);
      data.set(new TextEncoder().encode("GOLDCOPYSMALL DISK      0001"), 8);
      give(task, data, view.getUint16(3));
      return;
    case Op.modeSense6:
      give(task, Uint8Array.of(3, 0, 0, 0), cdb[4]!);
      return;
    case Op.readCapacity10:
      out.setUint32(0, Math.min(blockCount - 1, 0xffffffff));
      out.setUint32(4, logicalBlockBytes);
      give(task, data.subarray(0, 8), 8);
      return;
    case Op.serviceActionIn16:
      // READ CAPACITY (16); the other actions are not known.
      if ((cdb[1]! & 0x1f) !== 0x10) {
        refuse(task, 0x052400);
        return;
      }
      out.setBigUint64(0, BigInt(blockCount - 1));
      out.setUint32(8, logicalBlockBytes);
      give(task, data.subarray(0, 32), view.getUint32(10));
      return;
    case Op.reportLuns:
      data[3] = 8;
      give(task, data.subarray(0, 16), view.getUint32(6));
  }
}

function give(task: ScsiTask, data: Uint8Array, allocationBytes: number): void {
  task.dataIn = data.subarray(0, allocationBytes);
  task.dataInBytes = task.dataIn.byteLength;
}

function refuse(task: ScsiTask, sense: number): "rejected" {
  task.status = ScsiStatus.checkCondition;
  task.sense = new Uint8Array(18);
  task.sense.set([0x70, 0, sense >> 16, 0, 0, 0, 0, 10, 0, 0, 0, 0, (sense >> 8) & 255, sense & 255]);
  return "rejected";
}
