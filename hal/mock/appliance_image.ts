/**
 * A simulated appliance image: two slots, the boot loader, and a power that can be cut in any write.
 *
 * Fault model. `cutAt(n, fate)`: the n-th write from now is the last one, and happens in part: of a root's bytes the first half, of what is
 * removed the kernel, of everything else all or nothing, as `fate` says. What a root was given since its last
 * flush is lost at a cut. From the cut on everything rejects until `boot`. `flipIn`: a medium that stores something else than it was given.
 */
import type {
  ApplianceImage,
  BootFileName,
  ImageRelease,
  ImageSlots,
  MachineFacts,
  SlotName,
  UpdateKey,
} from "../api/appliance_image.ts";

export class PowerCut extends Error {
  constructor() {
    super("the power was cut");
  }
}

interface MockSlot {
  root: Uint8Array;
  /** What a cut leaves of the root. */
  durable: Uint8Array;
  readonly boot: Map<BootFileName, Uint8Array>;
}

export interface MockImageOptions {
  readonly release: ImageRelease;
  readonly keys: readonly UpdateKey[];
  readonly rootSizeBytes: number;
}

export class MockImage implements ApplianceImage, ImageSlots {
  readonly slots: ImageSlots = this;
  running: SlotName = "a";
  release: ImageRelease;
  keys: readonly UpdateKey[];
  readonly rootSizeBytes: number;
  readonly media: Readonly<Record<SlotName, MockSlot>>;
  notes: Uint8Array | null = null;
  machine: MachineFacts = { serving: false, degraded: null, upMs: 0 };
  restarts = 0;
  readonly said: string[] = [];
  /** A root's or a boot file's first byte is stored wrongly. */
  flipIn: BootFileName | "root" | null = null;
  isLocked = false;
  #variables: Record<string, string> = { next: "a", tries: "0", good_a: "1", good_b: "0" };
  #trial: string | null = null;
  #writes = 0;
  #cutAt = Number.POSITIVE_INFINITY;
  #fate: "done" | "not done" = "done";
  #isOff = false;

  constructor({ release, keys, rootSizeBytes }: MockImageOptions) {
    this.release = release;
    this.keys = keys;
    this.rootSizeBytes = rootSizeBytes;
    const slot = (): MockSlot => ({
      root: new Uint8Array(rootSizeBytes),
      durable: new Uint8Array(rootSizeBytes),
      boot: new Map(),
    });
    this.media = { a: slot(), b: slot() };
  }

  /** How many writes there were. */
  get writes(): number {
    return this.#writes;
  }

  /** In the `count`-th write from now, from 1. */
  cutAt(count: number, fate: "done" | "not done"): void {
    this.#cutAt = this.#writes + count;
    this.#fate = fate;
  }

  /** As images/boot/grub.cfg: which slot is started, after a cut or a restart. The state of a version that was put there is the caller's. */
  boot(): SlotName {
    for (const slot of Object.values(this.media)) slot.root = slot.durable.slice();
    this.#isOff = false;
    this.#cutAt = Number.POSITIVE_INFINITY;
    this.#trial = null;
    const { tries } = this.#variables;
    const next: SlotName = this.#variables["next"] === "b" ? "b" : "a";
    const other: SlotName = next === "a" ? "b" : "a";
    this.running = next;
    if (tries === "0" || tries === "1" || tries === "2") this.#variables["tries"] = String(Number(tries) + 1);
    else if (this.media[other].boot.has("vmlinuz")) {
      this.running = other;
      this.#variables["tries"] = "1";
    } else this.#variables["tries"] = "3";
    this.#variables["next"] = this.running;
    return this.running;
  }

  // ---------------------------------------------------------------- ApplianceImage

  facts(): MachineFacts {
    return this.machine;
  }
  showTrial(why: string | null): void {
    this.#trial = why;
  }
  trialShown(): string | null {
    return this.#trial;
  }
  say(text: string): void {
    this.said.push(text);
  }
  lock(): boolean {
    return !this.isLocked;
  }
  restart(): void {
    this.restarts++;
  }

  // ---------------------------------------------------------------- ImageSlots

  async variables(): Promise<Record<string, string>> {
    this.#mustBeOn();
    return { ...this.#variables };
  }

  async setVariables(changes: Readonly<Record<string, string>>): Promise<void> {
    this.#write((share) => {
      if (share === 1) Object.assign(this.#variables, changes);
    }, "all or nothing");
  }

  async writeRoot(slot: SlotName, offsetBytes: number, bytes: Uint8Array): Promise<void> {
    if (offsetBytes + bytes.byteLength > this.rootSizeBytes) throw new Error(`slot ${slot} ends before`);
    const { root } = this.media[slot];
    this.#write((share) => root.set(this.#stored("root", offsetBytes, part(bytes, share)), offsetBytes), "in part");
  }

  async flushRoot(slot: SlotName): Promise<void> {
    this.#write((share) => {
      if (share === 1) this.media[slot].durable = this.media[slot].root.slice();
    }, "all or nothing");
  }

  async readRoot(slot: SlotName, offsetBytes: number, target: Uint8Array): Promise<void> {
    this.#mustBeOn();
    target.set(this.media[slot].root.subarray(offsetBytes, offsetBytes + target.byteLength));
  }

  async clearBoot(slot: SlotName): Promise<void> {
    const { boot } = this.media[slot];
    this.#write((share) => {
      boot.delete("vmlinuz");
      if (share === 1) boot.clear();
    }, "in part");
  }

  async writeBootFile(slot: SlotName, name: BootFileName, bytes: Uint8Array): Promise<void> {
    this.#write((share) => {
      if (share === 1) this.media[slot].boot.set(name, this.#stored(name, 0, bytes));
    }, "all or nothing");
  }

  async readBootFile(slot: SlotName, name: BootFileName): Promise<Uint8Array | null> {
    this.#mustBeOn();
    return this.media[slot].boot.get(name) ?? null;
  }

  async readNotes(): Promise<Uint8Array | null> {
    this.#mustBeOn();
    return this.notes;
  }

  async writeNotes(bytes: Uint8Array): Promise<void> {
    this.#write((share) => {
      if (share === 1) this.notes = bytes.slice();
    }, "all or nothing");
  }

  // ---------------------------------------------------------------- the power

  /** `act` gets how much of it happens: 1 all, 0 nothing. */
  #write(act: (share: number) => void, how: "all or nothing" | "in part"): void {
    this.#mustBeOn();
    this.#writes++;
    if (this.#writes < this.#cutAt) return act(1);
    this.#isOff = true;
    act(how === "in part" ? 0.5 : this.#fate === "done" ? 1 : 0);
    throw new PowerCut();
  }

  #mustBeOn(): void {
    if (this.#isOff) throw new PowerCut();
  }

  #stored(what: BootFileName | "root", offsetBytes: number, bytes: Uint8Array): Uint8Array {
    const stored = bytes.slice();
    if (this.flipIn === what && offsetBytes === 0 && stored.byteLength > 0) stored[0]! ^= 1;
    return stored;
  }
}

function part(bytes: Uint8Array, share: number): Uint8Array {
  return bytes.subarray(0, Math.floor(bytes.byteLength * share));
}
