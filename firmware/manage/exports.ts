/**
 * What hosts find: the volumes that are mapped to them and readable now, and salvage sets as `VOLUME@ID`.
 */
import type { BlockTarget, ExportInfo, ExportTable } from "../volume/block_request.ts";
import { ForkTarget } from "../volume/fork_target.ts";
import type { HostIdentity } from "../volume/host_access.ts";
import { VolumeTarget } from "../volume/volume_target.ts";
import type { GroupRegistry } from "./groups.ts";
import type { HostRegistry } from "./hosts.ts";
import { isShown } from "./shown.ts";

export interface ExportFound {
  readonly name: string;
  /** Whose mappings it has. */
  readonly volume: string;
  /** null: a salvage set. */
  readonly uuid: string | null;
  readonly description: string;
  readonly blockCount: number;
  readonly atomicBlocksMax: number;
  readonly writable: boolean;
  /** What of the group its hosts read now: "head", or the id of a fork; empty: nothing. */
  readonly image: string;
  /** Hosts may see it now. */
  readonly shown: boolean;
}

export interface ExportRegistryOptions {
  readonly groups: GroupRegistry;
  readonly hosts: HostRegistry;
  /** Whether a golden copy is shown read-only or not at all. */
  readonly goldenAccess: "none" | "read-only";
  /** Whether a SCSI host's reservation of the volume forbids hosts without SCSI to read it, or to change it. */
  isReserved(uuid: string, changes: boolean): boolean;
}

export class ExportRegistry implements ExportTable {
  readonly #options: ExportRegistryOptions;

  constructor(options: ExportRegistryOptions) {
    this.#options = options;
  }

  /** Everything that a host could be shown, by name. */
  all(): ExportFound[] {
    const found: ExportFound[] = [];
    const { goldenAccess, groups } = this.#options;
    // The pair's front ends are told ten times a second, of thousands of volumes.
    const byName = groups.volumesByName();
    for (const entry of groups.entries()) {
      const { group } = entry;
      const { writable, readable } = group.serving();
      const image = readable === null ? "" : readable === "head" ? "head" : readable.fork;
      const atomicBlocksMax = group.log.recordPayloadBytes / 512;
      for (const { name, uuid, number, sizeBytes } of group.volumes()) {
        if (byName.get(name)?.group !== group) continue;
        found.push({
          name,
          volume: name,
          uuid,
          description: writable ? `volume of group ${group.name}` : `golden copy, group ${group.name}`,
          blockCount: sizeBytes / 512,
          atomicBlocksMax,
          writable,
          image,
          shown: isShown(entry, goldenAccess),
        });
        for (const salvage of entry.replication.status().salvage) {
          const stored = group.store.volumes(salvage.id).find((one) => one.number === number);
          if (stored === undefined) continue;
          found.push({
            name: `${name}@${salvage.id}`,
            volume: name,
            uuid: null,
            description: `salvage set of group ${group.name}`,
            blockCount: stored.sizeBytes / 512,
            atomicBlocksMax,
            writable: false,
            image: salvage.id,
            shown: true,
          });
        }
      }
    }
    return found;
  }

  list(host: HostIdentity): ExportInfo[] {
    return this.all().flatMap(({ name, volume, description, blockCount, writable, shown }) => {
      const access = this.#options.hosts.accessOf(host, volume);
      if (access === null || !shown) return [];
      return [{ name, description, blockCount, readOnly: access.readOnly || !writable }];
    });
  }

  /** Of the volume behind an export, a salvage set's too. */
  uuidOf(name: string): string | null {
    const at = name.indexOf("@");
    return this.#options.groups.findVolume(at < 0 ? name : name.slice(0, at))?.volume.uuid ?? null;
  }

  imageOf(name: string): string {
    return this.all().find((one) => one.name === name)?.image ?? "";
  }

  open(name: string, host: HostIdentity): BlockTarget | "unknown" | "not-ready" {
    const at = name.indexOf("@");
    const volumeName = at < 0 ? name : name.slice(0, at);
    const found = this.#options.groups.findVolume(volumeName);
    if (found === null) return "unknown";
    const access = this.#options.hosts.accessOf(host, volumeName);
    if (access === null) return "unknown";
    const { group, volume } = found;
    if (at >= 0) {
      const salvage = found.replication.status().salvage.find((one) => one.id === name.slice(at + 1));
      const stored =
        salvage === undefined ? undefined : group.store.volumes(salvage.id).find((one) => one.number === volume.number);
      return salvage === undefined || stored === undefined
        ? "unknown"
        : new ForkTarget(group, salvage.id, stored, name);
    }
    if (!isShown(found, this.#options.goldenAccess)) return "not-ready";
    const { uuid } = volume;
    const target = new VolumeTarget(group, volume.number, name, access.readOnly, (changes) =>
      this.#options.isReserved(uuid, changes),
    );
    group.addTarget(target);
    return target;
  }
}
