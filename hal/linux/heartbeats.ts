/**
 * Heartbeats from a worker thread: see hal/api/heartbeats.ts for what they are, heartbeat_worker.ts for who sends them.
 *
 * The worker is started with the first channel, and is a part of the process: when it ends by itself, so does the process (the error is
 * thrown in the main thread, as any defect). It does not keep the process alive.
 */
import type { HeartbeatChannel, HeartbeatPath, Heartbeats } from "../api/heartbeats.ts";
import type { Shaping } from "../api/nic.ts";
import {
  channelWords,
  type HeartbeatOrder,
  type HeartbeatTrouble,
  sharedWords,
  turnsWord,
  word,
} from "./heartbeat_memory.ts";
import type { LinuxNic } from "./nic.ts";

interface OpenChannel {
  readonly nic: LinuxNic;
  readonly remote: string;
  readonly words: Int32Array;
  trouble: string | null;
}

export class LinuxHeartbeats implements Heartbeats {
  readonly #nics: readonly LinuxNic[];
  readonly #turns = sharedWords(1);
  readonly #channels = new Map<number, OpenChannel>();
  #worker: Worker | null = null;
  #nextId = 1;
  #isClosed = false;

  constructor(nics: readonly LinuxNic[]) {
    this.#nics = nics;
  }

  turned(): void {
    Atomics.add(this.#turns, turnsWord, 1);
  }

  open({ nic: name, address, remote, intervalMs, sendKey, hearKey }: HeartbeatPath): HeartbeatChannel {
    const nic = this.#nics.find((candidate) => candidate.name === name)!;
    const id = this.#nextId++;
    const words = sharedWords(channelWords);
    const channel: OpenChannel = { nic, remote, words, trouble: null };
    putShaping(words, nic.shapings().get(remote));
    this.#channels.set(id, channel);
    this.#order({ kind: "open", id, words, listen: nic.address, address, intervalMs, sendKey, hearKey });
    return {
      heard: () => ({
        silentMs: Atomics.load(words, word.silentMs),
        stillMs: Atomics.load(words, word.stillMs) >>> 0,
        turns: Atomics.load(words, word.turns) >>> 0,
        trouble: channel.trouble,
      }),
      close: () => {
        if (!this.#channels.delete(id)) return;
        // At once, whatever the worker is at.
        Atomics.store(words, word.cut, 1);
        this.#order({ kind: "close", id });
      },
    };
  }

  /** A NIC's shapings have changed. */
  shaped(): void {
    for (const { nic, remote, words } of this.#channels.values()) putShaping(words, nic.shapings().get(remote));
  }

  /** Ends the worker. */
  close(): void {
    this.#isClosed = true;
    for (const { words } of this.#channels.values()) Atomics.store(words, word.cut, 1);
    this.#channels.clear();
    this.#worker?.terminate();
  }

  #order(order: HeartbeatOrder): void {
    if (!this.#isClosed) this.#started().postMessage(order);
  }

  #started(): Worker {
    if (this.#worker !== null) return this.#worker;
    const worker = new Worker(new URL("./heartbeat_worker.ts", import.meta.url).href);
    worker.unref();
    worker.onmessage = ({ data: { id, text } }: MessageEvent<HeartbeatTrouble>) => {
      const channel = this.#channels.get(id);
      if (channel !== undefined) channel.trouble = text;
    };
    worker.onerror = ({ message }) => this.#died(message);
    worker.addEventListener("close", () => this.#died("it has ended"));
    const begin: HeartbeatOrder = { kind: "begin", turns: this.#turns };
    worker.postMessage(begin);
    this.#worker = worker;
    return worker;
  }

  #died(why: string): void {
    if (!this.#isClosed) throw new Error(`the worker that sends heartbeats is lost: ${why}`);
  }
}

function putShaping(words: Int32Array, shaping: Shaping | undefined): void {
  Atomics.store(words, word.latencyMs, Math.round(shaping?.latencyMs ?? 0));
  Atomics.store(words, word.jitterMs, Math.round(shaping?.jitterMs ?? 0));
  Atomics.store(words, word.lossMillionths, Math.round((shaping?.loss ?? 0) * 1e6));
  Atomics.store(words, word.cut, shaping?.cut === true ? 1 : 0);
}
