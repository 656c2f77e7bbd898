/**
 * A chunk of a host's stream while somebody refers to it: the parser that reads it, and each request whose payload lies in it. With the
 * last of them it goes back to the stream, and the next chunk lies in its memory, which is neither faulted in anew nor left to the
 * garbage collector: 1 MiB writes to a pair went from 605 to 770 MB/s with it and the partner's reused memory.
 *
 * Invariant: whoever holds a chunk releases it once; nobody holds one that has gone back.
 */
import type { ByteStream } from "../../hal/api/byte_stream.ts";
import { assert } from "../codec/assert.ts";

export class ReceivedChunk {
  readonly bytes: Uint8Array;
  /** Null: the chunk goes back to nobody. */
  readonly #stream: ByteStream | null;
  #holders = 1;

  /** Held by whoever makes it. `bytes`: whole, as the stream gave it, unless `stream` is null. */
  constructor(bytes: Uint8Array, stream: ByteStream | null) {
    this.bytes = bytes;
    this.#stream = stream;
  }

  hold(): void {
    assert(this.#holders > 0, "a chunk is held before it has gone back");
    this.#holders++;
  }

  release(): void {
    assert(this.#holders > 0, "a chunk is released by those who hold it");
    this.#holders--;
    if (this.#holders === 0) this.#stream?.giveBack(this.bytes);
  }
}

/** Nothing, of no stream. */
export const noChunk = new ReceivedChunk(new Uint8Array(0), null);
