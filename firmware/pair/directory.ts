/**
 * What the owner of the array tells its partner of hosts and volumes, so that the partner's front ends know whom to let in, and to what.
 * What it says of sizes and states is for showing; what is allowed is judged by the owner, for each request.
 */
import * as v from "valibot";
import type { Clock } from "../../hal/api/clock.ts";
import { type HostEntry, hostSchema } from "../manage/array_document.ts";
import type { ExportFound } from "../manage/exports.ts";
import { HostRegistry } from "../manage/hosts.ts";
import type { BlockTarget, ExportInfo } from "../volume/block_request.ts";
import type { ChapCredentials, HostIdentity, LunInfo } from "../volume/host_access.ts";
import { Forwarder, type SendMessage } from "./forwarder.ts";
import type { Seat } from "./seat.ts";

export interface Directory {
  readonly hosts: readonly HostEntry[];
  readonly exports: readonly ExportFound[];
  /** Ids of all groups, for callers of peer arrays. */
  readonly groups: readonly string[];
}

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const directorySchema = v.object({
  groups: v.array(v.string()),
  hosts: v.array(hostSchema),
  exports: v.array(
    v.object({
      name: v.string(),
      volume: v.string(),
      uuid: v.nullable(v.string()),
      description: v.string(),
      blockCount: count,
      atomicBlocksMax: count,
      writable: v.boolean(),
      image: v.optional(v.string(), ""),
      shown: v.boolean(),
    }),
  ),
});

/** null: it is none. */
export function parseDirectory(text: string): Directory | null {
  try {
    const parsed = v.safeParse(directorySchema, JSON.parse(text));
    return parsed.success ? parsed.output : null;
  } catch {
    return null;
  }
}

/** The partner's volumes, by its directory. */
export class PartnerSeat implements Seat {
  readonly device: Forwarder;
  #directory: Directory;
  readonly #hosts: HostRegistry;

  constructor(clock: Clock, send: SendMessage, directory: Directory) {
    this.#directory = directory;
    this.#hosts = new HostRegistry({
      document: () => ({ format: 1, caches: [], hosts: [...this.#directory.hosts], reservations: {} }),
      save: async () => ({ ok: false, error: { code: "not-connected", text: "hosts are changed at the owner" } }),
      volumeExists: () => false,
      accessChanged: () => {},
    });
    this.device = new Forwarder(clock, send, (host) => this.#hosts.proofOf(host));
  }

  get directory(): Directory {
    return this.#directory;
  }

  set directory(directory: Directory) {
    this.#directory = directory;
    this.device.factsChanged();
  }

  luns(host: HostIdentity): LunInfo[] {
    return this.#hosts.lunMappings(host).flatMap(({ lun, volume, readOnly }) => {
      const found = this.#directory.exports.find((one) => one.name === volume);
      if (found === undefined || found.uuid === null) return [];
      return [{ lun, volume, uuid: found.uuid, readOnly, blockCount: found.blockCount }];
    });
  }

  required(host: HostIdentity): "unknown" | "open" | ChapCredentials {
    return this.#hosts.required(host);
  }

  proofOf(host: HostIdentity): string {
    return this.#hosts.proofOf(host);
  }

  proved(host: HostIdentity, proof: string): void {
    this.#hosts.proved(host, proof);
  }

  list(host: HostIdentity): ExportInfo[] {
    return this.#directory.exports.flatMap(({ name, volume, description, blockCount, writable, shown }) => {
      const access = this.#hosts.accessOf(host, volume);
      if (access === null || !shown) return [];
      return [{ name, description, blockCount, readOnly: access.readOnly || !writable }];
    });
  }

  uuidOf(name: string): string | null {
    const { exports } = this.#directory;
    const volume = exports.find((one) => one.name === name)?.volume;
    return exports.find((one) => one.name === volume)?.uuid ?? null;
  }

  imageOf(name: string): string {
    return this.#directory.exports.find((one) => one.name === name)?.image ?? "";
  }

  open(name: string, host: HostIdentity): BlockTarget | "unknown" | "not-ready" {
    const find = () => this.#directory.exports.find((one) => one.name === name);
    let found = find();
    const access = found === undefined ? null : this.#hosts.accessOf(host, found.volume);
    if (found === undefined || access === null) return "unknown";
    if (!found.shown) return "not-ready";
    // Asked for each command: looked for once per directory.
    let foundIn = this.#directory;
    const now = () => {
      if (foundIn !== this.#directory) found = find() ?? found!;
      foundIn = this.#directory;
      return found!;
    };
    return this.device.open(name, host, {
      blockCount: () => now().blockCount,
      readOnly: () => access.readOnly || !now().writable,
      atomicBlocksMax: () => now().atomicBlocksMax,
      image: () => now().image,
    });
  }
}
