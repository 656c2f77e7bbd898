/**
 * The receiving side of the log: appending the primary's records to a golden copy.
 *
 * Invariants:
 * - A record is appended only right behind the one before it: same timeline and next seq, or an opening record whose parent is a
 *   point that this log holds; an as-of record only behind the record whose seq it carries.
 * - What is already held is skipped, and must be the same record: another one under a known identity is a divergence.
 */

import { logLimits } from "./limits.ts";
import type { LogCursors } from "./log_cursors.ts";
import {
  clearsBlocks,
  decodeHeader,
  emptyHeader,
  headerTimeline,
  isAsOf,
  isOnTimeline,
  parentTimeline,
  payloadIsIntact,
  type RecordHeader,
  RecordKind,
  readHeader,
  regionOf,
} from "./record.ts";
import type { AppendOutcome } from "./replication_log.ts";
import type { WriteLog } from "./write_log.ts";

type Judgement = "append" | "skip" | AppendOutcome;

export class LogReceiver {
  readonly #log: WriteLog;
  readonly #cursors: LogCursors;
  readonly #header: RecordHeader = emptyHeader();
  readonly #held: RecordHeader = emptyHeader();

  constructor(log: WriteLog, cursors: LogCursors) {
    this.#log = log;
    this.#cursors = cursors;
  }

  appendRun(bytes: Uint8Array): AppendOutcome {
    const log = this.#log;
    const run = regionOf(bytes);
    const header = this.#header;
    let offset = 0;
    while (offset < bytes.byteLength) {
      if (!decodeHeader(run, offset, bytes.byteLength, log.groupTag, log.digests, header)) {
        return { kind: "corrupt", text: `no valid record at byte ${offset} of a run of ${bytes.byteLength}` };
      }
      // A larger one would not fit into a segment of this cache.
      if (header.payloadBytes > Math.max(log.recordPayloadBytes, logLimits.controlPayloadBytes)) {
        return {
          kind: "corrupt",
          text: `record ${header.firstSeq} has ${header.payloadBytes} bytes, too many for this cache`,
        };
      }
      if (!payloadIsIntact(run, offset, header, log.digests)) {
        return { kind: "corrupt", text: `the payload of record ${header.firstSeq} does not match its checksums` };
      }
      const parent = header.kind === RecordKind.opening ? parentTimeline(run, offset) : null;
      const judged = this.#judge(header, parent);
      if (typeof judged === "object") return judged;
      if (judged === "append") {
        if (clearsBlocks(header.kind) && log.index.extentCount >= logLimits.extentsMax)
          return { kind: "busy", takenBytes: offset, noSpace: false };
        const seq = isAsOf(header.kind) ? log.headSeq + 1 : header.firstSeq;
        const at = log.list.place(header.totalBytes, seq, log.persistedSeq);
        if (at < 0) return { kind: "busy", takenBytes: offset, noSpace: false };
        if (!log.ledger.take(header.kind, header.startLba, header.blockCount, header.lastSeq)) {
          return { kind: "busy", takenBytes: offset, noSpace: true };
        }
        if (parent !== null) log.enterTimeline(headerTimeline(header), header.firstSeq);
        log.list.region.bytes.set(bytes.subarray(offset, offset + header.totalBytes), at);
        log.recordAppended(at, header.totalBytes, header.lastSeq, header.wallMs);
      }
      offset += header.totalBytes;
    }
    return { kind: "appended" };
  }

  #judge(header: RecordHeader, parent: string | null): Judgement {
    const log = this.#log;
    if (parent !== null) return this.#judgeOpening(header, parent);
    const onCurrent = isOnTimeline(header, log.timelineWords);
    if (isAsOf(header.kind)) {
      if (onCurrent && header.firstSeq === log.headSeq) return "append";
      if (header.firstSeq <= log.headSeq) return "skip";
      return { kind: "gap", expectedSeq: log.headSeq + 1, gotSeq: header.firstSeq };
    }
    if (header.lastSeq <= log.headSeq) return this.#judgeHeld(header);
    if (header.firstSeq !== log.headSeq + 1) {
      return { kind: "gap", expectedSeq: log.headSeq + 1, gotSeq: header.firstSeq };
    }
    if (onCurrent) return "append";
    return diverged(
      header.firstSeq,
      `record ${header.firstSeq} is on timeline ${headerTimeline(header)}, this copy on ${log.timeline}`,
    );
  }

  #judgeOpening(header: RecordHeader, parent: string): Judgement {
    const log = this.#log;
    const timeline = headerTimeline(header);
    const parentSeq = header.firstSeq - 1;
    const known = log.lineage().find((entry) => entry.timeline === timeline);
    if (known !== undefined) {
      return known.firstSeq === header.firstSeq
        ? "skip"
        : diverged(
            header.firstSeq,
            `timeline ${timeline} began at ${known.firstSeq} here, at ${header.firstSeq} there`,
          );
    }
    if (parentSeq > log.headSeq) return { kind: "gap", expectedSeq: log.headSeq + 1, gotSeq: header.firstSeq };
    const held = parentSeq === 0 ? "0".repeat(32) : (log.timelineOf(parentSeq) ?? log.timeline);
    if (held !== parent && log.lineage().length > 0) {
      return diverged(
        header.firstSeq,
        `timeline ${timeline} continues ${parent}, this copy holds ${held} at ${parentSeq}`,
      );
    }
    if (parentSeq < log.commitSeq) {
      return diverged(
        header.firstSeq,
        `timeline ${timeline} begins at ${header.firstSeq}, this copy has committed ${log.commitSeq}`,
      );
    }
    if (parentSeq < log.headSeq) log.dropAbove(parentSeq);
    return "append";
  }

  #judgeHeld(header: RecordHeader): Judgement {
    const log = this.#log;
    const timeline = headerTimeline(header);
    const held = log.timelineOf(header.firstSeq);
    if (held !== null && held !== timeline) {
      return diverged(header.firstSeq, `record ${header.firstSeq} is on timeline ${timeline} there, on ${held} here`);
    }
    const at = this.#cursors.placeOf(header.firstSeq);
    if (at === null) return "skip";
    readHeader(log.list.region, at, this.#held);
    if (this.#held.headerCrc === header.headerCrc) return "skip";
    return diverged(header.firstSeq, `two different records have the identity (${timeline}, ${header.firstSeq})`);
  }
}

function diverged(seq: number, text: string): AppendOutcome {
  return { kind: "diverged", seq, text };
}
