/**
 * Giving ranges of files and block devices back, off the event loop: fallocate may wait for a journal, and neither Bun nor
 * node:fs has it as an asynchronous call. One worker, started at the first discard, serves all disks.
 *
 * Invariant: every `done` is called with whether the range was given back, also when the worker cannot run; it was not then.
 */
import type { DiscardAnswer, DiscardRequest } from "./discard_worker.ts";

export class Discarder {
  #worker: Worker | null = null;
  #broken = false;
  #nextId = 1;
  readonly #waiting = new Map<number, (isDone: boolean) => void>();

  discard(fd: number, offsetBytes: number, lengthBytes: number, done: (isDone: boolean) => void): void {
    const worker = this.#start();
    if (worker === null) {
      queueMicrotask(() => done(false));
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
      worker.onmessage = (event: MessageEvent<DiscardAnswer>) => this.#answered(event.data);
      worker.onerror = () => this.#fail();
      this.#worker = worker;
    } catch {
      this.#broken = true;
    }
    return this.#worker;
  }

  #answered({ id, isDone }: DiscardAnswer): void {
    const done = this.#waiting.get(id);
    this.#waiting.delete(id);
    // An idle worker does not keep the process alive.
    if (this.#waiting.size === 0) this.#worker?.unref();
    done?.(isDone);
  }

  #fail(): void {
    this.#broken = true;
    this.#worker = null;
    for (const id of [...this.#waiting.keys()]) this.#answered({ id, isDone: false });
  }

  close(): void {
    this.#worker?.terminate();
    this.#fail();
  }
}
