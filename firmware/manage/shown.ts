/** Whether hosts find a group's volumes now. */
import type { GroupEntry } from "./groups.ts";

/**
 * While the role is being found out hosts may not write yet, and would take the volume for a golden copy: an NBD host is told so
 * once, for the whole of its session, and would fail its writes. It is asked to come again instead.
 */
export function isShown({ group, replication }: GroupEntry, goldenAccess: "none" | "read-only"): boolean {
  const { readable, writable } = group.serving();
  if (readable === null) return false;
  return writable || (goldenAccess === "read-only" && replication.settled);
}
