/** What a boundary record carries: the name of the fork that every copy takes there, and what for. */
import { decode } from "cbor-x/decode";
import { encode } from "cbor-x/encode";

export interface Boundary {
  readonly id: string;
  readonly purpose: string;
}

const nameCharsMax = 64;

export function encodeBoundary(boundary: Boundary): Uint8Array {
  return Uint8Array.from(encode({ id: boundary.id, purpose: boundary.purpose }));
}

/** A boundary that nobody can name is still a boundary: it is called after its seq. */
export function decodeBoundary(bytes: Uint8Array, seq: number): Boundary {
  try {
    const value: unknown = decode(bytes);
    if (typeof value === "object" && value !== null && "id" in value && "purpose" in value) {
      return { id: String(value.id).slice(0, nameCharsMax), purpose: String(value.purpose).slice(0, nameCharsMax) };
    }
  } catch {
    // Not CBOR: answered below.
  }
  return { id: `boundary-${seq}`, purpose: "unknown" };
}
