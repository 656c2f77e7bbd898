/**
 * What a slot holds: the root as squashfs with its dm-verity tree behind it, and on the ESP a kernel, an initrd, and `slot.cfg` with the
 * words for the kernel's command line that bind the two: the root hash.
 */
import { closeSync, copyFileSync, mkdirSync, openSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { BuildError } from "../debian/build_error.ts";
import { kernelOf } from "../debian/packages.ts";
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
  /** Of the kernel's command line: `goldcopy.root=...`. */
  readonly words: string;
}

const blockBytes = 4096;

export async function makeSlot(work: string, tree: string, release: Release): Promise<Slot> {
  const dir = join(work, "slot");
  mkdirSync(dir, { recursive: true });
  const rootDir = join(work, "root");
  await fillRoot(rootDir, tree, release);
  const root = join(dir, "root.img");
  makeSquashfs(rootDir, root, release);
  const { rootHash, blocks } = addVerityTree(root, release);
  const kernel = join(dir, "vmlinuz");
  copyFileSync(kernelOf(tree), kernel);
  const initrd = join(dir, "initrd");
  makeInitrd(work, tree, initrd);
  const words = `goldcopy.root=${rootHash}:${blocks}`;
  const config = join(dir, "slot.cfg");
  writeFileSync(config, `set words="${words}"\n`);
  return { root, kernel, initrd, config, rootHash, words };
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
function addVerityTree(path: string, { epoch }: Release): { rootHash: string; blocks: number } {
  const blocks = Math.ceil(statSync(path).size / blockBytes);
  truncateSync(path, blocks * blockBytes);
  const sizes = ["--data-block-size", String(blockBytes), "--hash-block-size", String(blockBytes)];
  const where = ["--no-superblock", `--data-blocks=${blocks}`, `--hash-offset=${blocks * blockBytes}`, "--salt=-"];
  const said = runProgram("veritysetup", ["format", ...sizes, ...where, path, path], epoch);
  const rootHash = /Root hash:\s+([0-9a-f]{64})/.exec(said)?.[1];
  if (rootHash === undefined) throw new BuildError(`veritysetup names no root hash:\n${said}`);
  return { rootHash, blocks };
}

/** An empty file of this size. */
export function makeEmpty(path: string, bytes: number): void {
  closeSync(openSync(path, "w"));
  truncateSync(path, bytes);
}
