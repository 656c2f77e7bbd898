/**
 * The client's side of the handshake out of a byte stream: flags, then options (specification: "Newstyle negotiation").
 *
 * Invariants:
 * - Every cut of the stream gives the same steps.
 * - Memory is bounded by `dataBytesMax`: longer option data is counted, not kept.
 * - `rest` gives what follows the last step, unparsed: after the option that ends the haggling it belongs to the transmission.
 */
import { assert } from "../../codec/assert.ts";
import { Magic, optionHeaderBytes } from "./constants.ts";

export type OptionStep =
  | { readonly kind: "more" }
  | { readonly kind: "flags"; readonly flags: number }
  /** `data` is a copy of its own, or null when it was longer than is looked at, and has been skipped. */
  | { readonly kind: "option"; readonly option: number; readonly length: number; readonly data: Uint8Array | null }
  | { readonly kind: "bad-magic" }
  | { readonly kind: "too-long"; readonly option: number; readonly length: number };

const more: OptionStep = { kind: "more" };
const empty = new Uint8Array(0);

export class OptionParser {
  private readonly dataBytesMax: number;
  private readonly skipBytesMax: number;
  private chunk: Uint8Array = empty;
  private at = 0;
  private state: "flags" | "header" | "data" | "skip" = "flags";
  private readonly header = new Uint8Array(optionHeaderBytes);
  private headerFilled = 0;
  private option = 0;
  private length = 0;
  private data: Uint8Array = empty;
  private dataLeft = 0;

  constructor(limits: { readonly dataBytesMax: number; readonly skipBytesMax: number }) {
    this.dataBytesMax = limits.dataBytesMax;
    this.skipBytesMax = limits.skipBytesMax;
  }

  push(chunk: Uint8Array): void {
    assert(this.at === this.chunk.byteLength, "nbd option parser: the chunk before is used up");
    this.chunk = chunk;
    this.at = 0;
  }

  /** Nothing of the chunk is left. */
  get usedUp(): boolean {
    return this.at === this.chunk.byteLength;
  }

  rest(): Uint8Array {
    const rest = this.chunk.subarray(this.at);
    this.chunk = empty;
    this.at = 0;
    return rest;
  }

  next(): OptionStep {
    if (this.state === "flags") {
      if (!this.fillHeader(4)) return more;
      this.headerFilled = 0;
      this.state = "header";
      return { kind: "flags", flags: this.uint32(0) };
    }
    if (this.state === "header") {
      const complete = this.fillHeader(optionHeaderBytes);
      // A wrong magic is told at once: whoever speaks another protocol need not send a whole header first.
      if (this.headerFilled >= 4 && this.uint32(0) !== Magic.optionHigh) return { kind: "bad-magic" };
      if (this.headerFilled >= 8 && this.uint32(4) !== Magic.optionLow) return { kind: "bad-magic" };
      if (!complete) return more;
      this.headerFilled = 0;
      this.option = this.uint32(8);
      this.length = this.uint32(12);
      if (this.length > this.skipBytesMax) return { kind: "too-long", option: this.option, length: this.length };
      this.dataLeft = this.length;
      const skipped = this.length > this.dataBytesMax;
      this.data = skipped ? empty : new Uint8Array(this.length);
      this.state = skipped ? "skip" : "data";
    }
    const take = Math.min(this.dataLeft, this.chunk.byteLength - this.at);
    if (this.state === "data" && take > 0) {
      this.data.set(this.chunk.subarray(this.at, this.at + take), this.length - this.dataLeft);
    }
    this.at += take;
    this.dataLeft -= take;
    if (this.dataLeft > 0) return more;
    const data = this.state === "data" ? this.data : null;
    this.data = empty;
    this.state = "header";
    return { kind: "option", option: this.option, length: this.length, data };
  }

  /** Collects the first `bytes` of the header; true when they are there. */
  private fillHeader(bytes: number): boolean {
    const take = Math.min(bytes - this.headerFilled, this.chunk.byteLength - this.at);
    this.header.set(this.chunk.subarray(this.at, this.at + take), this.headerFilled);
    this.headerFilled += take;
    this.at += take;
    return this.headerFilled === bytes;
  }

  private uint32(at: number): number {
    const bytes = this.header;
    return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
  }
}
