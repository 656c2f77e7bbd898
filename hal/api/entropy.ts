/** Randomness as a parameter: timelines, nonces and identities come from here. */
export interface Entropy {
  /** Fills `target` with random bytes and returns it. */
  fill(target: Uint8Array): Uint8Array;
}
