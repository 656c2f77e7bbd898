/**
 * A simulated shelf: slots with disks, attached to one appliance or shared by two.
 *
 * Fault model: a disk is pulled and put back, here or elsewhere; two disks are swapped; one appliance does not reach a slot. The disks' own faults, those of their fence among
 * them: `disk.ts`.
 */
import type { Disk, Shelf } from "../api/shelf.ts";
import { DiskHandle, MockDisk } from "./disk.ts";
import type { Kernel } from "./kernel.ts";
import type { DeathKind, Lifetime } from "./lifetime.ts";

export interface ShelfSpec {
  readonly name: string;
  readonly fencing?: Shelf["fencing"];
  /** By slot: the size of the disk in it, bytes; null: empty. */
  readonly slots: readonly (number | null)[];
}

/** A boot's view: the same array all its life, changed in place when disks come and go. */
interface View {
  readonly lifetime: Lifetime;
  readonly handles: (DiskHandle | null)[];
}

export class MockShelf {
  readonly name: string;
  readonly fencing: Shelf["fencing"];
  /** What sits in the slots. */
  readonly slots: (MockDisk | null)[];
  readonly #kernel: Kernel;
  #views: View[] = [];
  /** Of what is out between appliances and slots: see `unplug`. */
  readonly #unplugged = new Set<string>();
  /** Appliances attached to this shelf that have power. */
  readonly #powered = new Set<string>();

  constructor(kernel: Kernel, spec: ShelfSpec) {
    this.#kernel = kernel;
    this.name = spec.name;
    this.fencing = spec.fencing ?? "none";
    this.slots = spec.slots.map((sizeBytes, slot) =>
      sizeBytes === null ? null : new MockDisk(kernel, `${spec.name}/${slot}`, sizeBytes),
    );
  }

  /** The disk in a slot; asserts that there is one. */
  disk(slot: number): MockDisk {
    const disk = this.slots[slot];
    if (!disk) throw new RangeError(`${this.name} has no disk in slot ${slot}`);
    return disk;
  }

  /** Takes a disk out, with all that it holds. */
  pull(slot: number): MockDisk {
    const disk = this.disk(slot);
    this.slots[slot] = null;
    for (const view of this.#views) {
      view.handles[slot]?.pulled();
      view.handles[slot] = null;
    }
    return disk;
  }

  insert(slot: number, disk: MockDisk): void {
    if (slot >= this.slots.length || this.slots[slot] !== null)
      throw new RangeError(`${this.name}/${slot} is not free`);
    this.slots[slot] = disk;
    for (const view of this.#views) view.handles[slot] = this.#handle(slot, view.lifetime);
  }

  /** The cable between an appliance and a slot is out: others reach the disk. */
  unplug(appliance: string, slot: number): void {
    this.#unplugged.add(`${appliance} ${slot}`);
    for (const { lifetime, handles } of this.#views) {
      if (lifetime.name !== appliance) continue;
      handles[slot]?.pulled();
      handles[slot] = null;
    }
  }

  plug(appliance: string, slot: number): void {
    this.#unplugged.delete(`${appliance} ${slot}`);
    for (const { lifetime, handles } of this.#views)
      if (lifetime.name === appliance) handles[slot] = this.#handle(slot, lifetime);
  }

  swap(slotA: number, slotB: number): void {
    const a = this.slots[slotA] ? this.pull(slotA) : null;
    const b = this.slots[slotB] ? this.pull(slotB) : null;
    if (b !== null) this.insert(slotA, b);
    if (a !== null) this.insert(slotB, a);
  }

  /** A disk from the factory. */
  newDisk(name: string, sizeBytes: number): MockDisk {
    return new MockDisk(this.#kernel, name, sizeBytes);
  }

  /** Whether no disk takes a write of the appliance any more. */
  refuses(appliance: string): boolean {
    return this.slots.every((disk) => disk === null || disk.refuses(appliance));
  }

  /** For the appliance: this boot's shelf. */
  attach(lifetime: Lifetime): Shelf {
    this.#powered.add(lifetime.name);
    const handles = this.slots.map((_, slot) => this.#handle(slot, lifetime));
    this.#views.push({ lifetime, handles });
    return { name: this.name, fencing: this.fencing, disks: handles satisfies readonly (Disk | null)[] };
  }

  /** For the appliance. The disks lose their caches with the power of the last appliance; until then only what that one wrote. */
  died(lifetime: Lifetime, kind: DeathKind): void {
    this.#views = this.#views.filter((view) => view.lifetime !== lifetime);
    if (kind === "power") this.#powered.delete(lifetime.name);
    for (const disk of this.slots) disk?.died(lifetime, kind, this.#powered.size === 0);
  }

  /** For the appliance: its power went while its firmware was dead already. */
  lostPower(appliance: string): void {
    this.#powered.delete(appliance);
    for (const disk of this.slots) disk?.lostPower(appliance, this.#powered.size === 0);
  }

  /** null: no disk is there, or the appliance does not reach it. */
  #handle(slot: number, lifetime: Lifetime): DiskHandle | null {
    const disk = this.slots[slot];
    if (!disk || this.#unplugged.has(`${lifetime.name} ${slot}`)) return null;
    return new DiskHandle(this.#kernel, disk, `${this.name}/${slot}`, lifetime, this.fencing);
  }
}
