/** CBOR for the store's small documents: plain values in, plain values out; what can not be decoded is `undefined`. */
import { Encoder } from "cbor-x/encode";

const codec = new Encoder({ useRecords: false, variableMapSize: true, tagUint8Array: false });

export function encodeBody(value: unknown): Uint8Array {
  // A copy: the encoder hands out views of a buffer that it goes on using.
  return Uint8Array.from(codec.encode(value));
}

export function decodeBody(bytes: Uint8Array): { readonly value: unknown } | undefined {
  try {
    return { value: codec.decode(Uint8Array.from(bytes)) };
  } catch {
    // Deep nesting ends in a RangeError, lengths that lie in an Error: the same to the caller.
    return undefined;
  }
}
