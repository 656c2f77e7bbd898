/** A disk that takes no writes while the log goes home, and takes them again: what its blocks held before is still there. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { SoloArray } from "./support/solo_array.ts";

const test = suite("absent_disk");

const blockBytes = 4096;
const sectorBytes = 512;
const blocks = 64;

test("blocks written in part, and the disk away when they go home -> nothing of their other parts is lost", () => {
  const array = new SoloArray(1);
  array.boot();
  array.addVolume("v1", 16 * 1048576);
  const host = array.connect("v1");
  for (let block = 0; block < blocks; block++) host.write(block * blockBytes, new Uint8Array(blockBytes).fill(1));
  array.until("whole blocks are written", () => host.answered === blocks);
  array.until("they are at home", () => array.destaged());
  for (let block = 0; block < blocks; block++)
    host.write(block * blockBytes + sectorBytes, new Uint8Array(sectorBytes).fill(2));
  array.until("a sector of each is written", () => host.answered === 2 * blocks);
  array.disk.refusesWrites = true;
  array.until("the destage has failed", () => array.events("destage-failed").length > 0);
  array.disk.refusesWrites = false;
  array.until("they are at home", () => array.destaged());
  assert.equal(array.events("block-unreadable"), []);
  host.read(0, blocks * blockBytes);
  array.until("they are read", () => host.lastRead !== null);
  const expected = new Uint8Array(blockBytes).fill(1).fill(2, sectorBytes, 2 * sectorBytes);
  for (let block = 0; block < blocks; block++)
    assert.equal(host.lastRead!.slice(block * blockBytes, (block + 1) * blockBytes), expected, `block ${block}`);
  assert.equal(host.errors, []);
});

test.run();
