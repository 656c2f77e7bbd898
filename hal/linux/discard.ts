/**
 * Giving ranges of files and block devices back, off the event loop: fallocate may wait for a journal, and neither Bun nor
 * node:fs has it as an asynchronous call. One worker, started at the first discard, serves all disks.
 *
 * Invariant: every `done` is called, also when the worker cannot run; a discard is then a range not given back.
 */
import type { DiscardAnswer, DiscardRequest } from "./discard_worker.ts";

export class Discarder {
  #worker: Worker | null = null;
  #broken = false;
  #nextId = 1;
  readonly #waiting = new Map<number, () => void>();

  discard(fd: number, offsetBytes: number, lengthBytes: number, done: () => void): void {
    const worker = this.#start();
    if (worker === null) {
      queueMicrotask(done);
      return;
    }
    const request: DiscardRequest = { id: this.#nextId++, fd, offsetBytes, lengthBytes };
    this.#waiting.set(request.id, done);
    if (this.#waiting.size === 1) worker.ref();
    worker.postMessage(request);
  }

  #start(): Worker | null {
    if (this.#worker !== null || this.#broken) return this.#worker;
    try {
      const worker = new Worker(new URL("./discard_worker.ts", import.meta.url).href);
      worker.onmessage = (event: MessageEvent<DiscardAnswer>) => this.#answered(event.data.id);
      worker.onerror = () => this.#fail();
      this.#worker = worker;
    } catch {
      this.#broken = true;
    }
    return this.#worker;
  }

  #answered(id: number): void {
    const done = this.#waiting.get(id);
    this.#waiting.delete(id);
    // An idle worker does not keep the process alive.
    if (this.#waiting.size === 0) this.#worker?.unref();
    done?.();
  }

  #fail(): void {
    this.#broken = true;
    this.#worker = null;
    for (const id of [...this.#waiting.keys()]) this.#answered(id);
  }

  close(): void {
    this.#worker?.terminate();
    this.#fail();
  }
}
