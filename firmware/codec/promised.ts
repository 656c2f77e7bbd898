/** Callback to promise, for cold paths: management and start-up. The hot path stays with callbacks. */

/** Resolves with what the callback gets as error (null: fine). */
export function whenDone<E>(start: (done: (error: E | null) => void) => void): Promise<E | null> {
  return new Promise((resolve) => start(resolve));
}

/** Resolves with error and value of a two-argument callback. */
export function whenAnswered<E, T>(
  start: (done: (error: E | null, value: T) => void) => void,
): Promise<{ error: E | null; value: T }> {
  return new Promise((resolve) => start((error, value) => resolve({ error, value })));
}
