/**
 * JSON texts between the partners that are larger than a frame: they go in several messages of their kind, one right behind the other;
 * `more` says that the next one goes on.
 *
 * A partner of a version before `longTextVersion` would take each part for the whole, so it is sent no more than fits one frame: what it
 * asks or is told works as ever, and what is larger is refused here.
 */
import { longTextVersion, type PairMessageOf } from "./frame.ts";
import { pairLimits } from "./limits.ts";

type Unparted<Message> = Message extends unknown ? Omit<Message, "more"> : never;
export type LongMessage = Unparted<PairMessageOf<"call"> | PairMessageOf<"directory">>;

/** False: the partner does not take so much, and nothing goes out. */
export type SendText = (message: LongMessage, text: Uint8Array, bytesMax: number) => boolean;

interface Part {
  readonly part: Uint8Array;
  readonly more: boolean;
}

/** Its parts, in order; null: the partner, whose version is `theirs`, does not take it. */
export function partsFor(theirs: number, text: Uint8Array, bytesMax: number): readonly Part[] | null {
  const partBytes = pairLimits.payloadBytesMax;
  if (text.byteLength > (theirs < longTextVersion ? partBytes : bytesMax)) return null;
  const parts: Part[] = [];
  let at = 0;
  do {
    const part = text.subarray(at, at + partBytes);
    at += partBytes;
    parts.push({ part, more: at < text.byteLength });
  } while (at < text.byteLength);
  return parts;
}

/** What has come of a text. Of one that is too long nothing is kept. */
export class ArrivingText {
  readonly #bytesMax: number;
  #decoder = new TextDecoder();
  #text = "";
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** The text, when this is its last part. */
  add(part: Uint8Array, more: boolean): "more" | "too-long" | { readonly text: string } {
    this.#bytes += part.byteLength;
    const isTooLong = this.#bytes > this.#bytesMax;
    this.#text = isTooLong ? "" : this.#text + this.#decoder.decode(part, { stream: more });
    if (more) return "more";
    const text = this.#text;
    this.clear();
    return isTooLong ? "too-long" : { text };
  }

  /** What has come is of no use. */
  clear(): void {
    this.#decoder = new TextDecoder();
    this.#text = "";
    this.#bytes = 0;
  }
}
