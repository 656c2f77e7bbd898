/** A broken invariant stops the appliance; its next start is a recovery. */
export function assert(condition: boolean, text: string): asserts condition {
  if (!condition) throw new Error(`store: ${text}`);
}
