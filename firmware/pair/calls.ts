/**
 * Management requests that the standby brings to the owner, so that either appliance answers for the array.
 *
 * Invariants:
 * - Every call is answered once: by the owner, or with `starting` when the partner is gone or does not answer in time, or with `invalid`
 *   when it is more than the partner takes.
 * - An answer goes to the session that its call came in: the ids of a partner that has begun anew are others' ids.
 */
import type { Clock } from "../../hal/api/clock.ts";
import type { Api, ApiAnswer } from "../manage/api.ts";
import type { SendMessage } from "./forwarder.ts";
import type { PairMessageOf } from "./frame.ts";
import { pairLimits } from "./limits.ts";
import { ArrivingText, type SendText } from "./long_text.ts";

const encoder = new TextEncoder();

export class Calls {
  readonly #clock: Clock;
  readonly #send: SendMessage;
  readonly #sendText: SendText;
  readonly #waiting = new Map<number, (answer: ApiAnswer) => void>();
  #lastId = 0;
  /** Sessions with the partner that have ended. */
  #sessionsEnded = 0;
  /** Answers that are larger than a frame, as far as they have come. */
  readonly #answers = new Map<number, ArrivingText>();
  /** The body of a call that is. */
  readonly #body = new ArrivingText(pairLimits.callBytesMax);
  #bodyOf = 0;

  constructor(clock: Clock, send: SendMessage, sendText: SendText) {
    this.#clock = clock;
    this.#send = send;
    this.#sendText = sendText;
  }

  /** `waitMs`: for how long its caller lets the owner work at it. */
  ask(method: string, path: string, body: string, waitMs = 0): Promise<ApiAnswer> {
    // The partner would read its beginning alone.
    if (path.length > pairLimits.textBytesMax) return Promise.resolve(invalid("the path is too long"));
    const id = ++this.#lastId;
    const isSent = this.#sendText({ kind: "call", id, method, path }, encoder.encode(body), pairLimits.callBytesMax);
    if (!isSent) return Promise.resolve(invalid("the request is larger than the partner takes in its version"));
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve);
      const limitMs = Math.max(pairLimits.callMs, waitMs + pairLimits.callGraceMs);
      this.#clock.after(limitMs, () => this.#end(id, "the owner of the array has not answered; ask again"));
    });
  }

  /** At the owner. */
  serve({ id, method, path, more }: PairMessageOf<"call">, payload: Uint8Array, api: Api): void {
    if (id !== this.#bodyOf) this.#body.clear();
    this.#bodyOf = id;
    const body = this.#body.add(payload, more);
    if (body === "more") return;
    if (body === "too-long") return this.#answer(id, invalid("the request is larger than one may be"));
    const session = this.#sessionsEnded;
    void api(method, path, body.text).then((answer) => {
      if (session === this.#sessionsEnded) this.#answer(id, answer);
    });
  }

  #answer(id: number, { status, body }: ApiAnswer): void {
    const bytes = encoder.encode(JSON.stringify(body));
    if (bytes.byteLength > pairLimits.callBytesMax)
      return this.#answer(id, failed("the answer is larger than one may be; ask the appliance that owns this part"));
    // Status 0: more follows.
    for (let at = 0; at < bytes.byteLength; at += pairLimits.payloadBytesMax) {
      const end = at + pairLimits.payloadBytesMax;
      this.#send({ kind: "answer", id, status: end < bytes.byteLength ? 0 : status }, [bytes.subarray(at, end)]);
    }
  }

  answered({ id, status }: PairMessageOf<"answer">, payload: Uint8Array): void {
    const resolve = this.#waiting.get(id);
    if (resolve === undefined) return;
    const arriving = this.#answers.get(id) ?? new ArrivingText(pairLimits.callBytesMax);
    this.#answers.set(id, arriving);
    const body = arriving.add(payload, status === 0);
    if (body === "more") return;
    this.#waiting.delete(id);
    this.#answers.delete(id);
    resolve(body === "too-long" ? failed("the owner's answer is larger than one may be") : parse(status, body.text));
  }

  /** The session ends. */
  endAll(why: string): void {
    this.#sessionsEnded++;
    this.#body.clear();
    for (const id of [...this.#waiting.keys()]) this.#end(id, why);
  }

  #end(id: number, text: string): void {
    const resolve = this.#waiting.get(id);
    this.#waiting.delete(id);
    this.#answers.delete(id);
    resolve?.({ status: 503, body: { error: { code: "starting", text } } });
  }
}

function invalid(text: string): ApiAnswer {
  return { status: 400, body: { error: { code: "invalid", text } } };
}

function failed(text: string): ApiAnswer {
  return { status: 500, body: { error: { code: "failed", text } } };
}

function parse(status: number, text: string): ApiAnswer {
  try {
    return { status, body: JSON.parse(text) };
  } catch {
    return failed("the owner's answer is no JSON");
  }
}
