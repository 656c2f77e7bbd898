/**
 * SCSI commands to the disks of all shelves, off the event loop: a device that hangs lets the kernel wait, for as long as its error
 * handling takes. One worker, started at the first command.
 *
 * Invariants:
 * - Every command is answered within its limit and `graceMs`, after the call has returned: late is `timeout`, whatever becomes of it.
 * - The worker has one command; the others wait here. One that was answered late without having been sent is never sent.
 */
import type { Clock, Timer } from "../api/clock.ts";
import type { ScsiCommand, ScsiOutcome } from "./scsi_generic.ts";
import type { ScsiRequest } from "./scsi_worker.ts";

/** For the kernel to end a command that is over its limit, and for one that others were before. */
export const graceMs = 2000;

type ScsiDone = (outcome: ScsiOutcome) => void;

interface Waiting {
  readonly request: ScsiRequest;
  /** null: answered. */
  done: ScsiDone | null;
  readonly timer: Timer;
}

/** Of a worker, what is used here. */
export interface ScsiWorker {
  onmessage: ((event: MessageEvent<ScsiOutcome>) => void) | null;
  onerror: ((event: ErrorEvent) => void) | null;
  postMessage(request: ScsiRequest): void;
  ref(): void;
  unref(): void;
  terminate(): void;
}

const isLate: ScsiOutcome = { kind: "timeout", text: "no answer in time" };
const cannotAsk: ScsiOutcome = { kind: "failed", text: "the thread that asks it has ended" };

export class ScsiPort {
  readonly #clock: Clock;
  readonly #newWorker: () => ScsiWorker;
  #worker: ScsiWorker | null = null;
  #isOver = false;
  #sent: Waiting | null = null;
  #queue: Waiting[] = [];

  constructor(clock: Clock, newWorker: () => ScsiWorker = startWorker) {
    this.#clock = clock;
    this.#newWorker = newWorker;
  }

  execute(fd: number, command: ScsiCommand, done: ScsiDone): void {
    const timer = this.#clock.after(command.limitMs + graceMs, () => this.#late(waiting));
    const waiting: Waiting = { request: { fd, ...command }, done, timer };
    this.#queue.push(waiting);
    this.#clock.defer(() => this.#next());
  }

  #next(): void {
    if (this.#sent !== null) return;
    const next = this.#queue.shift();
    if (next === undefined) {
      // An idle worker does not keep the process alive.
      this.#worker?.unref();
      return;
    }
    const worker = this.#start();
    if (worker === null) {
      answer(next, cannotAsk);
      return this.#next();
    }
    this.#sent = next;
    worker.ref();
    worker.postMessage(next.request);
  }

  #start(): ScsiWorker | null {
    if (this.#worker !== null || this.#isOver) return this.#worker;
    try {
      const worker = this.#newWorker();
      worker.onmessage = (event) => this.#answered(event.data);
      worker.onerror = () => this.#fail();
      this.#worker = worker;
    } catch {
      this.#isOver = true;
    }
    return this.#worker;
  }

  #answered(outcome: ScsiOutcome): void {
    const sent = this.#sent;
    this.#sent = null;
    if (sent !== null) answer(sent, outcome);
    this.#next();
  }

  #late(waiting: Waiting): void {
    this.#queue = this.#queue.filter((one) => one !== waiting);
    answer(waiting, isLate);
  }

  #fail(): void {
    this.#isOver = true;
    this.#worker = null;
    this.#answered(cannotAsk);
  }

  /** What is under way may still reach its device. */
  close(): void {
    this.#worker?.terminate();
    this.#fail();
  }
}

function startWorker(): ScsiWorker {
  return new Worker(new URL("./scsi_worker.ts", import.meta.url).href);
}

function answer(waiting: Waiting, outcome: ScsiOutcome): void {
  const { done, timer } = waiting;
  waiting.done = null;
  timer.cancel();
  done?.(outcome);
}
