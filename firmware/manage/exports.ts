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

  list(host: HostIdentity): ExportInfo[] {
    const found: ExportInfo[] = [];
    const { goldenAccess } = this.#options;
    for (const entry of this.#options.groups.entries()) {
      const { group } = entry;
      for (const volume of group.volumes()) {
        const access = this.#options.hosts.accessOf(host, volume.name);
        if (access === null || this.#options.groups.findVolume(volume.name)?.group !== group) continue;
        if (isShown(entry, goldenAccess)) {
          const readOnly = access.readOnly || !group.serving().writable;
          const description = group.serving().writable
            ? `volume of group ${group.name}`
            : `golden copy, group ${group.name}`;
          found.push({ name: volume.name, description, blockCount: volume.sizeBytes / 512, readOnly });
        }
        for (const salvage of entry.replication.status().salvage) {
          const stored = group.store.volumes(salvage.id).find((one) => one.number === volume.number);
          if (stored === undefined) continue;
          const name = `${volume.name}@${salvage.id}`;
          found.push({
            name,
            description: `salvage set of group ${group.name}`,
            blockCount: stored.sizeBytes / 512,
            readOnly: true,
          });
        }
      }
    }
    return found;
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
