/**
 * Puts a bundle into the slot that does not run, and has it started once.
 *
 *     the bundle is read to its end ─▶ nothing leads to the other slot ─▶ its boot files are removed ─▶ root ─▶ initrd, words, kernel
 *       ─▶ all of it is read back from the medium ─▶ one sector of the boot loader's variables: it is started next
 *
 * Invariants:
 * - The running slot is never written to.
 * - Whatever ends the machine in between, it starts what ran before: until the last step nothing leads to the other slot, and that
 *   step is done or not.
 * - A bundle that is wrong anywhere is refused before anything is written. It is read twice: the second time may bring something
 *   else, which is found by its digests.
 */
import type { BundleSource, ImageSlots, SignatureCheck, SlotName } from "../../hal/api/appliance_image.ts";
import { toHex } from "../codec/bytes.ts";
import { type BundleManifest, partOf, slotConfig } from "./bundle_format.ts";
import { updateLimits } from "./limits.ts";
import { encodeNotes, type SlotNote, type UpdateNotes, withSlot } from "./notes.ts";
import { type ReadBundle, readBundle } from "./read_bundle.ts";
import { refused, type UpdateResult, whyFailed } from "./refusal.ts";
import { otherSlot, phaseOf, variablesOfTrial, variablesToWrite } from "./slot_state.ts";
import { judgeManifest } from "./versions.ts";

export interface Installation {
  readonly slots: ImageSlots;
  readonly check: SignatureCheck;
  readonly notes: UpdateNotes;
  readonly source: BundleSource;
  /** What is being done, for people. */
  tell(text: string): void;
}

export interface Installed {
  readonly version: string;
  readonly slot: SlotName;
  readonly counter: number;
  readonly key: string;
}

/** Nothing is written. */
export function verifyBundle({
  slots,
  check,
  notes,
  source,
}: Omit<Installation, "tell">): Promise<UpdateResult<ReadBundle>> {
  return readBundle(source, {
    keys: slots.keys,
    check,
    judge: (manifest) => judgeManifest(manifest, slots, notes),
    take: () => {},
  });
}

export async function installBundle(installation: Installation): Promise<UpdateResult<Installed>> {
  const { slots, source, tell } = installation;
  const { running } = slots;
  const slot = otherSlot(running);
  try {
    const phase = phaseOf(await slots.variables(), running);
    if (phase === "trial" || phase === "new")
      return refused(
        "on-trial",
        `${slots.release.version}, which runs, has not been found to work yet, and the other slot is what could replace it: ` +
          "goldcopy update status says what it waits for",
      );
    const verified = await verifyBundle(installation);
    if (!verified.ok) return verified;
    const { manifest, key } = verified.value;
    tell(`${source.name}: ${manifest.version}, signed with the key ${key}`);
    const { version, counter } = manifest;
    const note = async (state: SlotNote["state"]) =>
      slots.writeNotes(encodeNotes(withSlot(installation.notes, slot, { version, counter, state, why: null })));
    await slots.setVariables(variablesToWrite(running));
    await note("writing");
    await slots.clearBoot(slot);
    const written = await writeSlot(installation, manifest, slot);
    if (!written.ok) return written;
    tell(`slot ${slot} is written; it is read back`);
    const damage = await damageOf(installation, manifest, slot);
    if (damage !== null)
      return refused(
        "slot-damaged",
        `${damage} in slot ${slot} is not what was written there: the system disk loses data; replace it. What runs is not touched`,
      );
    await note("written");
    await slots.setVariables(variablesOfTrial(running));
    return { ok: true, value: { version, slot, counter, key } };
  } catch (error) {
    return refused("failed", `${whyFailed(error)}; what runs is started again as before`);
  }
}

/** The boot files last, and the kernel as the last of them: without it the boot loader passes the slot over. */
async function writeSlot(
  { slots, check, source }: Installation,
  verified: BundleManifest,
  slot: SlotName,
): Promise<UpdateResult<null>> {
  const boot: Record<"vmlinuz" | "initrd", Uint8Array> = {
    vmlinuz: new Uint8Array(partOf(verified, "vmlinuz").bytes),
    initrd: new Uint8Array(partOf(verified, "initrd").bytes),
  };
  const outcome = await readBundle(source, {
    keys: slots.keys,
    check,
    // Both are decoded from the same layout: equal text is equal content.
    judge: (manifest) =>
      JSON.stringify(manifest) === JSON.stringify(verified)
        ? null
        : refused(
            "unreadable",
            `${source.name} is another bundle than a moment ago: try again when it does not change`,
          ),
    take: async ({ name }, offsetBytes, piece) => {
      if (name === "root") await slots.writeRoot(slot, offsetBytes, piece);
      else boot[name].set(piece, offsetBytes);
    },
  });
  if (!outcome.ok) return outcome;
  await slots.flushRoot(slot);
  await slots.writeBootFile(slot, "initrd", boot.initrd);
  await slots.writeBootFile(slot, "slot.cfg", configOf(verified));
  await slots.writeBootFile(slot, "vmlinuz", boot.vmlinuz);
  return { ok: true, value: null };
}

function configOf({ rootHash, rootBlocks }: BundleManifest): Uint8Array {
  return new TextEncoder().encode(slotConfig(rootHash, rootBlocks));
}

/** What is not there as it was written; null: all is. */
async function damageOf(
  { slots, check }: Installation,
  manifest: BundleManifest,
  slot: SlotName,
): Promise<string | null> {
  const { bytes, sha256 } = partOf(manifest, "root");
  const hash = check.sha256();
  const buffer = new Uint8Array(updateLimits.readBytes);
  for (let at = 0; at < bytes; at += buffer.byteLength) {
    const piece = buffer.subarray(0, Math.min(buffer.byteLength, bytes - at));
    await slots.readRoot(slot, at, piece);
    hash.update(piece);
  }
  if (toHex(hash.digest()) !== sha256) return "the root";
  for (const name of ["vmlinuz", "initrd"] as const) {
    const found = await slots.readBootFile(slot, name);
    const fileHash = check.sha256();
    if (found !== null) fileHash.update(found);
    if (found === null || toHex(fileHash.digest()) !== partOf(manifest, name).sha256) return `the file ${name}`;
  }
  const config = await slots.readBootFile(slot, "slot.cfg");
  return config !== null && toHex(config) === toHex(configOf(manifest)) ? null : "the file slot.cfg";
}
