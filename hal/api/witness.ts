/** A third place that grants the right to go on, one holder at a time, for a limited time. */
export interface Witness {
  /**
   * Asks for (or renews) the grant of `key` for `holder`. The grant counts from before the request was sent and ends after
   * `ttlMs`. `done` gets the holder in force, or null when the witness does not answer.
   */
  acquire(key: string, holder: string, ttlMs: number, done: (holder: string | null) => void): void;
}
