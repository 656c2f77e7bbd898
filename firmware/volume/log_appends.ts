/**
 * Whoever waits for the group's log: for room to append a record of its own, for what it appended to be committed, for everything
 * to be durable. Host writes wait in `admission.ts` and in the log itself.
 *
 * Invariants:
 * - Every caller is called back once: done, or told that the record is not (any more) part of this log.
 * - A record that concerns the group comes into the log only while hosts may write: a copy that has become golden adds nothing of its
 *   own, and while writes are held nothing comes behind the point at which the role is given away.
 */
import type { RecordKind } from "../log/record.ts";
import type { WriteLog } from "../log/write_log.ts";
import type { StoreError } from "../store/store.ts";
import type { Admission } from "./admission.ts";
import { SeqWaiters } from "./seq_waiters.ts";

const notWritable: StoreError = { code: "unknown-version", text: "the group is not writable here any more" };

type SpecialKind = typeof RecordKind.control | typeof RecordKind.boundary | typeof RecordKind.consistentAt;

export interface LogAppendsOptions {
  readonly log: WriteLog;
  readonly admission: Admission;
  /** Room is wanted: lets go of what nobody needs, takes home what is committed. */
  makeRoom(): void;
}

export class LogAppends {
  readonly #options: LogAppendsOptions;
  #attempts: (() => void)[] = [];
  readonly #committed = new SeqWaiters();
  readonly #persisted = new SeqWaiters();

  constructor(options: LogAppendsOptions) {
    this.#options = options;
    const { log } = options;
    log.onCommitted(() => this.#committed.reached(log.commitSeq));
    log.onPersisted(() => this.#persistedReached());
    log.onDropped = () => {
      this.#persistedReached();
      this.#committed.dropAbove(log.headSeq);
    };
  }

  /** Appends a record that concerns the group; `done` with its seq when it is committed, or with why it never will be. */
  special(kind: SpecialKind, payload: Uint8Array, done: (error: StoreError | null, seq: number) => void): void {
    const { log, admission } = this.#options;
    const attempt = (): void => {
      if (admission.state === "closed") return done(notWritable, 0);
      if (admission.state === "held" || !log.admitSpecial(kind, payload, null)) return this.#again(attempt);
      const seq = log.headSeq;
      this.whenCommitted(
        seq,
        () => done(null, seq),
        () => done(notWritable, 0),
      );
    };
    attempt();
  }

  /** Starts `timeline` behind everything durable; `done` with its first seq when that is committed. */
  open(timeline: string, done: (error: StoreError | null, firstSeq: number) => void): void {
    const { log } = this.#options;
    const attempt = (): void => {
      if (!log.open(timeline)) return this.#again(attempt);
      const firstSeq = log.headSeq;
      this.whenCommitted(
        firstSeq,
        () => done(null, firstSeq),
        () => done(notWritable, 0),
      );
    };
    this.whenAllPersisted(attempt);
  }

  /** `dropped`: a newer timeline of the primary does not have the record, or the group is closed. */
  whenCommitted(seq: number, done: () => void, dropped: () => void): void {
    if (this.#options.log.commitSeq >= seq) done();
    else this.#committed.add(seq, done, dropped);
  }

  /** Everything that is in the log now is durable, or has been dropped. */
  whenAllPersisted(done: () => void): void {
    const { log } = this.#options;
    if (log.persistedSeq >= log.headSeq) return done();
    this.#persisted.add(log.headSeq, done, done);
    log.wantPersist();
  }

  /** Room may have come about, or writing is open, held or closed anew. */
  retry(): void {
    const attempts = this.#attempts;
    this.#attempts = [];
    for (const attempt of attempts) attempt();
  }

  /** The group is closed: nothing will be committed any more. */
  close(): void {
    this.#committed.dropAbove(-1);
  }

  #again(attempt: () => void): void {
    this.#attempts.push(attempt);
    this.#options.makeRoom();
  }

  #persistedReached(): void {
    const { log } = this.#options;
    this.#persisted.reached(log.persistedSeq);
    this.#persisted.dropAbove(log.headSeq);
  }
}
