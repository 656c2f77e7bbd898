/** Waiting for conditions, never for time: the only loop that polls. */

/** Asks `probe` until it returns something other than null, or `limitMs` has passed: null then. */
export async function waitUntil<T>(
  limitMs: number,
  everyMs: number,
  probe: () => T | null | Promise<T | null>,
): Promise<T | null> {
  const endMs = performance.now() + limitMs;
  for (;;) {
    const found = await probe();
    if (found !== null) return found;
    if (performance.now() >= endMs) return null;
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
}
