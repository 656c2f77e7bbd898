/** `goldcopy volume …`: volumes come and go through their group's log, so that every copy sees the change in the order of the writes. */

import type { Entropy } from "../../hal/api/entropy.ts";
import { toHex } from "../codec/bytes.ts";
import { whenDone } from "../codec/promised.ts";
import type { StoreError } from "../store/store.ts";
import { type VolumeChange, volumeNumbersMax, volumeSizeBytesMax, volumesMax } from "../volume/volume_table.ts";
import { done, type Removed, type Result, refused, type VolumeControl } from "./control.ts";
import type { FoundVolume, GroupEntry, GroupRegistry } from "./groups.ts";
import type { HostRegistry } from "./hosts.ts";
import type { VolumeJson } from "./status_json.ts";

export interface VolumeCommandsOptions {
  readonly groups: GroupRegistry;
  readonly hosts: HostRegistry;
  readonly entropy: Entropy;
  readonly poolName: string;
}

interface NewVolume {
  readonly name: string;
  readonly sizeBytes: number;
  readonly group: string | null;
  readonly pool: string | null;
}

export class VolumeCommands implements VolumeControl {
  readonly #options: VolumeCommandsOptions;

  /** Their records are not committed yet. */
  readonly #creating = new Set<string>();

  constructor(options: VolumeCommandsOptions) {
    this.#options = options;
  }

  list(): VolumeJson[] {
    return this.#options.groups
      .entries()
      .flatMap((entry) => entry.group.volumes().map((volume) => this.#json({ ...entry, volume })))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  async create(volume: NewVolume): Promise<Result<VolumeJson>> {
    if (this.#creating.has(volume.name)) return refused("exists", `volume ${volume.name} is being created already`);
    this.#creating.add(volume.name);
    try {
      return await this.#create(volume);
    } finally {
      this.#creating.delete(volume.name);
    }
  }

  async #create(volume: NewVolume): Promise<Result<VolumeJson>> {
    const { groups, entropy, poolName } = this.#options;
    if (volume.pool !== null && volume.pool !== poolName) {
      return refused("not-found", `there is no pool ${volume.pool}; this array's pool is ${poolName}`);
    }
    if (groups.findVolume(volume.name) !== null)
      return refused("exists", `volume ${volume.name} exists; choose another name`);
    if (volume.sizeBytes > volumeSizeBytesMax) return refused("invalid", "a volume is at most 16 TiB");
    const entry = await this.#groupFor(volume.group ?? volume.name, volume.group === null);
    if (!entry.ok) return entry;
    const { group } = entry.value;
    const trouble = notWritable(entry.value);
    if (trouble !== null) return trouble;
    if (group.volumes().length >= volumesMax)
      return refused("invalid", `group ${group.name} has ${volumesMax} volumes, the most that a group holds`);
    const number = group.nextVolumeNumber();
    if (number >= volumeNumbersMax)
      return refused("invalid", `group ${group.name} has used up its volume numbers; create another group`);
    const uuid = toHex(entropy.fill(new Uint8Array(16)));
    const change: VolumeChange = {
      op: "create",
      volume: { number, uuid, name: volume.name, sizeBytes: volume.sizeBytes },
    };
    return this.#changed(entry.value, volume.name, change);
  }

  async resize(name: string, sizeBytes: number): Promise<Result<VolumeJson>> {
    const found = this.#options.groups.findVolume(name);
    if (found === null) return notFound(name);
    const trouble = notWritable(found);
    if (trouble !== null) return trouble;
    if (sizeBytes > volumeSizeBytesMax) return refused("invalid", "a volume is at most 16 TiB");
    if (sizeBytes < found.volume.sizeBytes) {
      return refused(
        "invalid",
        `volume ${name} has ${found.volume.sizeBytes} bytes already, and volumes only grow; create a smaller one and copy`,
      );
    }
    if (sizeBytes === found.volume.sizeBytes) return done(this.#json(found));
    return this.#changed(found, name, { op: "resize", number: found.volume.number, sizeBytes });
  }

  async delete(name: string): Promise<Result<Removed>> {
    const found = this.#options.groups.findVolume(name);
    if (found === null) return notFound(name);
    const trouble = notWritable(found);
    if (trouble !== null) return trouble;
    found.group.endTargets(found.volume.number, "the volume is being deleted");
    const change: VolumeChange = { op: "delete", number: found.volume.number };
    const error = await whenDone<StoreError>((finish) => found.group.changeVolumes(change, finish));
    if (error !== null) return refused("shelf-failed", error.text);
    const forgotten = await this.#options.hosts.forget(name);
    return forgotten.ok ? done({ removed: name }) : forgotten;
  }

  async #changed(entry: GroupEntry, name: string, change: VolumeChange): Promise<Result<VolumeJson>> {
    const error = await whenDone<StoreError>((finish) => entry.group.changeVolumes(change, finish));
    if (error !== null) return refused("shelf-failed", error.text);
    // Hosts know it before the operator does.
    this.#options.hosts.changed();
    const found = this.#options.groups.findVolume(name);
    return found === null ? notFound(name) : done(this.#json(found));
  }

  /** The group that is named, or, for a volume without one, a new group of the volume's name. */
  async #groupFor(name: string, create: boolean): Promise<Result<GroupEntry>> {
    const present = this.#options.groups.find(name);
    if (present !== null) return done(present);
    if (!create) return refused("not-found", `there is no group ${name}; see: goldcopy group list`);
    return this.#options.groups.create(name);
  }

  #json({ group, volume }: FoundVolume): VolumeJson {
    const serving = group.serving();
    return {
      name: volume.name,
      uuid: volume.uuid,
      group: group.name,
      sizeBytes: volume.sizeBytes,
      exported: serving.writable ? "read-write" : serving.readable !== null ? "read-only" : "no",
      mappings: this.#options.hosts.mappingsOf(volume.name),
    };
  }
}

function notWritable({
  group,
}: GroupEntry): { ok: false; error: { code: "not-writable" | "not-primary"; text: string } } | null {
  const serving = group.serving();
  if (serving.writable) return null;
  const text = `group ${group.name} is not writable on this array: ${serving.why ?? "its role is not settled"}`;
  return { ok: false, error: { code: "not-writable", text } };
}

function notFound(name: string): { ok: false; error: { code: "not-found"; text: string } } {
  return { ok: false, error: { code: "not-found", text: `there is no volume ${name}; see: goldcopy volume list` } };
}
