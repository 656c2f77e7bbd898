/**
 * Recovery: from the segments found in the cache and on the shelf to a log that goes on. Every start is a recovery.
 *
 * The story: collect the segments of the group by ordinal (the cache's copy counts through `validThrough`; beyond it, and where
 * there is none, the shelf's); walk the records in order, as long as each continues the one before; an opening record whose
 * parent lies further back drops what it leaves behind. What remains is the log; what recovery has stored into the cache itself is
 * persisted before anyone relies on it.
 *
 * Invariants:
 * - Only a contiguous sequence is kept: a record counts only right behind the one before it, on the same timeline, or as the opening
 *   of a timeline whose parent was found. What stands behind a torn record counts for nothing, but it hides nothing either: a later
 *   segment may hold the timeline that went on without it.
 * - Of two places of one record that in the later segment counts: every recovery ends the segments that it finds, and what it left
 *   behind such an end (copies that were revoked then, and are not now) may come to light after the log has gone on without it.
 * - A place on the shelf that cannot be read is given up only when nothing acknowledged can lie there.
 * - In memory at one time: the cache, what is copied into it, and one segment more.
 * - Records at or below `destagedSeq` are kept for peers only; a hole among them costs the older part, never the newer.
 * - Of segments at home at most the quota stays on the shelf alone: those beyond it had a copy there for write-through, and their
 *   place in the cache is taken again, as far as the group's share of the cache goes.
 */
import type { Digests } from "../../hal/api/digests.ts";
import type { Nvram } from "../cache/nvram.ts";
import { alignUp } from "../codec/bytes.ts";
import type { LineageEntry } from "../peer/lineage.ts";
import type { GroupStore, LogSlot, StoreError } from "../store/store.ts";
import { logLimits } from "./limits.ts";
import {
  decodeHeader,
  emptyHeader,
  headerTimeline,
  isAsOf,
  parentTimeline,
  payloadIsIntact,
  type RecordHeader,
  RecordKind,
  type Region,
  regionOf,
} from "./record.ts";
import { decodeCells, decodeSegmentHeader, type LogSegment, type SegmentHeader } from "./segment.ts";
import { endsBefore, type LogPlace } from "./segment_list.ts";
import type { WriteLog } from "./write_log.ts";

export interface RecoveryStart {
  /** The group at home, durably. */
  readonly destagedSeq: number;
  readonly destagedPlace: LogPlace;
  /** The lineage through `destagedSeq` (it may know later timelines too). */
  readonly lineage: readonly LineageEntry[];
  /** No ordinal below was handed out since. */
  readonly nextOrdinal: number;
  /** Segments with lower ordinals had gone from the log, whatever still lies in their places: none of their records counts. */
  readonly firstOrdinal: number;
  /** null: the cache is not to be believed. "open": all of it; a number: records up to that seq. */
  readonly cacheValidThrough: number | "open" | null;
  /** What was known to be committed at the last commit of the root. */
  readonly commitSeq: number;
  /** How much of the log may lie on the shelf alone, bytes. */
  readonly quotaBytes: number;
}

export interface Recovered {
  readonly headSeq: number;
  readonly records: number;
  readonly droppedRecords: number;
  /** Records that were durable are neither at home nor in the log: a medium has lost them. */
  readonly durableLost: boolean;
}

interface Candidate {
  readonly header: SegmentHeader;
  slot: number;
  shelfSlot: LogSlot | null;
  /** null: on the shelf, not in memory now. */
  region: Region | null;
  base: number;
  fromShelf: boolean;
}

/** One record found, in order. Parallel arrays: a cache full of small records has hundreds of thousands. */
interface Found {
  readonly candidate: number[];
  readonly offset: number[];
  readonly end: number[];
  readonly seq: number[];
  readonly wallMs: number[];
  readonly firstOf: number[];
}

export function recoverLog(
  log: WriteLog,
  store: GroupStore,
  start: RecoveryStart,
  destagedPlace: LogPlace,
  done: (error: StoreError | null, recovered: Recovered) => void,
): void {
  const none = { headSeq: 0, records: 0, droppedRecords: 0, durableLost: false };
  readShelfSegments(log, store, start, (error, onShelf) => {
    if (error !== null) return done(error, none);
    const inCache = start.cacheValidThrough === null ? [] : cacheSegments(log);
    loadRivals(log, store, inCache, onShelf, start, (loadError) => {
      if (loadError !== null) return done(loadError, none);
      const candidates = merge(log, inCache, onShelf, start);
      walk(log, store, candidates, start, (walkError, walked) => {
        if (walkError !== null || walked === null) return done(walkError, none);
        const placed = adopt(log, candidates, walked, start, destagedPlace);
        if (typeof placed === "string") return done({ code: "corrupt", text: placed }, none);
        done(null, placed);
      });
    });
  });
}

function cacheSegments(log: WriteLog): Candidate[] {
  const found: Candidate[] = [];
  const { region } = log.list;
  for (let slot = 0; slot < log.nvram.segmentCount; slot++) {
    const base = log.nvram.baseOf(slot);
    const header = decodeSegmentHeader(region, base, log.digests);
    if (header?.groupId === log.groupId) found.push({ header, slot, shelfSlot: null, region, base, fromShelf: false });
  }
  return found;
}

/** The slots in the cache that belong to `groupId`: all others are free for other groups. */
export function cacheSlotsOf(nvram: Nvram, digests: Digests): Map<string, number[]> {
  const slots = new Map<string, number[]>();
  for (let slot = 0; slot < nvram.segmentCount; slot++) {
    const header = decodeSegmentHeader(nvram.region, nvram.baseOf(slot), digests);
    if (header === null) continue;
    const list = slots.get(header.groupId) ?? [];
    list.push(slot);
    slots.set(header.groupId, list);
  }
  return slots;
}

/** Finds the segments on the shelf by their header pages. */
function readShelfSegments(
  log: WriteLog,
  store: GroupStore,
  start: RecoveryStart,
  done: (error: StoreError | null, found: Candidate[]) => void,
): void {
  const slots = [...store.logSlots()];
  const found: Candidate[] = [];
  const next = (): void => {
    const slot = slots.shift();
    if (slot === undefined) return done(null, found);
    const head = regionOf(new Uint8Array(4096));
    store.readLogSlot(slot, 0, head.bytes, (error) => {
      // While the cache's copy is the good one, the shelf holds nothing for hosts that is not in the cache or at home.
      if (error !== null && start.cacheValidThrough !== "open") return done(unreadable(error), []);
      const header = error === null ? decodeSegmentHeader(head, 0, log.digests) : null;
      if (header?.groupId !== log.groupId) store.freeLogSlot(slot);
      else found.push({ header, slot: -1, shelfSlot: slot, region: null, base: 0, fromShelf: true });
      next();
    });
  };
  next();
}

function unreadable(error: StoreError): StoreError {
  return {
    ...error,
    text: `the write log on the shelf cannot be read, and it may hold acknowledged writes: ${error.text}`,
  };
}

/** Reads the segment of `candidate` unless it is in memory. Where it cannot be read, its records are as good as absent. */
function load(
  log: WriteLog,
  store: GroupStore,
  candidate: Candidate,
  start: RecoveryStart,
  done: (error: StoreError | null) => void,
): void {
  if (candidate.region !== null) return done(null);
  const region = regionOf(new Uint8Array(log.nvram.segmentBytes));
  store.readLogSlot(candidate.shelfSlot!, 0, region.bytes, (error) => {
    const forPeersOnly = candidate.header.ordinal < start.destagedPlace.ordinal;
    if (error !== null && start.cacheValidThrough !== "open" && !forPeersOnly) return done(unreadable(error));
    if (error !== null) region.bytes.fill(0);
    candidate.region = region;
    done(null);
  });
}

/** Brings those segments of the shelf into memory whose other copy, in the cache, they are compared with. */
function loadRivals(
  log: WriteLog,
  store: GroupStore,
  inCache: readonly Candidate[],
  onShelf: readonly Candidate[],
  start: RecoveryStart,
  done: (error: StoreError | null) => void,
): void {
  const ordinals = new Set(inCache.map((candidate) => candidate.header.ordinal));
  const rivals = onShelf.filter((candidate) => ordinals.has(candidate.header.ordinal));
  const next = (): void => {
    const candidate = rivals.shift();
    if (candidate === undefined) return done(null);
    load(log, store, candidate, start, (error) => {
      if (error !== null) done(error);
      else next();
    });
  };
  next();
}

/**
 * One candidate per ordinal. Where the cache's copy ends early (its validity was revoked), the shelf's copy of the same segment is
 * the longer one and is taken; where the copy to the shelf had just begun, the cache's.
 */
function merge(
  log: WriteLog,
  inCache: readonly Candidate[],
  onShelf: readonly Candidate[],
  start: RecoveryStart,
): Candidate[] {
  const byOrdinal = new Map<number, Candidate>();
  for (const candidate of inCache) {
    const { ordinal, firstSeq } = candidate.header;
    const rival = byOrdinal.get(ordinal);
    if (ordinal < start.firstOrdinal || (rival !== undefined && rival.header.firstSeq >= firstSeq)) {
      log.nvram.release(candidate.slot);
      continue;
    }
    if (rival !== undefined) log.nvram.release(rival.slot);
    byOrdinal.set(ordinal, candidate);
  }
  for (const candidate of onShelf) {
    const { ordinal, firstSeq } = candidate.header;
    const rival = byOrdinal.get(ordinal);
    const counts = ordinal >= start.firstOrdinal && (rival === undefined || rival.header.firstSeq === firstSeq);
    if (!counts || rival?.shelfSlot != null) log.list.onShelfSlotFree(candidate.shelfSlot!);
    else if (rival === undefined) byOrdinal.set(ordinal, candidate);
    else if (validEnd(log, rival, start) > validEnd(log, candidate, start)) rival.shelfSlot = candidate.shelfSlot;
    else byOrdinal.set(ordinal, { ...candidate, slot: rival.slot });
  }
  return [...byOrdinal.values()].sort((a, b) => a.header.ordinal - b.header.ordinal);
}

/** Where the valid records of a segment end. */
function validEnd(log: WriteLog, candidate: Candidate, start: RecoveryStart): number {
  const region = candidate.region!;
  const header = emptyHeader();
  const limit = candidate.base + log.nvram.segmentBytes;
  let at = candidate.base + logLimits.segmentHeaderBytes;
  for (;;) {
    let next = at;
    if (!validAt(log, region, next, limit, header)) {
      next = candidate.base + alignUp(at - candidate.base + 1, 4096);
      if (next >= limit || !validAt(log, region, next, limit, header)) return at - candidate.base;
    }
    if (isLeftover(candidate, header) || isRevoked(candidate, header, start)) return at - candidate.base;
    at = next + header.totalBytes;
  }
}

/** A record of an earlier use of the slot: every record of a segment is at or above the segment's first seq. */
function isLeftover(candidate: Candidate, header: RecordHeader): boolean {
  return header.firstSeq < candidate.header.firstSeq - (isAsOf(header.kind) ? 1 : 0);
}

/** A record in the cache beyond what its copy is valid for. */
function isRevoked(candidate: Candidate, header: RecordHeader, start: RecoveryStart): boolean {
  return (
    !candidate.fromShelf && typeof start.cacheValidThrough === "number" && header.lastSeq > start.cacheValidThrough
  );
}

interface Walked extends Found {
  lineage: LineageEntry[];
  headSeq: number;
  dropped: number;
  commitSeq: number;
}

function walk(
  log: WriteLog,
  store: GroupStore,
  candidates: readonly Candidate[],
  start: RecoveryStart,
  done: (error: StoreError | null, walked: Walked | null) => void,
): void {
  const walked: Walked = {
    candidate: [],
    offset: [],
    end: [],
    seq: [],
    wallMs: [],
    firstOf: [],
    lineage: start.lineage.filter((entry) => entry.firstSeq <= start.destagedSeq),
    headSeq: start.destagedSeq,
    dropped: 0,
    commitSeq: Math.max(start.commitSeq, start.destagedSeq),
  };
  const staying = stayingOnShelf(store, candidates, start);
  const next = (index: number): void => {
    const candidate = candidates[index];
    if (candidate === undefined) return done(null, walked);
    load(log, store, candidate, start, (error) => {
      if (error !== null) return done(error, null);
      walkSegment(log, walked, candidate, index, start);
      if (staying.has(candidate)) candidate.region = null;
      next(index + 1);
    });
  };
  next(0);
}

/** The oldest segments that are at home, as far as the quota goes: all others are to be in the cache. */
function stayingOnShelf(store: GroupStore, candidates: readonly Candidate[], start: RecoveryStart): Set<Candidate> {
  const home = candidates.filter((one) => one.slot < 0 && one.header.ordinal < start.destagedPlace.ordinal);
  return new Set(home.slice(0, Math.floor(start.quotaBytes / store.logSlotBytes)));
}

function walkSegment(log: WriteLog, walked: Walked, candidate: Candidate, index: number, start: RecoveryStart): void {
  const header = emptyHeader();
  const region = candidate.region!;
  const limit = candidate.base + log.nvram.segmentBytes;
  let at = candidate.base + logLimits.segmentHeaderBytes;
  while (at < limit) {
    if (!validAt(log, region, at, limit, header)) {
      const aligned = candidate.base + alignUp(at - candidate.base + 1, 4096);
      if (aligned >= limit || !validAt(log, region, aligned, limit, header)) break;
      at = aligned;
    }
    if (isLeftover(candidate, header) || isRevoked(candidate, header, start)) break;
    const parent = header.kind === RecordKind.opening ? parentTimeline(region, at) : null;
    if (!take(walked, header, parent, start, index, at - candidate.base)) break;
    walked.commitSeq = Math.max(walked.commitSeq, Math.min(header.commitSeq, header.lastSeq));
    at += header.totalBytes;
  }
  const cell = decodeCells(region, candidate.base, log.groupId, log.digests);
  const entry = walked.lineage.findIndex((known) => known.timeline === cell?.timeline);
  if (cell === null || entry < 0) return;
  // What was committed on a timeline that was left counts as far as the point where it was left.
  const endSeq = (walked.lineage[entry + 1]?.firstSeq ?? Number.POSITIVE_INFINITY) - 1;
  walked.commitSeq = Math.max(walked.commitSeq, Math.min(cell.commitSeq, endSeq));
}

function validAt(log: WriteLog, region: Region, at: number, limit: number, header: RecordHeader): boolean {
  return (
    decodeHeader(region, at, limit, log.groupTag, log.digests, header) &&
    payloadIsIntact(region, at, header, log.digests)
  );
}

/** Takes the record if it continues what was found; false ends this segment. */
function take(
  walked: Walked,
  header: RecordHeader,
  parent: string | null,
  start: RecoveryStart,
  candidate: number,
  offset: number,
): boolean {
  const last = walked.seq.length === 0 ? null : walked.seq[walked.seq.length - 1]!;
  // The record that it stands behind.
  const behind = isAsOf(header.kind) ? header.firstSeq : header.firstSeq - 1;
  const isInLaterSegment = candidate !== walked.candidate[walked.candidate.length - 1];
  if (header.lastSeq <= start.destagedSeq) {
    if (!isAsOf(header.kind) && timelineAt(start.lineage, header.firstSeq) !== headerTimeline(header)) return false;
    if (last !== null && behind < last) {
      if (!isInLaterSegment) return false;
      dropAbove(walked, behind, start, false);
    }
    // A hole among records that are at home already: what is older serves nobody any more.
    else if (last !== null && behind > last) forget(walked);
    push(walked, header, candidate, offset);
    return true;
  }
  if (behind > walked.headSeq || behind < start.destagedSeq) return false;
  const timeline = timelineAt(walked.lineage, behind);
  if (parent !== null) {
    if (timeline !== undefined && timeline !== parent) return false;
    dropAbove(walked, behind, start, true);
    walked.lineage.push({ timeline: headerTimeline(header), firstSeq: header.firstSeq });
  } else {
    if (timeline !== headerTimeline(header)) return false;
    if (behind < walked.headSeq) {
      if (!isInLaterSegment) return false;
      dropAbove(walked, behind, start, false);
    }
  }
  // What lies at home already may end before destagedSeq: then it serves nobody any more.
  const before = walked.seq[walked.seq.length - 1];
  if (before !== undefined && before !== walked.headSeq) forget(walked);
  push(walked, header, candidate, offset);
  walked.headSeq = header.lastSeq;
  return true;
}

function push(walked: Walked, header: RecordHeader, candidate: number, offset: number): void {
  walked.candidate.push(candidate);
  walked.offset.push(offset);
  walked.end.push(offset + header.totalBytes);
  walked.seq.push(header.lastSeq);
  // An as-of record carries the seq of the record before it, which may lie in the segment before.
  walked.firstOf.push(isAsOf(header.kind) ? header.firstSeq + 1 : header.firstSeq);
  walked.wallMs.push(header.wallMs);
}

function forget(walked: Walked): void {
  for (const list of [walked.candidate, walked.offset, walked.end, walked.seq, walked.firstOf, walked.wallMs])
    list.length = 0;
}

function timelineAt(lineage: readonly LineageEntry[], seq: number): string | undefined {
  return lineage.findLast((known) => known.firstSeq <= seq)?.timeline;
}

/** What was found above `seq` does not count: the log has gone on from there, `opens`: on a new timeline. */
function dropAbove(walked: Walked, seq: number, start: RecoveryStart, opens: boolean): void {
  let keep = walked.seq.length;
  while (keep > 0 && walked.seq[keep - 1]! > seq) keep--;
  walked.dropped += walked.seq.length - keep;
  for (const list of [walked.candidate, walked.offset, walked.end, walked.seq, walked.firstOf, walked.wallMs])
    list.length = keep;
  walked.headSeq = Math.max(seq, start.destagedSeq);
  const lineage = walked.lineage.filter((known) => known.firstSeq <= walked.headSeq);
  // What was committed on a timeline that was left counts as far as the point where it was left.
  if (opens || lineage.length < walked.lineage.length) walked.commitSeq = Math.min(walked.commitSeq, walked.headSeq);
  walked.lineage = lineage;
}

/** Builds the log from what was found. Returns a sentence when it cannot. */
function adopt(
  log: WriteLog,
  candidates: readonly Candidate[],
  walked: Walked,
  start: RecoveryStart,
  destagedPlace: LogPlace,
): Recovered | string {
  const segments = new Map<number, LogSegment>();
  for (let index = 0; index < walked.seq.length; index++) {
    const candidate = candidates[walked.candidate[index]!]!;
    let segment = segments.get(candidate.header.ordinal);
    if (segment === undefined) {
      segment = {
        ordinal: candidate.header.ordinal,
        firstSeq: walked.firstOf[index]!,
        lastSeq: walked.firstOf[index]! - 1,
        firstWallMs: walked.wallMs[index]!,
        slot: candidate.slot,
        base: candidate.slot < 0 ? 0 : log.nvram.baseOf(candidate.slot),
        usedBytes: logLimits.segmentHeaderBytes,
        sealed: true,
        shelfSlot: candidate.shelfSlot,
        shelfBytes: 0,
        pinned: false,
        gone: false,
      };
      segments.set(segment.ordinal, segment);
    }
    segment.lastSeq = Math.max(segment.lastSeq, walked.seq[index]!);
    segment.usedBytes = walked.end[index]!;
    if (candidate.fromShelf) segment.shelfBytes = alignUp(segment.usedBytes, 4096);
  }
  log.list.nextOrdinal = start.nextOrdinal;
  for (const candidate of candidates)
    log.list.nextOrdinal = Math.max(log.list.nextOrdinal, candidate.header.ordinal + 1);
  const ordered = [...segments.values()].sort((a, b) => a.ordinal - b.ordinal);
  const trouble = bringIn(log, candidates, ordered, start.destagedPlace);
  if (trouble !== null) return trouble;
  log.list.segments.push(...ordered);
  log.setLineage(walked.lineage);
  const records = countAfter(candidates, walked, start.destagedPlace);
  log.destagedSeq = start.destagedSeq;
  destagedPlace.ordinal = start.destagedPlace.ordinal;
  destagedPlace.offset = start.destagedPlace.offset;
  log.adopt({
    headSeq: walked.headSeq,
    commitSeq: start.destagedSeq,
    records,
    committedRecords: 0,
    commitPlace: destagedPlace,
  });
  log.knownCommitSeq = Math.min(walked.commitSeq, walked.headSeq);
  // Not `walked.commitSeq`: a golden copy's cells tell what its primary has committed, which may never have been durable here.
  const durableLost = Math.max(start.commitSeq, durableBehind(candidates, walked)) > walked.headSeq;
  return { headSeq: walked.headSeq, records, droppedRecords: walked.dropped, durableLost };
}

/** What had been durable when the segments behind the log's end were begun. */
function durableBehind(candidates: readonly Candidate[], walked: Walked): number {
  const last = walked.candidate.at(-1) ?? -1;
  return candidates.slice(last + 1).reduce((most, { header }) => Math.max(most, header.durableSeq), 0);
}

function countAfter(candidates: readonly Candidate[], walked: Walked, place: LogPlace): number {
  let records = 0;
  for (let index = 0; index < walked.seq.length; index++) {
    const { ordinal } = candidates[walked.candidate[index]!]!.header;
    if (ordinal > place.ordinal || (ordinal === place.ordinal && walked.offset[index]! >= place.offset)) records++;
  }
  return records;
}

/**
 * Segments that are not at home must be in the cache, and are brought in first; those at home that are in memory may be: also the one
 * at whose end `destagedPlace` stands, whose place in the cache may have gone to others. The slots and places of unused candidates are
 * given back. `ordered` loses what is at home and has to make room.
 */
function bringIn(
  log: WriteLog,
  candidates: readonly Candidate[],
  ordered: LogSegment[],
  destagedPlace: LogPlace,
): string | null {
  const used = new Set(ordered.map((segment) => segment.ordinal));
  for (const candidate of candidates) {
    if (used.has(candidate.header.ordinal)) continue;
    if (candidate.slot >= 0) log.nvram.release(candidate.slot);
    if (candidate.shelfSlot !== null) log.list.onShelfSlotFree(candidate.shelfSlot);
  }
  for (const segment of [...ordered].reverse()) {
    const candidate = candidates.find((one) => one.header.ordinal === segment.ordinal)!;
    const { region } = candidate;
    if (!candidate.fromShelf || region === null || !ordered.includes(segment)) continue;
    if (segment.slot < 0) {
      const atHome = endsBefore(segment, destagedPlace);
      const slot = atHome ? log.nvram.allocate(log.groupId) : allocateNeeded(log, ordered, destagedPlace);
      if (slot < 0 && atHome) continue;
      if (slot < 0)
        return "the write cache is too small for the log found on the shelf; restore its former size in the profile";
      segment.slot = slot;
      segment.base = log.nvram.baseOf(slot);
    }
    log.list.region.bytes.set(region.bytes.subarray(0, alignUp(segment.usedBytes, 4096)), segment.base);
    log.nvram.wrote(segment.base, alignUp(segment.usedBytes, 4096));
  }
  return null;
}

/**
 * A slot in the cache for what is not at home. An older content of the cache, from before it failed, may fill it with what is at home:
 * that leaves it for its copy on the shelf, or, where it has none, is forgotten with all before it, as it had been when the cache failed.
 * -1: what is not at home fills the cache.
 */
function allocateNeeded(log: WriteLog, ordered: LogSegment[], destagedPlace: LogPlace): number {
  const isAtHome = (segment: LogSegment) => endsBefore(segment, destagedPlace);
  for (;;) {
    const slot = log.nvram.allocateForRecovery(log.groupId);
    if (slot >= 0) return slot;
    const spare = ordered.find((one) => one.slot >= 0 && isAtHome(one) && one.shelfBytes >= one.usedBytes);
    if (spare !== undefined) {
      log.nvram.release(spare.slot);
      spare.slot = -1;
      spare.base = 0;
      continue;
    }
    const oldest = ordered[0];
    if (oldest === undefined || !isAtHome(oldest)) return -1;
    ordered.shift();
    if (oldest.slot >= 0) log.nvram.release(oldest.slot);
    if (oldest.shelfSlot !== null) log.list.onShelfSlotFree(oldest.shelfSlot);
  }
}
