/** What the main loop and the worker of heartbeats.ts share: 32-bit words, each written by one of the two. */

/** Of the process. */
export const turnsWord = 0;

/** Of a channel: the main loop writes the first four, the worker the others. */
export const word = {
  cut: 0,
  latencyMs: 1,
  jitterMs: 2,
  /** 0 to 1,000,000. */
  lossMillionths: 3,
  silentMs: 4,
  stillMs: 5,
  turns: 6,
} as const;
export const channelWords = 8;

export function sharedWords(count: number): Int32Array<SharedArrayBuffer> {
  return new Int32Array(new SharedArrayBuffer(count * 4));
}

/** To the worker. */
export type HeartbeatOrder =
  /** The first one. */
  | { readonly kind: "begin"; readonly turns: Int32Array }
  | {
      readonly kind: "open";
      readonly id: number;
      readonly words: Int32Array;
      /** `HOST:PORT` both. */
      readonly listen: string;
      readonly address: string;
      readonly intervalMs: number;
      readonly sendKey: Uint8Array;
      readonly hearKey: Uint8Array;
    }
  | { readonly kind: "close"; readonly id: number };

/** From the worker: what is wrong with a channel; null: nothing any more. */
export interface HeartbeatTrouble {
  readonly id: number;
  readonly text: string | null;
}
