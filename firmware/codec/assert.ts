/** A broken invariant: the appliance stops, its partner (or its next start) takes over. */
export class BrokenInvariant extends Error {}

/** Throws `BrokenInvariant` unless `condition` holds. Stays on in production. */
export function assert(condition: boolean, what: string): asserts condition {
  if (!condition) throw new BrokenInvariant(what);
}
