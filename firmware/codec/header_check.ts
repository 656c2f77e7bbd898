/**
 * Judging the header of a frame that comes from another appliance, field by field; what is wrong with it is a value.
 *
 * Notes on protobufjs: `uint64` arrives as a `Long`; `bytes` alias the input and are turned into hex at once.
 */
import { toHex } from "./bytes.ts";

export interface HeaderLimits {
  /** Of seqs, sizes and counts. */
  readonly numberMax: number;
  /** In UTF-16 units. */
  readonly nameBytesMax: number;
  readonly textBytesMax: number;
}

interface LongLike {
  readonly low: number;
  readonly high: number;
}

export type Wide = number | LongLike | null | undefined;

/** Collects the first fault; every method returns a usable value so that a decoder reads straight down. */
export class HeaderCheck {
  readonly #limits: HeaderLimits;
  fault: string | null = null;

  constructor(limits: HeaderLimits) {
    this.#limits = limits;
  }

  #report(what: string): void {
    if (this.fault === null) this.fault = what;
  }

  wide(value: Wide, name: string): number {
    if (value === null || value === undefined) return 0;
    const number =
      typeof value === "number"
        ? value
        : value.high >>> 0 > 0x1fffff
          ? Number.NaN
          : (value.high >>> 0) * 4294967296 + (value.low >>> 0);
    if (Number.isInteger(number) && number >= 0 && number <= this.#limits.numberMax) return number;
    this.#report(`${name} is not a whole number up to 2^52`);
    return 0;
  }

  id(bytes: Uint8Array | null | undefined, name: string): string {
    if (bytes?.byteLength === 16) return toHex(bytes);
    this.#report(`${name} is not an id of 16 bytes`);
    return "0".repeat(32);
  }

  optionalId(bytes: Uint8Array | null | undefined, name: string): string | null {
    return bytes === null || bytes === undefined || bytes.byteLength === 0 ? null : this.id(bytes, name);
  }

  name(text: string | null | undefined, name: string): string {
    const given = text ?? "";
    if (given.length > 0 && given.length <= this.#limits.nameBytesMax && !hasControls(given)) return given;
    this.#report(`${name} is not a name`);
    return "?";
  }

  /** A sentence for people: bounded, without control characters. */
  text(text: string | null | undefined): string {
    const given = (text ?? "").slice(0, this.#limits.textBytesMax);
    return hasControls(given) ? "(unreadable)" : given;
  }

  code<Name extends string>(
    table: Readonly<Record<Name, number>>,
    value: number | null | undefined,
    name: string,
  ): Name {
    const names = Object.keys(table) as Name[];
    const found = names.find((candidate) => table[candidate] === value);
    if (found === undefined) this.#report(`${name} is not a known code`);
    return found ?? names[0]!;
  }

  count(length: number, max: number, name: string): boolean {
    if (length <= max) return true;
    this.#report(`${name} has ${length} entries, at most ${max}`);
    return false;
  }

  that(holds: boolean, what: string): void {
    if (!holds) this.#report(what);
  }
}

function hasControls(text: string): boolean {
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    if (unit < 32 || unit === 127) return true;
  }
  return false;
}
