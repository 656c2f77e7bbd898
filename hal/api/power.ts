/**
 * A port that switches the partner off and proves it. Needed by shelves whose fencing is `power`.
 *
 * Invariants:
 * - A target that is proven dead has no effect on any shelf any more: what it had under way has landed or never will.
 * - The proof is about the incarnation that ran at the time of the call; the target may be started again afterwards.
 */
export interface PowerPort {
  readonly target: string;
  /**
   * True only when the target is proven dead now, at once and without doing anything to it. A port that would have to ask somebody
   * never knows.
   */
  isDead(): boolean;
  /**
   * Kills the target. Calls `done` with null only when it is proven dead, after the call has returned; otherwise with what stands in the
   * way of a proof, the end of a sentence for the operator.
   */
  kill(done: (doubt: string | null) => void): void;
}
