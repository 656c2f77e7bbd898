/**
 * What a client sends: small pieces are gathered, large ones go out from where they lie. Everything that becomes due in one event
 * leaves in as few writes as possible, as every good client does it.
 */

/** Below this a copy is cheaper than a system call of its own. */
const gatheredBytesMax = 65536;
const gatherBytes = 262144;

export class Output {
  #socket: Bun.Socket<undefined> | null = null;
  /** What waits, in order; the last one may be the open gather buffer's part. */
  readonly #pieces: Uint8Array[] = [];
  /** Gather buffers that are full, until their last piece has left; then they are spare. */
  readonly #full = new Set<ArrayBufferLike>();
  readonly #spare: ArrayBufferLike[] = [];
  #sentOfFirst = 0;
  #gather: Uint8Array = new Uint8Array(gatherBytes);
  #gatherStart = 0;
  #gatherEnd = 0;

  use(socket: Bun.Socket<undefined>): void {
    this.#socket = socket;
  }

  /** `bytes` may be reused at once if they are at most `gatheredBytesMax`, otherwise they stay as they are until they have left. */
  append(bytes: Uint8Array): void {
    if (bytes.byteLength > gatheredBytesMax) {
      this.#seal();
      this.#pieces.push(bytes);
      return;
    }
    if (this.#gatherEnd + bytes.byteLength > this.#gather.byteLength) {
      this.#seal();
      this.#full.add(this.#gather.buffer);
      this.#gather = new Uint8Array(this.#spare.pop() ?? new ArrayBuffer(gatherBytes));
      this.#gatherStart = 0;
      this.#gatherEnd = 0;
    }
    this.#gather.set(bytes, this.#gatherEnd);
    this.#gatherEnd += bytes.byteLength;
  }

  #seal(): void {
    if (this.#gatherEnd === this.#gatherStart) return;
    this.#pieces.push(this.#gather.subarray(this.#gatherStart, this.#gatherEnd));
    this.#gatherStart = this.#gatherEnd;
  }

  push(): void {
    this.#seal();
    const socket = this.#socket!;
    while (this.#pieces.length > 0) {
      const first = this.#pieces[0]!;
      const rest = this.#sentOfFirst === 0 ? first : first.subarray(this.#sentOfFirst);
      const sent = socket.write(rest);
      if (sent < rest.byteLength) {
        this.#sentOfFirst += Math.max(0, sent);
        return;
      }
      this.#sentOfFirst = 0;
      this.#pieces.shift();
      if (this.#full.has(first.buffer) && !this.#pieces.some((piece) => piece.buffer === first.buffer)) {
        this.#full.delete(first.buffer);
        this.#spare.push(first.buffer);
      }
    }
    // All has left: the open buffer is as good as new.
    this.#gatherStart = 0;
    this.#gatherEnd = 0;
  }
}
