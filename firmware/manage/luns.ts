/**
 * What iSCSI hosts find: the volumes that are mapped to them, by LUN. Salvage sets are no LUNs.
 *
 * Invariant: a volume is opened for whoever has it mapped now, and only as the volume that was listed (by UUID): a name that has come
 * to mean another volume since opens nothing.
 */
import type { BlockTarget } from "../volume/block_request.ts";
import type { HostIdentity, LunInfo, LunTable } from "../volume/host_access.ts";
import { VolumeTarget } from "../volume/volume_target.ts";
import type { GroupRegistry } from "./groups.ts";
import type { HostRegistry } from "./hosts.ts";
import { isShown } from "./shown.ts";

/** One byte of the peripheral device addressing method (SAM-5 4.7.7.2). */
const lunMax = 255;

export interface LunRegistryOptions {
  readonly groups: GroupRegistry;
  readonly hosts: HostRegistry;
  /** Whether a golden copy is shown write-protected or as a LUN that is not ready. */
  readonly goldenAccess: "none" | "read-only";
}

export class LunRegistry implements LunTable {
  readonly #options: LunRegistryOptions;

  constructor(options: LunRegistryOptions) {
    this.#options = options;
  }

  luns(host: HostIdentity): LunInfo[] {
    const { hosts, groups } = this.#options;
    return hosts
      .lunMappings(host)
      .filter(({ lun }) => lun <= lunMax)
      .flatMap(({ lun, volume, readOnly }) => {
        const found = groups.findVolume(volume);
        if (found === null) return [];
        const { uuid, sizeBytes } = found.volume;
        return [{ lun, volume, uuid, readOnly, blockCount: sizeBytes / 512 }];
      })
      .sort((a, b) => a.lun - b.lun);
  }

  open(lun: LunInfo, host: HostIdentity): BlockTarget | "unknown" | "not-ready" {
    const { groups, goldenAccess } = this.#options;
    const mapped = this.luns(host).find((one) => one.lun === lun.lun && one.uuid === lun.uuid);
    const found = mapped === undefined ? null : groups.findVolume(mapped.volume);
    if (mapped === undefined || found === null) return "unknown";
    const { group, volume } = found;
    if (!isShown(found, goldenAccess)) return "not-ready";
    const target = new VolumeTarget(group, volume.number, volume.name, mapped.readOnly);
    group.addTarget(target);
    return target;
  }

  onChanged(listener: () => void): void {
    this.#options.hosts.onChanged(listener);
  }
}
