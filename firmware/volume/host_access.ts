/**
 * What front ends may offer to a host, already filtered by access rules: by LUN for SCSI (`LunTable`), by name for NBD
 * (`ExportTable` in `block_request.ts`).
 */
import type { BlockTarget } from "./block_request.ts";

/** Who a host is, as far as its transport has proved it. */
export interface HostIdentity {
  /** `HOST:PORT` of the other end. */
  readonly remote: string;
  /** The iSCSI initiator's name; null where there is none. */
  readonly iqn: string | null;
  /** The name in the verified TLS client certificate; null without TLS. */
  readonly tlsName: string | null;
}

export interface LunInfo {
  /** 0 to 255, as mapped for this host. */
  readonly lun: number;
  readonly volume: string;
  /** 32 hex digits; the same at every array and over every failover. */
  readonly uuid: string;
  /** Mapped read-only; a golden copy is read-only beside that (`BlockTarget.readOnly`). */
  readonly readOnly: boolean;
  /** Its present size; absent where nobody asks for it. */
  readonly blockCount?: number;
}

export interface LunTable {
  /** Ascending by LUN. A volume that is not ready now is listed all the same: its LUN answers NOT READY. */
  luns(host: HostIdentity): readonly LunInfo[];
  open(lun: LunInfo, host: HostIdentity): BlockTarget | "unknown" | "not-ready";
  /** Called after a change of mappings, volumes or sizes that hosts might see. */
  onChanged(listener: () => void): void;
}

/** What a host must prove at login (RFC 7143 9.2, RFC 1994). */
export interface ChapCredentials {
  readonly user: string;
  readonly secret: Uint8Array;
}

export interface HostAuthority {
  /**
   * "unknown": no host entry matches; "open": no secret is asked for; otherwise CHAP with these credentials. What is asked for belongs
   * to this identity object: the transport hands the same one to the device server once the host has proved it.
   */
  required(host: HostIdentity): "unknown" | "open" | ChapCredentials;
  /** What the target proves of itself when the initiator asks for it (mutual CHAP); null: it cannot. */
  readonly own: ChapCredentials | null;
}

/** Persistent reservations of a volume (SPC-5 5.14): kept in the array's document, by the volume's UUID. */
export interface ReservationShelf {
  /**
   * Also what no initiator asked to be kept over a loss of power (APTPL) is kept: the device server may end here and go on at the
   * partner, which is no loss of power.
   */
  readonly keepsAll: boolean;
  load(uuid: string): unknown;
  /** `done(null)` when the document is durable; an undefined document removes the entry. */
  save(uuid: string, document: unknown, done: (error: string | null) => void): void;
}
