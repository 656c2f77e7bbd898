/** A group as replication and role logic see it: `GroupPort` over `Group`. No logic of its own. */

import type { ReplicationLog } from "../log/replication_log.ts";
import { AsOfEncoder } from "./as_of.ts";
import type { Group } from "./group.ts";
import type { GroupPort } from "./group_port.ts";

/** Names the array and the appliance that the group lives on. `served`: what hosts may do has been settled, anew or as it was. */
export function replicationPort(
  group: Group,
  place: { readonly array: string; readonly appliance: string },
  served: () => void = () => {},
): GroupPort {
  const encoder = new AsOfEncoder(group.digests, group.groupTag);
  return {
    id: group.id,
    name: group.name,
    array: place.array,
    appliance: place.appliance,
    clock: group.clock,
    entropy: group.entropy,
    digests: group.digests,
    events: group.events,
    log: replicationLog(group),
    replicationDocument: () => group.replicationDocument(),
    saveReplicationDocument: (document, done) => group.saveReplicationDocument(document, done),
    get cacheWasLost() {
      return group.cacheWasLost;
    },
    acceptCacheLoss: () => {
      group.cacheWasLost = false;
    },
    serving: () => group.serving(),
    setServing: (serving) => {
      group.setServing(serving);
      served();
    },
    holdWrites: () => group.admission.hold(),
    releaseWrites: () => group.admission.release(),
    openForWriting: (done) => group.openForWriting(done),
    closeForWriting: () => group.admission.close("not-ready"),
    followPrimary: () => {
      if (group.log.heardSeq === Number.POSITIVE_INFINITY) group.log.followPrimary(group.log.commitSeq);
    },
    drainToHome: (done) => group.drainToHome(done),
    forkHere: (id, done) => group.forkHere(id, done),
    dropFork: (id, done) => group.dropFork(id, done),
    forks: () => group.forks(),
    promoteFork: (id, keepAs, done) => group.promoteFork(id, keepAs, done),
    resetLog: (position, done) => group.resetLog(position, done),
    volumes: () => group.volumes(),
    readAsOf: (volume, firstBlock, target, done) => {
      const from = group.log.commitSeq;
      group.head.readSoon(volume, firstBlock, target, (error) => done(error, { from, through: group.log.commitSeq }));
    },
    extentsAsOf: (volume, range, done) => {
      const from = group.log.commitSeq;
      group.head.extents(volume, range, (error, extents) =>
        done(error, extents, { from, through: group.log.commitSeq }),
      );
    },
    encodeChunk: (asOf, volume, firstBlock, bytes) => encoder.chunk(asOf, volume, firstBlock, bytes),
    encodeHole: (asOf, volume, firstBlock, blockCount) => encoder.hole(asOf, volume, firstBlock, blockCount),
    encodeTable: (asOf, volumes) => encoder.table(asOf, volumes, group.nextVolumeNumber()),
    writeBoundary: (id, purpose, done) => group.writeBoundary(id, purpose, done),
    writeConsistentAt: (peer, done) => group.writeConsistentAt(peer, done),
    onBoundary: (listener) => group.onBoundary(listener),
    onConsistentAt: (listener) => group.onConsistentAt(listener),
    readFork: (id, volume, firstBlock, target, done) => group.readFork(id, volume, firstBlock, target, done),
    forkExtents: (id, volume, range, done) => group.store.extents(id, volume, range, done),
    forkVolumes: (id) => group.store.volumes(id),
  };
}

/** Space in the pool may come about without a word to this group's log: it is asked for again. */
const spaceRetryMs = 1000;

function replicationLog(group: Group): ReplicationLog {
  const { log, cursors, room, receiver } = group;
  const roomListeners: (() => void)[] = [];
  let retrying = false;
  const retryLater = () => {
    if (retrying) return;
    retrying = true;
    group.clock.after(spaceRetryMs, () => {
      retrying = false;
      for (const listener of roomListeners) listener();
    });
  };
  return {
    lineage: () => log.lineage(),
    recordPayloadBytes: log.recordPayloadBytes,
    get headSeq() {
      return log.headSeq;
    },
    get persistedSeq() {
      return log.persistedSeq;
    },
    get commitSeq() {
      return log.commitSeq;
    },
    get destagedSeq() {
      return log.destagedSeq;
    },
    get commitWallMs() {
      return log.commitWallMs;
    },
    get appendedRecords() {
      return log.appendedRecords;
    },
    get persistedRecords() {
      return log.persistedRecords;
    },
    bytesAfter: (seq) => cursors.bytesAfter(seq),
    wallMsAfter: (seq) => cursors.wallMsAfter(seq),
    cursorAfter: (seq) => cursors.cursorAfter(seq),
    next: (cursor, throughSeq, maxBytes) => cursors.next(cursor, throughSeq, maxBytes),
    load: (cursor, throughSeq, maxBytes, done) => cursors.load(cursor, throughSeq, maxBytes, done),
    retain: (peer, seq) => room.retain(peer, seq),
    release: (peer) => room.release(peer),
    onOverflow: (listener) => room.onOverflow(listener),
    require: (peer, receivedSeq) => log.require(peer, receivedSeq),
    appendRun: (bytes) => {
      const outcome = receiver.appendRun(bytes);
      if (outcome.kind === "busy") {
        room.reclaim();
        group.destager.kick();
        if (outcome.noSpace) {
          retryLater();
          // What is on its way home gives back what it has set aside too much; behind it there is nothing to be hoped for.
          if (group.destager.records >= log.appendedRecords) group.poolFull.refusedCopy(group.name);
        }
      }
      return outcome;
    },
    onRoom: (listener) => {
      roomListeners.push(listener);
      log.nvram.onRoom(listener);
      log.onDestaged(listener);
    },
    hearCommit: (seq) => log.hearCommit(seq),
    onPersisted: (listener) => log.onPersisted(listener),
    onCommitted: (listener) => log.onCommitted(listener),
    onDestaged: (listener) => log.onDestaged(listener),
    onAdmitted: (listener) => log.onAdmitted(listener),
  };
}
