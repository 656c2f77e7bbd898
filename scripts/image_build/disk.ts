/**
 * The disk image: GPT, the boot loader for BIOS, the ESP, slot A, an empty slot B, and an empty state partition. Made in a file, without
 * root and without loop devices; where there is nothing it has holes.
 */
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { diskBytes, diskUuid, mebibyte, partitions, stateFilesystemUuid } from "../../images/recipe.ts";
import { BuildError } from "../debian/build_error.ts";
import { biosLoader, makeEsp, sectorBytes } from "./boot_loader.ts";
import { runProgram } from "./program.ts";
import { makeEmpty, type Slot } from "./slot.ts";

type PartitionName = keyof typeof partitions;

/** Where each partition begins, in bytes. */
export function partitionStarts(): Record<PartitionName, number> {
  let next = mebibyte;
  const starts = Object.entries(partitions).map(([name, { sizeBytes }]) => {
    const start = next;
    next += sizeBytes;
    return [name, start] as const;
  });
  return Object.fromEntries(starts) as Record<PartitionName, number>;
}

export function makeDisk(work: string, path: string, wanted: { tree: string; slot: Slot; epoch: number }): void {
  const { tree, slot, epoch } = wanted;
  const starts = partitionStarts();
  const { code, core } = biosLoader(work, tree, starts.bios / sectorBytes, epoch);
  const contents: [PartitionName, Buffer][] = [
    ["bios", core],
    ["esp", readFileSync(makeEsp(work, tree, slot, epoch))],
    ["rootA", readFileSync(slot.root)],
  ];
  makeEmpty(path, diskBytes);
  runProgram("sfdisk", ["--quiet", "--no-reread", path], epoch, { input: partitionTable(starts) });
  const fd = openSync(path, "r+");
  try {
    writeSync(fd, code, 0, code.byteLength, 0);
    for (const [name, bytes] of contents) {
      if (bytes.byteLength > partitions[name].sizeBytes)
        throw new BuildError(
          `${partitions[name].name} has room for ${partitions[name].sizeBytes} bytes, not for ${bytes.byteLength}`,
        );
      writeSparse(fd, bytes, starts[name]);
    }
  } finally {
    closeSync(fd);
  }
  makeState(path, starts.state, epoch);
}

function partitionTable(starts: Record<PartitionName, number>): string {
  const lines = Object.entries(partitions).map(([key, { name, type, uuid, sizeBytes }]) => {
    const start = starts[key as PartitionName] / sectorBytes;
    return `start=${start}, size=${sizeBytes / sectorBytes}, type=${type}, uuid=${uuid}, name="${name}"`;
  });
  return `label: gpt\nlabel-id: ${diskUuid}\nunit: sectors\n${lines.join("\n")}\n`;
}

function makeState(disk: string, startBytes: number, epoch: number): void {
  const extended = `offset=${startBytes},hash_seed=${stateFilesystemUuid},lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0`;
  const size = `${partitions.state.sizeBytes / 1024}k`;
  const args = ["-q", "-F", "-t", "ext4", "-m", "0", "-L", "goldcopy-state", "-U", stateFilesystemUuid, "-E", extended];
  runProgram("mke2fs", [...args, disk, size], epoch, { environment: { E2FSPROGS_FAKE_TIME: String(epoch) } });
}

/** Zeros stay holes. */
function writeSparse(fd: number, bytes: Buffer, offset: number): void {
  const zeros = Buffer.alloc(mebibyte);
  for (let at = 0; at < bytes.byteLength; at += mebibyte) {
    const part = bytes.subarray(at, at + mebibyte);
    if (!part.equals(zeros.subarray(0, part.byteLength))) writeSync(fd, part, 0, part.byteLength, offset + at);
  }
}
