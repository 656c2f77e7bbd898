/** Gathers the text of one exchange over several PDUs (C bit), up to a limit. */
import type { PayloadSink } from "./pdu_parser.ts";

const empty = new Uint8Array(0);

export class TextBuffer implements PayloadSink {
  overflow = false;
  private readonly bytesMax: number;
  private bytes: Uint8Array = empty;
  private used = 0;

  constructor(bytesMax: number) {
    this.bytesMax = bytesMax;
  }

  get usedBytes(): number {
    return this.used;
  }

  piece(piece: Uint8Array): void {
    if (this.overflow || this.used + piece.byteLength > this.bytesMax) {
      this.overflow = true;
      return;
    }
    if (this.used + piece.byteLength > this.bytes.byteLength) {
      const larger = new Uint8Array(Math.min(this.bytesMax, Math.max(1024, 2 * (this.used + piece.byteLength))));
      larger.set(this.bytes.subarray(0, this.used));
      this.bytes = larger;
    }
    this.bytes.set(piece, this.used);
    this.used += piece.byteLength;
  }

  /** What has been gathered; the buffer is empty afterwards. */
  take(): Uint8Array {
    const taken = this.bytes.subarray(0, this.used);
    this.bytes = empty;
    this.used = 0;
    this.overflow = false;
    return taken;
  }
}
