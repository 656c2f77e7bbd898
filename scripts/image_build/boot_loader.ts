/**
 * GRUB for both kinds of firmware, with one configuration and one set of variables on the ESP. For BIOS the first sector of the disk
 * loads the core image from its partition; where that begins is written into both, as grub-install would do it.
 */
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { espVolumeId, grubModules, partitions } from "../../images/recipe.ts";
import { BuildError } from "../debian/build_error.ts";
import { repositoryRoot } from "../tools.ts";
import { runProgram } from "./program.ts";
import { makeEmpty, type Slot } from "./slot.ts";

export const sectorBytes = 512;
/** In boot.img (grub-core/boot/i386/pc/boot.S): where the core image begins; and a jump that takes the BIOS's word for the drive. */
const bootImage = { codeBytes: 440, coreSectorAt: 0x5c, driveCheckAt: 0x66 } as const;
/** In the core image's first sector: the list of the other ones, from its end. */
const coreListAt = sectorBytes - 12;
const noOperation = 0x90;

/** `code` for the first sector of the disk, `core` for the BIOS-boot partition, which begins at `coreSector`. */
export function biosLoader(
  work: string,
  tree: string,
  coreSector: number,
  epoch: number,
): { code: Buffer; core: Buffer } {
  const corePath = join(work, "core.img");
  const directory = join(tree, "usr/lib/grub/i386-pc");
  const modules = [...grubModules.both, ...grubModules.bios];
  // The comma without a disk: the one that the BIOS has started from. The ESP is the second partition.
  runProgram(
    "grub-mkimage",
    ["-O", "i386-pc", "-d", directory, "-p", "(,gpt2)/goldcopy", "-o", corePath, ...modules],
    epoch,
  );
  const core = readFileSync(corePath);
  core.writeBigUInt64LE(BigInt(coreSector + 1), coreListAt);
  if (core.byteLength > partitions.bios.sizeBytes)
    throw new BuildError("GRUB's core image is too long for its partition");
  const code = Buffer.from(readFileSync(join(directory, "boot.img")).subarray(0, bootImage.codeBytes));
  code.writeBigUInt64LE(BigInt(coreSector), bootImage.coreSectorAt);
  code.fill(noOperation, bootImage.driveCheckAt, bootImage.driveCheckAt + 2);
  return { code, core };
}

/** The ESP with the loader for UEFI, GRUB's configuration, and slot a. */
export function makeEsp(work: string, tree: string, slot: Slot, epoch: number): string {
  const loader = join(work, "bootx64.efi");
  const directory = join(tree, "usr/lib/grub/x86_64-efi");
  const modules = [...grubModules.both, ...grubModules.efi];
  runProgram("grub-mkimage", ["-O", "x86_64-efi", "-d", directory, "-p", "/goldcopy", "-o", loader, ...modules], epoch);
  const files = join(work, "esp");
  for (const dir of ["EFI/BOOT", "goldcopy", "slot-a"]) mkdirSync(join(files, dir), { recursive: true });
  copyFileSync(loader, join(files, "EFI/BOOT/BOOTX64.EFI"));
  copyFileSync(join(repositoryRoot, "images/boot/grub.cfg"), join(files, "goldcopy/grub.cfg"));
  writeFileSync(join(files, "goldcopy/grubenv"), environmentBlock({ next: "a", tries: "0", good_a: "0", good_b: "0" }));
  for (const [name, path] of [
    ["vmlinuz", slot.kernel],
    ["initrd", slot.initrd],
    ["slot.cfg", slot.config],
  ] as const)
    copyFileSync(path, join(files, "slot-a", name));

  // GRUB follows a file cluster by cluster: with 512 bytes in each, kernel and initrd took 4 s of an emulated processor.
  const image = join(work, "esp.img");
  makeEmpty(image, partitions.esp.sizeBytes);
  runProgram("mkfs.vfat", ["--invariant", "-F", "16", "-s", "32", "-i", espVolumeId, "-n", "GOLDCOPY", image], epoch);
  // In a fixed order, with the date of the commit.
  runProgram("find", [files, "-exec", "touch", `--date=@${epoch}`, "{}", "+"], epoch);
  runProgram("mmd", ["-i", image, "::/EFI", "::/EFI/BOOT", "::/goldcopy", "::/slot-a"], epoch);
  for (const path of [
    "EFI/BOOT/BOOTX64.EFI",
    "goldcopy/grub.cfg",
    "goldcopy/grubenv",
    "slot-a/vmlinuz",
    "slot-a/initrd",
    "slot-a/slot.cfg",
  ])
    runProgram("mcopy", ["-m", "-i", image, join(files, path), `::/${path}`], epoch);
  return image;
}

/** As grub-editenv writes it: 1024 bytes, the rest filled with #. */
export function environmentBlock(variables: Readonly<Record<string, string>>): string {
  const lines = Object.entries(variables).map(([name, value]) => `${name}=${value}\n`);
  return `# GRUB Environment Block\n${lines.join("")}`.padEnd(1024, "#");
}
