/**
 * What one boot of an array may show its hosts: the committed image, following the log's commitSeq record by record, and what each
 * sector held before, as long as a read under way may still have seen it.
 *
 * A read that was issued at position j0 and answered at j1 may show, sector by sector, the image of any position between them:
 * never anything older (D3, O3), never a write from beyond commitSeq (O1), never a mixture (D5).
 */
import type { Group } from "../../firmware/volume/group.ts";
import type { History, HistoryRecord, Image, Position } from "./history.ts";
import { asBuffer, sectorBytes, stampAt } from "./stamp.ts";

interface JournalEntry {
  readonly record: HistoryRecord;
  /** What the record's sectors held before it, and since which seq. */
  readonly before: Int32Array;
}

export interface ReadTicket {
  readonly view: CopyView;
  readonly epoch: number;
  readonly journalAt: number;
  readonly issuedAt: Position;
}

export interface Misread {
  readonly lba: number;
  /** -1: nothing that was ever written there. */
  readonly found: number;
  readonly allowed: readonly number[];
}

export interface ReadVerdict {
  /** null: as it must be. */
  readonly misread: Misread | null;
  /** The newest seq that this read has certainly shown. */
  readonly shownSeq: number;
}

const journalEntriesMax = 4096;

export class CopyView {
  readonly group: Group;
  readonly array: string;
  position: Position;
  /** Grows when the log was emptied: what came before says nothing about what comes after. */
  epoch = 0;
  readonly #history: History;
  #image: Image;
  /** By sector, the seq of the record that wrote it last. */
  #seqs: Image;
  #journal: JournalEntry[] = [];
  #journalFrom = 0;
  readonly #open = new Set<ReadTicket>();
  #wasEmptied = false;
  #isRebuilding = false;

  constructor(history: History, group: Group, array: string) {
    this.#history = history;
    this.group = group;
    this.array = array;
    this.position = { timeline: history.root, seq: 0 };
    this.#image = history.blankImage();
    this.#seqs = history.blankImage();
    this.#rebuild(this.#committed());
  }

  /** The log was emptied (a resync, a promoted fork): it goes on from wherever it then stands. */
  emptied(): void {
    this.#wasEmptied = true;
  }

  #committed(): Position {
    const { log } = this.group;
    const id = log.timelineOf(log.commitSeq);
    const timeline = (id === null ? undefined : this.#history.timeline(id)) ?? this.#history.root;
    return this.#history.normal({ timeline, seq: log.commitSeq });
  }

  /** Follows the log; the former position when it went where it cannot go, else null. */
  advance(): Position | null {
    const next = this.#committed();
    const { position } = this;
    const wasEmptied = this.#wasEmptied;
    if (!wasEmptied && next.seq === position.seq && next.timeline === position.timeline) return null;
    const records = wasEmptied ? null : this.#history.between(position, next);
    if (records === null) {
      this.#wasEmptied = false;
      this.epoch++;
      this.#rebuild(next);
      return wasEmptied ? null : position;
    }
    for (const record of records) this.#apply(record);
    this.position = next;
    if (this.#journal.length > journalEntriesMax) this.#trim();
    return null;
  }

  image(): Image {
    return this.#image;
  }

  readIssued(): ReadTicket {
    const journalAt = this.#journalFrom + this.#journal.length;
    const ticket = { view: this, epoch: this.epoch, journalAt, issuedAt: this.position };
    this.#open.add(ticket);
    return ticket;
  }

  readForgotten(ticket: ReadTicket): void {
    this.#open.delete(ticket);
  }

  /** Judges what a read has returned; the view has been advanced. */
  judge(ticket: ReadTicket, volumeNumber: number, startLba: number, data: Uint8Array): ReadVerdict {
    const index = this.#history.volumeIndex(volumeNumber);
    const image = this.#image[index]!;
    const seqs = this.#seqs[index]!;
    const bytes = asBuffer(data);
    let shownSeq = 0;
    for (let at = 0, lba = startLba; at < bytes.byteLength; at += sectorBytes, lba++) {
      const found = stampAt(bytes, at, volumeNumber, lba);
      if (found === image[lba]!) {
        const seq = seqs[lba]!;
        // Zeros look alike: newer ones need not be the ones that were seen.
        if (seq > shownSeq && (found > 0 || seq <= ticket.issuedAt.seq)) shownSeq = seq;
        continue;
      }
      const allowed = this.#heldSince(ticket.journalAt, volumeNumber, lba);
      if (!allowed.includes(found)) {
        return { misread: { lba, found, allowed: [...allowed, image[lba]!] }, shownSeq };
      }
    }
    return { misread: null, shownSeq };
  }

  /** What a sector held at any time since journal entry `from`, but for what it holds now. */
  #heldSince(from: number, volume: number, lba: number): number[] {
    const held: number[] = [];
    for (let at = Math.max(0, from - this.#journalFrom); at < this.#journal.length; at++) {
      const { record, before } = this.#journal[at]!;
      if (record.volume !== volume || lba < record.startLba || lba >= record.startLba + record.sectorCount) continue;
      held.push(before[lba - record.startLba]!);
    }
    return held;
  }

  #apply(record: HistoryRecord): void {
    const index = this.#history.volumeIndex(record.volume);
    if (index < 0 || record.sectorCount === 0) return;
    const end = record.startLba + record.sectorCount;
    const isSeen = !this.#isRebuilding && this.#open.size > 0;
    if (isSeen) this.#journal.push({ record, before: this.#image[index]!.slice(record.startLba, end) });
    else if (this.#journal.length > 0) this.#trim();
    this.#history.apply(this.#image, record);
    this.#seqs[index]!.fill(record.seq, record.startLba, end);
  }

  #trim(): void {
    let keepFrom = this.#journalFrom + this.#journal.length;
    // Those of a former epoch are judged no more.
    for (const { epoch, journalAt } of this.#open) if (epoch === this.epoch) keepFrom = Math.min(keepFrom, journalAt);
    this.#journal.splice(0, keepFrom - this.#journalFrom);
    this.#journalFrom = keepFrom;
  }

  #rebuild(position: Position): void {
    this.#image = this.#history.blankImage();
    this.#seqs = this.#history.blankImage();
    this.#journalFrom += this.#journal.length;
    this.#journal = [];
    this.position = position;
    this.#isRebuilding = true;
    for (const record of this.#history.between({ timeline: this.#history.root, seq: 0 }, position) ?? []) {
      this.#apply(record);
    }
    this.#isRebuilding = false;
  }
}
