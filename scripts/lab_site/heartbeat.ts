/** How often the partners of a lab's pairs send heartbeats, and how many may be missed: `50x5`. */

export interface Heartbeat {
  readonly everyMs: number;
  readonly missedMax: number;
}

/** The bounds are those of the board profile; null: not of this form, or out of bounds. */
export function parseHeartbeat(text: string): Heartbeat | null {
  const found = /^(\d{1,5})x(\d{1,3})$/.exec(text);
  if (found === null) return null;
  const [everyMs, missedMax] = [Number(found[1]), Number(found[2])];
  return everyMs >= 10 && everyMs <= 10_000 && missedMax >= 3 && missedMax <= 100 ? { everyMs, missedMax } : null;
}

export const heartbeatForm = 'must be like "50x5": every 50 ms (10 to 10000), 5 missed (3 to 100)';
