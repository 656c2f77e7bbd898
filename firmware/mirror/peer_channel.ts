/**
 * One peer array as a group sees it: at most one link, what was said on meeting, and what came of it.
 *
 *   apart (dialling, or waiting to be called) ──offer()──▶ met ──link lost, drop()──▶ apart
 *
 * Invariants:
 * - Of two connections of one pair, the one dialled by the array whose name sorts first stays; one from a newer start of the peer
 *   always replaces the old one.
 * - `decision` is what the last meeting came to; it outlives the link, because it may say why this side must not write.
 */
import type { Frame, Hello } from "../peer/frame.ts";
import type { Link } from "../peer/link.ts";
import type { Decision } from "./decide.ts";
import type { Inbound } from "./inbound.ts";
import type { Outbound } from "./outbound.ts";

export interface ChannelOwner {
  onFrame(channel: PeerChannel, frame: Frame, payload: Uint8Array): void;
  onLost(channel: PeerChannel): void;
  onBeat(channel: PeerChannel): void;
}

/** Keeps the connection coming. */
export interface Dialling {
  start(): void;
  hurry(): void;
  stop(): void;
}

export class PeerChannel {
  readonly array: string;
  readonly #ourArray: string;
  readonly #owner: ChannelOwner;
  link: Link | null = null;
  theirs: Hello | null = null;
  decision: Decision | null = null;
  outbound: Outbound | null = null;
  inbound: Inbound | null = null;
  dialling: Dialling | null = null;
  /** Why there is no link; null while there is one. */
  why: string | null = "not connected yet";
  #lastHeardMs: number | null = null;
  /** What the last heartbeat of a primary that streams to us said about our lag, and when; null: none was heard since the start. */
  lastLag: { readonly lagMs: number; readonly heardMs: number } | null = null;

  constructor(ourArray: string, array: string, owner: ChannelOwner) {
    this.#ourArray = ourArray;
    this.array = array;
    this.#owner = owner;
  }

  get connected(): boolean {
    return this.link !== null;
  }

  /** Monotonic; null: never heard since the start. */
  get lastHeardMs(): number | null {
    return this.link?.lastHeardMs ?? this.#lastHeardMs;
  }

  /** Whether a connection of theirs would give way to the present one. */
  prefersPresent(link: Link, theirs: Hello): boolean {
    const present = this.link;
    if (present === null || this.theirs?.session !== theirs.session || present.dialled === link.dialled) return false;
    return present.dialled ? this.#ourArray < this.array : this.array < this.#ourArray;
  }

  /** Takes the link; the one before is dropped. */
  take(link: Link, theirs: Hello): void {
    this.drop("replaced by a newer connection");
    this.dialling?.stop();
    this.link = link;
    this.theirs = theirs;
    this.why = null;
    link.owner = {
      onFrame: (frame, payload) => {
        if (this.link === link) this.#owner.onFrame(this, frame, payload);
      },
      onBeat: () => {
        if (this.link === link) this.#owner.onBeat(this);
      },
      onLost: (_reason, text) => {
        if (this.link !== link) return;
        this.#leave(text);
        this.#owner.onLost(this);
      },
    };
  }

  /** Ends the link, if any, without telling the owner. What is queued still goes out when `orderly`. */
  drop(text: string, orderly = false): void {
    const link = this.link;
    if (link === null) return;
    this.#leave(text);
    if (orderly) link.close("closed", text);
    else link.abort("aborted", text);
  }

  /** Nothing more is taken from the peer's stream on this link. */
  endInbound(): void {
    this.inbound?.lost();
    this.inbound = null;
  }

  #leave(text: string): void {
    this.#lastHeardMs = this.link?.lastHeardMs ?? this.#lastHeardMs;
    this.link = null;
    this.why = text;
    this.endInbound();
    this.outbound?.lost();
  }
}
