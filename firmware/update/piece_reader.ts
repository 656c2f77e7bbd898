/** Reads exact lengths out of a stream of pieces. Holds no more than the piece that is there, and what it was asked to collect. */

export class PieceReader {
  readonly #pieces: AsyncIterator<Uint8Array>;
  #piece: Uint8Array = new Uint8Array(0);

  constructor(pieces: AsyncIterable<Uint8Array>) {
    this.#pieces = pieces[Symbol.asyncIterator]();
  }

  /** The next `bytes` of it, piece by piece. False: it ends before. */
  async each(bytes: number, use: (piece: Uint8Array) => void | Promise<void>): Promise<boolean> {
    let left = bytes;
    while (left > 0) {
      if (this.#piece.byteLength === 0 && !(await this.#next())) return false;
      const piece = this.#piece.subarray(0, left);
      this.#piece = this.#piece.subarray(piece.byteLength);
      left -= piece.byteLength;
      await use(piece);
    }
    return true;
  }

  /** The next `bytes` as one; the caller has bounded them. null: it ends before. */
  async collect(bytes: number): Promise<Uint8Array | null> {
    const pieces: Uint8Array[] = [];
    // Memory is taken for what has come, not for what was announced.
    const isWhole = await this.each(bytes, (piece) => {
      pieces.push(piece.slice());
    });
    if (!isWhole) return null;
    const whole = new Uint8Array(bytes);
    let at = 0;
    for (const piece of pieces) {
      whole.set(piece, at);
      at += piece.byteLength;
    }
    return whole;
  }

  async isAtEnd(): Promise<boolean> {
    return this.#piece.byteLength === 0 && !(await this.#next());
  }

  /** Whoever gives the pieces may let go of what they come from. */
  async close(): Promise<void> {
    await this.#pieces.return?.();
  }

  async #next(): Promise<boolean> {
    for (;;) {
      const { done, value } = await this.#pieces.next();
      if (done === true) return false;
      if (value.byteLength === 0) continue;
      this.#piece = value;
      return true;
    }
  }
}
