/** What every part of one group's replication shares. */
import type { Clock } from "../../hal/api/clock.ts";
import { toHex } from "../codec/bytes.ts";
import type { ReplicationLog } from "../log/replication_log.ts";
import type { EventFields } from "../manage/events.ts";
import type { ReplicationSettings } from "../peer/limits.ts";
import type { GroupPort } from "../volume/group_port.ts";
import type { DocumentKeeper } from "./document_keeper.ts";

export interface GroupContext {
  readonly port: GroupPort;
  readonly log: ReplicationLog;
  readonly clock: Clock;
  readonly settings: ReplicationSettings;
  readonly keeper: DocumentKeeper;
  /** An event with the group's name among its fields. */
  emit(code: string, text: string, fields?: EventFields): void;
}

/** A fresh identity: 32 hex digits. */
export function newId(context: { readonly port: GroupPort }): string {
  return toHex(context.port.entropy.fill(new Uint8Array(16)));
}

/** The timeline that `seq` of this log was written on; the oldest one known for seqs before it. */
export function timelineAt(log: ReplicationLog, seq: number): string {
  const lineage = log.lineage();
  for (let index = lineage.length - 1; index >= 0; index--) {
    const entry = lineage[index]!;
    if (entry.firstSeq <= seq) return entry.timeline;
  }
  return lineage[0]?.timeline ?? "0".repeat(32);
}

/** The newest timeline of the log. */
export function currentTimeline(log: ReplicationLog): string {
  const lineage = log.lineage();
  return lineage[lineage.length - 1]?.timeline ?? "0".repeat(32);
}
