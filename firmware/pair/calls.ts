/**
 * Management requests that the standby brings to the owner, so that either appliance answers for the array.
 *
 * Invariants:
 * - Every call is answered once: by the owner, or with `starting` when the partner is gone or does not answer in time.
 * - An answer goes to the session that its call came in: the ids of a partner that has begun anew are others' ids.
 */
import type { Clock } from "../../hal/api/clock.ts";
import type { Api, ApiAnswer } from "../manage/api.ts";
import type { SendMessage } from "./forwarder.ts";
import type { PairMessageOf } from "./frame.ts";
import { pairLimits } from "./limits.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export class Calls {
  readonly #clock: Clock;
  readonly #send: SendMessage;
  readonly #waiting = new Map<number, (answer: ApiAnswer) => void>();
  #lastId = 0;
  /** Sessions with the partner that have ended. */
  #sessionsEnded = 0;
  /** The parts of answers that are larger than a frame. */
  readonly #parts = new Map<number, Uint8Array[]>();

  constructor(clock: Clock, send: SendMessage) {
    this.#clock = clock;
    this.#send = send;
  }

  ask(method: string, path: string, body: string): Promise<ApiAnswer> {
    // The partner would read its beginning alone.
    if (path.length > pairLimits.textBytesMax) return Promise.resolve(invalid("the path is too long"));
    return new Promise((resolve) => {
      const id = ++this.#lastId;
      this.#waiting.set(id, resolve);
      this.#clock.after(pairLimits.callMs, () => this.#end(id, "the owner of the array has not answered; ask again"));
      this.#send({ kind: "call", id, method, path }, [encoder.encode(body)]);
    });
  }

  /** At the owner. */
  serve({ id, method, path }: PairMessageOf<"call">, payload: Uint8Array, api: Api): void {
    const session = this.#sessionsEnded;
    void api(method, path, decoder.decode(payload)).then(({ status, body }) => {
      if (session !== this.#sessionsEnded) return;
      const bytes = encoder.encode(JSON.stringify(body));
      // Status 0: more follows.
      for (let at = 0; at < bytes.byteLength; at += pairLimits.payloadBytesMax) {
        const end = at + pairLimits.payloadBytesMax;
        this.#send({ kind: "answer", id, status: end < bytes.byteLength ? 0 : status }, [bytes.subarray(at, end)]);
      }
    });
  }

  answered({ id, status }: PairMessageOf<"answer">, payload: Uint8Array): void {
    const resolve = this.#waiting.get(id);
    if (resolve === undefined) return;
    const parts = this.#parts.get(id) ?? [];
    parts.push(payload);
    this.#parts.set(id, parts);
    if (status === 0 && parts.length < pairLimits.callBytesMax / pairLimits.payloadBytesMax) return;
    this.#waiting.delete(id);
    this.#parts.delete(id);
    resolve({ status, body: parse(parts) });
  }

  /** The session ends. */
  endAll(why: string): void {
    this.#sessionsEnded++;
    for (const id of [...this.#waiting.keys()]) this.#end(id, why);
  }

  #end(id: number, text: string): void {
    const resolve = this.#waiting.get(id);
    this.#waiting.delete(id);
    this.#parts.delete(id);
    resolve?.({ status: 503, body: { error: { code: "starting", text } } });
  }
}

function invalid(text: string): ApiAnswer {
  return { status: 400, body: { error: { code: "invalid", text } } };
}

function parse(parts: readonly Uint8Array[]): unknown {
  let text = "";
  const stream = new TextDecoder();
  for (const part of parts) text += stream.decode(part, { stream: true });
  try {
    return JSON.parse(text);
  } catch {
    return { error: { code: "failed", text: "the owner's answer is no JSON" } };
  }
}
