/**
 * Maps every block of every volume of a stopped appliance, through the store's own code, without the data: run as a process of its
 * own by the `memory` bench. Arguments: the appliance's board profile. Prints what it mapped as JSON.
 *
 * The data is zeros with the checksums of zeros. Writes of it are dropped on their way to the disk, whose file has holes there that
 * read as zeros: so every read of the appliance later finds what its map says.
 */
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { parseBoardProfile } from "../../firmware/manage/board_profile.ts";
import { openPool } from "../../firmware/store/open_pool.ts";
import type { GroupStore, HomeStep, Pool, StoreError } from "../../firmware/store/store.ts";
import type { Disk, DiskError, Shelf } from "../../hal/api/shelf.ts";
import { LinuxClock } from "../../hal/linux/clock.ts";
import { linuxDigests } from "../../hal/linux/digests.ts";
import { Discarder } from "../../hal/linux/discard.ts";
import { linuxEntropy } from "../../hal/linux/entropy.ts";
import { ReadShare } from "../../hal/linux/read_share.ts";
import { ScsiPort } from "../../hal/linux/scsi_port.ts";
import { openShelf } from "../../hal/linux/shelf.ts";

const blockBytes = 4096;
/** One step: 16 MiB of volume. */
const stepBlocks = 4096;
/** One apply and commit: 4 GiB of volume, 1,366 leaves of the map. */
const stepsPerCommit = 256;

const data = new Uint8Array(stepBlocks * blockBytes);
const crcs = new Uint32Array(stepBlocks).fill(linuxDigests.crc32(data.subarray(0, blockBytes)));

/** A disk that keeps everything but the data of this program. */
function withoutData(disk: Disk): Disk {
  return {
    place: disk.place,
    sizeBytes: disk.sizeBytes,
    read: (offset, target, done) => disk.read(offset, target, done),
    tryRead: (offset, target) => disk.tryRead(offset, target),
    write: (offset, sources, done: (error: DiskError | null) => void) => {
      if (sources.every((source) => source.buffer === data.buffer)) clock.defer(() => done(null));
      else disk.write(offset, sources, done);
    },
    flush: (done) => disk.flush(done),
    discard: (offset, length, done) => disk.discard(offset, length, done),
  };
}

const clock = new LinuxClock();
const path = process.argv[2] ?? "";
const profile = parseBoardProfile(basename(path), Bun.TOML.parse(readFileSync(path, "utf8")));
if (!profile.ok) throw new Error(profile.text);
const { board, config } = profile.profile;
const discarder = new Discarder();
const shelfOptions = { clock, discarder, reads: new ReadShare(16), scsi: new ScsiPort(clock), mayCreate: false };
const opened = await Promise.all(
  board.shelves.map(async (description) => (await openShelf(description, shelfOptions)).shelf),
);
const shelves: Shelf[] = opened.map(({ name, fencing, disks }) => ({
  name,
  fencing,
  disks: disks.map((disk) => (disk === null ? null : withoutData(disk))),
}));

const pool = await new Promise<Pool>((resolve, reject) => {
  const mebi = 1024 * 1024;
  // Slabs and slots are the pool's own; only the size of the map cache counts here.
  const format = { slabBytes: 64 * mebi, logSlotBytes: 4 * mebi, mapCacheBytes: 64 * mebi };
  const options = {
    clock,
    entropy: linuxEntropy,
    digests: linuxDigests,
    shelves,
    arrayName: config.array.name,
    format,
  };
  openPool({ ...options, createIfBlank: false }, (result) => {
    if (result.ok) resolve(result.pool);
    else reject(new Error(result.text));
  });
});

let mappedBytes = 0;
for (const id of pool.groupIds()) {
  const group = await new Promise<GroupStore>((resolve, reject) => {
    pool.openGroup(id, (error, store) => (store === null ? reject(new Error(error?.text)) : resolve(store)));
  });
  await fill(group);
}
process.stdout.write(`${JSON.stringify({ mappedBytes, metadataBytes: usedBytes() })}\n`);
process.exit(0);

function usedBytes(): number {
  return pool.usage().totalBytes - pool.usage().freeBytes - mappedBytes;
}

async function fill(group: GroupStore): Promise<void> {
  const document = group.document();
  for (const { number, sizeBytes } of group.volumes("head")) {
    const blocks = sizeBytes / blockBytes;
    let steps: HomeStep[] = [];
    for (let firstBlock = 0; firstBlock < blocks; firstBlock += stepBlocks) {
      const count = Math.min(stepBlocks, blocks - firstBlock);
      const bytes = data.subarray(0, count * blockBytes);
      steps.push({ kind: "data", volume: number, firstBlock, bytes, crcs: crcs.subarray(0, count) });
      if (steps.length < stepsPerCommit && firstBlock + stepBlocks < blocks) continue;
      await whenDone((done) => group.apply(steps, done));
      await whenDone((done) => group.commit(document, done));
      steps = [];
    }
    mappedBytes += sizeBytes;
  }
}

function whenDone(start: (done: (error: StoreError | null) => void) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    start((error) => (error === null ? resolve() : reject(new Error(`${error.code}: ${error.text}`))));
  });
}
