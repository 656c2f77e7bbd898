/**
 * What a slot holds: the root as squashfs with its dm-verity tree behind it, and on the ESP a kernel, an initrd, and `slot.cfg` with the
 * words for the kernel's command line that bind the two: the root hash.
 */
import { closeSync, copyFileSync, mkdirSync, openSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { slotConfig, slotWords } from "../../firmware/update/bundle_format.ts";
import { BuildError } from "../debian/build_error.ts";
import { kernelOf } from "../debian/packages.ts";
import { repositoryRoot } from "../tools.ts";
import { makeInitrd } from "./initrd.ts";
import { runProgram } from "./program.ts";
import type { Release } from "./release.ts";
import { fillRoot } from "./root.ts";

export interface Slot {
  /** For the slot's partition. */
  readonly root: string;
  readonly kernel: string;
  readonly initrd: string;
  readonly config: string;
  readonly rootHash: string;
  /** Of the root without its tree, 4,096 bytes each. */
  readonly rootBlocks: number;
  /** Of the kernel's command line: `goldcopy.root=...`. */
  readonly words: string;
}

const blockBytes = 4096;

/** Anybody has its other half (images/update_keys/README.md): for trying things out. */
export const developmentKey = join(repositoryRoot, "images/update_keys/development.pem");

/** `updateKeys`: PEM files. */
export async function makeSlot(
  work: string,
  tree: string,
  release: Release,
  updateKeys: readonly string[] = [developmentKey],
): Promise<Slot> {
  const dir = join(work, "slot");
  mkdirSync(dir, { recursive: true });
  const rootDir = join(work, "root");
  await fillRoot(rootDir, tree, release, updateKeys);
  const root = join(dir, "root.img");
  const { rootHash, rootBlocks } = packRoot(rootDir, root, release);
  const kernel = join(dir, "vmlinuz");
  copyFileSync(kernelOf(tree), kernel);
  const initrd = join(dir, "initrd");
  makeInitrd(work, tree, initrd);
  const words = slotWords(rootHash, rootBlocks);
  const config = join(dir, "slot.cfg");
  writeFileSync(config, slotConfig(rootHash, rootBlocks));
  return { root, kernel, initrd, config, rootHash, rootBlocks, words };
}

/** A folder as a root with its tree, into `path`. */
export function packRoot(rootDir: string, path: string, release: Release): { rootHash: string; rootBlocks: number } {
  makeSquashfs(rootDir, path, release);
  return addVerityTree(path, release);
}

/**
 * LZ4: an emulated processor unpacks Bun in 3.5 s, from zstd (a fifth smaller) in 5 to 6, and that is a third of all that a start costs it.
 */
function makeSquashfs(rootDir: string, path: string, { epoch }: Release): void {
  const compression = ["-comp", "lz4", "-Xhc", "-b", "128K"];
  // SOURCE_DATE_EPOCH is the date of all that is in it.
  runProgram(
    "mksquashfs",
    [rootDir, path, "-noappend", "-quiet", "-no-progress", "-all-root", "-no-xattrs", ...compression],
    epoch,
  );
}

/** Behind the data, without a header: what it would say is on the kernel's command line. */
function addVerityTree(path: string, { epoch }: Release): { rootHash: string; rootBlocks: number } {
  const blocks = Math.ceil(statSync(path).size / blockBytes);
  truncateSync(path, blocks * blockBytes);
  const sizes = ["--data-block-size", String(blockBytes), "--hash-block-size", String(blockBytes)];
  const where = ["--no-superblock", `--data-blocks=${blocks}`, `--hash-offset=${blocks * blockBytes}`, "--salt=-"];
  const said = runProgram("veritysetup", ["format", ...sizes, ...where, path, path], epoch);
  const rootHash = /Root hash:\s+([0-9a-f]{64})/.exec(said)?.[1];
  if (rootHash === undefined) throw new BuildError(`veritysetup names no root hash:\n${said}`);
  return { rootHash, rootBlocks: blocks };
}

/** An empty file of this size. */
export function makeEmpty(path: string, bytes: number): void {
  closeSync(openSync(path, "w"));
  truncateSync(path, bytes);
}
