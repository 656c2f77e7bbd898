/** A port that switches the partner off and proves it. Needed by shelves whose fencing is `power`. */
export interface PowerPort {
  readonly target: string;
  /** Calls `done(true)` only when the target is proven dead. */
  kill(done: (dead: boolean) => void): void;
}
