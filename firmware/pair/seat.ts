/**
 * Where a part of the array is served now, as the front ends of an appliance see it: by the firmware here, or by the partner's.
 *
 *     nowhere ──take──▶ seated ──leave──▶ leaving: nothing more goes in ──settle──▶ nowhere
 *
 * Invariants:
 * - After `leave` nothing is asked of the seat, and nothing that it still says is heard.
 * - What was under way is decided for hosts at `settle`, when the seat can touch neither memory nor disks any more: a read is asked
 *   for anew at the next seat, and of everything else the host learns that it was aborted; nothing is executed twice.
 */
import type { DeviceServer } from "../frontend/scsi/device_server.ts";
import type { BlockTarget, ExportInfo } from "../volume/block_request.ts";
import type { ChapCredentials, HostIdentity, LunInfo } from "../volume/host_access.ts";

export interface Seat {
  readonly device: DeviceServer;
  /** The LUNs that a host sees of it. */
  luns(host: HostIdentity): readonly LunInfo[];
  /** See `HostAuthority`. */
  required(host: HostIdentity): "unknown" | "open" | ChapCredentials;
  /** What `required` has asked of the host, for other seats. */
  proofOf(host: HostIdentity): string;
  /** The host has logged in with this proof, here or elsewhere. It sees something only while that is what is asked for. */
  proved(host: HostIdentity, proof: string): void;
  list(host: HostIdentity): ExportInfo[];
  /** Of the volume behind an export; null: there is none of that name. */
  uuidOf(name: string): string | null;
  /** What of its group an export shows now: see `ExportFound`. */
  imageOf(name: string): string;
  open(name: string, host: HostIdentity): BlockTarget | "unknown" | "not-ready";
}
