/** A process for linux_only.test.ts: stores into its write cache for ever, and reports each store once it is persisted. */
import { writeSync } from "node:fs";
import { pattern } from "./bench.ts";
import { openBoard } from "./linux_bench.ts";

const placeCount = 200;
const placeBytes = 5000;

const { hal } = await openBoard(JSON.parse(process.argv[2]!));
let index = 0;

function next(): void {
  const offset = (index % placeCount) * placeBytes;
  const bytes = new Uint8Array(placeBytes);
  new DataView(bytes.buffer).setUint32(0, index, true);
  bytes.set(pattern(placeBytes - 4, index + 1), 4);
  hal.cache.memory.set(bytes, offset);
  hal.cache.wrote(offset, placeBytes);
  hal.cache.persist((outcome) => {
    if (outcome !== "persisted") process.exit(1);
    writeSync(1, `${index}\n`);
    index++;
    setImmediate(next);
  });
}

next();
