/**
 * An address at which hosts reach the array, whichever of its appliances owns it: one of them holds it at a time.
 *
 * Invariants:
 * - A hold ends by itself after its time, whatever becomes of the process. What a dead one has left behind serves nobody, and is gone then.
 * - Ports whose `movesWithOwner` is true listen on service addresses, and can do so only while theirs is held.
 * - Neighbours that are told send here what is for the address, whoever held it before.
 */
export interface ServiceAddress {
  /** The IP address. */
  readonly address: string;
  /**
   * Holds the address from now on, or for longer. `done(error)` comes after the call has returned; the text names the address and the
   * cause, and the address may be held or not.
   */
  hold(wish: Hold, done: (error: string | null) => void): void;
  /** Nobody is answered at the address any more. Does nothing when it is not held. */
  release(): void;
}

export interface Hold {
  /** Whole seconds. */
  readonly forMs: number;
  /** Tells the neighbours. */
  readonly announce: boolean;
}
