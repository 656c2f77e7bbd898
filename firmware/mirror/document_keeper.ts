/**
 * The one writer of a group's replication document.
 *
 * Invariants:
 * - `current` is what the last call of `change` made it, `durable` what the shelf has; `done` comes when that change is durable.
 *   What the outside world is told is `durable`, or waits for `done`.
 * - A failed save means that the shelf has failed: `onFailed` once, and no `done` is called any more.
 */
import type { StoreError } from "../store/store.ts";
import type { GroupPort } from "../volume/group_port.ts";
import { type ImageState, parseDocument, type ReplicationDocument } from "./document.ts";

export class DocumentKeeper {
  readonly #port: GroupPort;
  readonly #onFailed: (error: StoreError) => void;
  #current: ReplicationDocument;
  #durable: ReplicationDocument;
  #failed = false;

  /** null: the stored document cannot be used (corrupt, or of a newer version). */
  static open(port: GroupPort, onFailed: (error: StoreError) => void): DocumentKeeper | null {
    const document = parseDocument(port.replicationDocument());
    return document === null ? null : new DocumentKeeper(port, document, onFailed);
  }

  constructor(port: GroupPort, document: ReplicationDocument, onFailed: (error: StoreError) => void) {
    this.#port = port;
    this.#current = document;
    this.#durable = document;
    this.#onFailed = onFailed;
  }

  get current(): ReplicationDocument {
    return this.#current;
  }

  get durable(): ReplicationDocument {
    return this.#durable;
  }

  /** The image as it may be shown: consistent only when it is so durably, inconsistent as soon as it is going to be. */
  get shownImage(): ImageState {
    return this.#current.image.kind === "inconsistent" ? this.#current.image : this.#durable.image;
  }

  get failed(): boolean {
    return this.#failed;
  }

  change(next: (document: ReplicationDocument) => ReplicationDocument, done: () => void = () => {}): void {
    if (this.#failed) return;
    const changed = next(this.#current);
    this.#current = changed;
    this.#port.saveReplicationDocument(changed, (error) => {
      if (this.#failed) return;
      if (error === null) {
        this.#durable = changed;
        done();
        return;
      }
      this.#failed = true;
      this.#onFailed(error);
    });
  }
}
