import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { readFully, readFullyNoWait } from "../../hal/linux/libc.ts";

const test = suite("linux_libc");

const blockBytes = 4096;
const blockCount = 1024;

test("thousands of reads at once into many buffers -> each lands in its own, and in no other", () => {
  const dir = mkdtempSync(join(tmpdir(), "goldcopy-libc-"));
  const fd = openSync(join(dir, "data"), "w+");
  try {
    const block = new Uint32Array(blockBytes / 4);
    for (let index = 0; index < blockCount; index++)
      writeSync(fd, block.fill(index + 1), 0, blockBytes, index * blockBytes);
    const buffers = Array.from({ length: 64 }, () => new Uint32Array(blockBytes / 4));
    const holds = new Array<number>(buffers.length).fill(0);
    for (const readAtOnce of [readFully, readFullyNoWait]) {
      for (let turn = 0; turn < 20_000; turn++) {
        const slot = turn % buffers.length;
        const buffer = buffers[slot]!;
        assert.is(buffer[0], holds[slot], "changed by another read");
        const index = (turn * 7919) % blockCount;
        // A file system that cannot say without waiting (tmpfs) answers false and has read nothing that counts.
        const isRead = readAtOnce(fd, index * blockBytes, new Uint8Array(buffer.buffer));
        if (!isRead) buffer.fill(0);
        holds[slot] = isRead ? index + 1 : 0;
        assert.is(buffer[0], holds[slot]);
        assert.is(buffer.at(-1), holds[slot]);
      }
    }
  } finally {
    closeSync(fd);
    rmSync(dir, { recursive: true, force: true });
  }
});

test.run();
