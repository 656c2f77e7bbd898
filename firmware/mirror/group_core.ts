/** What the role operations (opening, migration, takeover, resync) see of their group. Implemented by `GroupReplication`. */
import type { ControlErrorCode, Result } from "../manage/control.ts";
import type { LinkHost } from "../peer/link_host.ts";
import type { PeerEntry, ReplicationDocument } from "./document.ts";
import type { GroupContext } from "./group_context.ts";
import type { StreamFaults } from "./inbound.ts";
import type { PeerChannel } from "./peer_channel.ts";
import type { ResyncTarget } from "./resync_target.ts";
import type { RoleMachine } from "./role_state.ts";

export type OperationKind = "migrate" | "takeover" | "resync" | "failback";

export interface GroupCore extends GroupContext {
  readonly host: LinkHost;
  readonly role: RoleMachine;
  readonly resyncTarget: ResyncTarget;
  readonly faults: StreamFaults;
  readonly document: ReplicationDocument;
  /** The write cache was lost with records that were not at home, and neither document nor operator has dealt with it yet. */
  cacheLost: boolean;
  /** What an operator has started and not yet seen the end of; one at a time. */
  operation: { readonly kind: OperationKind; readonly peer: string | null } | null;
  channel(array: string): PeerChannel | null;
  /** The channel to an array, made when there is none. */
  channelTo(array: string): PeerChannel;
  readonly channels: Iterable<PeerChannel>;
  entry(array: string): PeerEntry | null;
  /** `keeper.change` for what a hello tells about the role: until it is durable nobody is met. */
  changeRole(next: (document: ReplicationDocument) => ReplicationDocument, done: () => void): void;
  /** Ends every link, so that both sides meet anew with what is durable now. */
  meetAnew(text: string, whom?: (channel: PeerChannel) => boolean): void;
  /** Meets again, on the same links, with our present stand. */
  reconsider(): void;
  /** Outbounds for every peer of the document (a primary's), or none (a golden copy's). */
  settleOutbounds(): void;
  /** Commits what is durable here without opening for writes. */
  decideOwn(): void;
  /** Tells hosts what they may do now. */
  refreshServing(): void;
  /** Resolves true when `holds` does, false after `timeoutMs`; asked at every change of state or position. */
  until(holds: () => boolean, timeoutMs: number): Promise<boolean>;
  /** Why the group has stopped until the next start; null: it has not. */
  readonly failure: string | null;
  /** The group cannot go on. */
  fail(text: string): void;
}

export function refuse<T>(code: ControlErrorCode, text: string): Result<T> {
  return { ok: false, error: { code, text } };
}
