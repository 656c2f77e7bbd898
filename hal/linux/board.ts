/** The hardware of one appliance as hal/linux needs it described. A validated board profile has this shape. */
import type { ServiceDescription } from "./service_address.ts";

export interface LinuxBoard {
  /** This appliance's name, as the NICs tell it to others: at most 24 bytes. */
  readonly appliance: string;
  readonly hbas: readonly HbaDescription[];
  readonly nics: readonly NicDescription[];
  /** Addresses that move with the array; `hbas` that listen on them do so only while they are held. Left out: none. */
  readonly services?: readonly ServiceDescription[];
  readonly cache: CacheDescription;
  readonly shelves: readonly ShelfDescription[];
  /** With what the host ports speak TLS; null or absent: they do not. */
  readonly tls?: { readonly certificate: string; readonly key: string; readonly ca: string | null } | null;
  /** A JSON file that keeps the shapings in force over restarts; null: they are forgotten. */
  readonly nicShapingFile: string | null;
  /** Left out: nobody can switch a partner off from here. */
  readonly power?: PowerDescription;
}

export type PowerDescription = ProcessPower | MachinePower;

/** A partner in a virtual machine. */
export interface MachinePower {
  readonly kind: "machine";
  readonly target: string;
  /** Of QEMU: `HOST:PORT`, or the path of a unix socket. */
  readonly monitor: string;
  /** Whether it is switched on again when it has been proven dead. */
  readonly restart: boolean;
}

/** A partner on the same machine, known by the lock that its process holds for life. */
export interface ProcessPower {
  readonly kind: "process";
  /** The array that both are appliances of. */
  readonly array: string;
  /** This one. */
  readonly appliance: string;
  readonly target: string;
  /** The lock of this appliance's own process. */
  readonly lockPath: string;
  readonly targetLockPath: string;
}

export interface HbaDescription {
  readonly name: string;
  /** `HOST:PORT` */
  readonly listen: string;
  readonly protocol: string;
}

export interface NicDescription {
  /** At most 16 bytes. */
  readonly name: string;
  readonly listen: string;
}

export interface CacheDescription {
  readonly path: string;
  /** A multiple of 4,096. */
  readonly sizeBytes: number;
  readonly persistence: "battery" | "flush";
}

export interface ShelfDescription {
  readonly name: string;
  readonly fencing: "atomic" | "power" | "none";
  readonly disks: readonly DiskDescription[];
  /** Past the page cache, whatever the disks are. Left out: block devices that two appliances share are. */
  readonly direct?: boolean;
}

export interface DiskDescription {
  readonly slot: number;
  readonly path: string;
  /** null: what the file or device has. */
  readonly sizeBytes: number | null;
  /** Whether a missing file is created, sparse; needs a size. */
  readonly create: boolean;
}
