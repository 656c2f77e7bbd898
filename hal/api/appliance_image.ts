/**
 * The machine that an appliance image runs on, as an update needs it: two slots, the boot loader's variables, and what is kept outside
 * the slots. What fails rejects, with a sentence.
 */

export const slotNames = ["a", "b"] as const;
export type SlotName = (typeof slotNames)[number];

/** Beside the root, where the boot loader can read them. */
export const bootFileNames = ["vmlinuz", "initrd", "slot.cfg"] as const;
export type BootFileName = (typeof bootFileNames)[number];

/** Of the root that runs. */
export interface ImageRelease {
  readonly version: string;
  readonly commit: string;
  /** Grows with every release; 0: it was not built from a repository. */
  readonly counter: number;
  /** The kind of machine that it is built for. */
  readonly machine: string;
}

export interface UpdateKey {
  readonly name: string;
  /** Ed25519 (RFC 8032): 32 bytes. */
  readonly publicKey: Uint8Array;
}

export interface ImageSlots {
  readonly running: SlotName;
  readonly release: ImageRelease;
  /** Whose signatures the root that runs accepts. */
  readonly keys: readonly UpdateKey[];
  /** Of each slot's root. */
  readonly rootSizeBytes: number;

  /** Of images/boot/grub.cfg. */
  variables(): Promise<Readonly<Record<string, string>>>;
  /** All of them in one write of one sector: afterwards they are there as they were or as they shall be. */
  setVariables(changes: Readonly<Record<string, string>>): Promise<void>;

  writeRoot(slot: SlotName, offsetBytes: number, bytes: Uint8Array): Promise<void>;
  /** What was written is on the medium. */
  flushRoot(slot: SlotName): Promise<void>;
  /** From the medium, not from memory. `offsetBytes` and the length are multiples of 4,096. */
  readRoot(slot: SlotName, offsetBytes: number, target: Uint8Array): Promise<void>;

  /** Removes all of them, the kernel first: without it the boot loader passes the slot over. */
  clearBoot(slot: SlotName): Promise<void>;
  /** Durable when it resolves. A slot has it whole or not at all; one that was there before it is gone. */
  writeBootFile(slot: SlotName, name: BootFileName, bytes: Uint8Array): Promise<void>;
  /** From the medium; null: there is none. */
  readBootFile(slot: SlotName, name: BootFileName): Promise<Uint8Array | null>;

  /** A short document on the state partition, outside the slots; null: there is none. */
  readNotes(): Promise<Uint8Array | null>;
  /** As it was, or as it shall be. */
  writeNotes(bytes: Uint8Array): Promise<void>;
}

export interface ApplianceImage {
  readonly slots: ImageSlots;
  /** What the supervisor knows of the firmware. */
  facts(): MachineFacts;
  /** For consoles: why the version on trial is not good yet; null: nothing is on trial. */
  showTrial(why: string | null): void;
  /** What was shown last. */
  trialShown(): string | null;
  /** On every console. */
  say(text: string): void;
  /** False: another command that changes slots or variables is under way. Held until the process ends. */
  lock(): boolean;
  /** In order; the firmware hands over what it can. */
  restart(): void;
}

export interface MachineFacts {
  /** Every port for hosts listens. */
  readonly serving: boolean;
  /** Why the supervisor has given up starting the firmware again at once; null: it has not. */
  readonly degraded: string | null;
  /** Since the kernel's start. */
  readonly upMs: number;
}

/** Where a bundle comes from. */
export interface BundleSource {
  readonly name: string;
  /** From its beginning, as often as it is called, in pieces of any length. Rejects with a sentence. */
  open(): AsyncIterable<Uint8Array>;
}

/** Native, passed in so that the cores need no runtime. */
export interface SignatureCheck {
  /** SHA-256 of what comes in pieces. */
  sha256(): { update(bytes: Uint8Array): void; digest(): Uint8Array };
  /** False for whatever is no such signature. */
  ed25519(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean;
}
