/**
 * The frames between partners as plain values, already judged; `frame_codec.ts` translates, nothing else sees protobuf.
 *
 * Invariants of every decoded frame: ids are 32 hex digits, numbers are safe integers from 0, names and texts are bounded. Whether
 * offsets lie in the cache is judged by whoever has the cache.
 */
export const pairVersion = 3;
/** From here on texts may be larger than a frame (`long_text.ts`). */
export const longTextVersion = 3;
/** The oldest version spoken here. Version N speaks N-1 as well; version 1, which brought host sessions as bytes, was never released. */
export const pairVersionMin = 2;
export const pairMagic = 0x47435052;

export const pairRoles = {
  free: 1, // owns nothing, follows nobody: it has just started, or its owner is lost
  standby: 2, // follows the partner, and opens the pool only after fencing it
  starting: 3, // opens the pool
  owner: 4,
  refused: 5, // its cache is not the newest copy, or the pool could not be opened: it can only follow
  stopping: 6, // ends in order; it opens nothing any more
} as const;
export type PairRole = keyof typeof pairRoles;

export const pairCopies = { none: 1, unfinished: 2, whole: 3 } as const;
export type PairCopy = keyof typeof pairCopies;

export interface Portal {
  readonly protocol: string;
  readonly address: string;
}

export interface PairHello {
  readonly kind: "hello";
  readonly version: number;
  readonly versionMin: number;
  readonly array: string;
  readonly appliance: string;
  readonly session: string;
  readonly theirs: string | null;
  readonly portals: readonly Portal[];
  readonly cacheBytes: number;
  readonly domain: "battery" | "flush";
}

export interface PairState {
  readonly kind: "state";
  readonly role: PairRole;
  /** Of its write cache; null: it has none, or none that is whole. */
  readonly nonce: string | null;
  readonly batteryGood: boolean;
  /** Why it refuses; empty when it does not. */
  readonly text: string;
  /** It owns when both are free to. */
  readonly preferred: boolean;
  /** As the owner: how the receiver's copy of its cache is. */
  readonly copy: PairCopy;
  /** As the owner: the groups that hosts may write to. */
  readonly serving: readonly string[];
  /** Ranges of its shelves: see `empty_slots.ts`. */
  readonly emptySlots: readonly string[];
}

/** As its transport has it; empty where there is nothing. */
export interface PairHost {
  readonly remote: string;
  readonly iqn: string;
  readonly tlsName: string;
}

/** What arrives once and in order, whatever becomes of a NIC. */
export type PairMessage =
  | PairState
  | { readonly kind: "lead" }
  | { readonly kind: "follow" }
  | { readonly kind: "handOver" }
  | { readonly kind: "attach"; readonly nonce: string | null }
  /** `refusal` empty: the copy may begin. */
  | { readonly kind: "attached"; readonly refusal: string }
  | { readonly kind: "compare"; readonly offset: number; readonly pageBytes: number }
  | { readonly kind: "differs"; readonly offset: number; readonly pages: readonly number[] }
  | {
      readonly kind: "mirror";
      readonly frame: number;
      readonly offsets: readonly number[];
      readonly lengths: readonly number[];
    }
  | { readonly kind: "mirrored"; readonly frame: number }
  | { readonly kind: "mirrorFailed"; readonly text: string }
  | { readonly kind: "directory"; readonly more: boolean }
  | {
      readonly kind: "openNexus";
      readonly channel: number;
      readonly initiatorPort: string;
      readonly portalGroup: number;
      readonly relativePort: number;
      readonly isContinued: boolean;
      readonly host: PairHost;
    }
  | {
      readonly kind: "openVolume";
      readonly channel: number;
      readonly name: string;
      readonly image: string;
      readonly host: PairHost;
    }
  | { readonly kind: "ask" }
  | { readonly kind: "told" }
  | { readonly kind: "close"; readonly channel: number }
  | {
      readonly kind: "call";
      readonly id: number;
      readonly method: string;
      readonly path: string;
      readonly more: boolean;
    }
  | { readonly kind: "answer"; readonly id: number; readonly status: number };

export type PairMessageOf<Kind extends PairMessage["kind"]> = Extract<PairMessage, { kind: Kind }>;

/** What a connection carries: messages with their number, and what belongs to the connection itself. */
export type PairFrame =
  | PairHello
  | { readonly kind: "refuse"; readonly text: string }
  | { readonly kind: "beat"; readonly received: number }
  | { readonly kind: "message"; readonly number: number; readonly received: number; readonly message: PairMessage };

const carriers: ReadonlySet<string> = new Set([
  "mirror",
  "compare",
  "directory",
  "openNexus",
  "ask",
  "told",
  "call",
  "answer",
]);

export function mayCarryPayload(frame: PairFrame): boolean {
  if (frame.kind !== "message") return false;
  return carriers.has(frame.message.kind);
}

/** Stores are copied into the cache, digests compared, and answers handed to front ends that copy them, before `onMessage` returns. */
const lent: ReadonlySet<string> = new Set(["mirror", "compare", "told"]);

/** See `FrameCodec`. */
export function lendsPayload(frame: PairFrame): boolean {
  return frame.kind === "message" && lent.has(frame.message.kind);
}
