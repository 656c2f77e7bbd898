/** What sysfs says of a block device that is to evict others, and whether the process may ask it. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { deviceName, maySendScsi, whyNotOneScsiDisk } from "../../hal/linux/block_device.ts";

const test = suite("block_device");
const sda = 8 * 256;

function sysfsWith(...entries: string[]): string {
  const sysfs = mkdtempSync(join(tmpdir(), "goldcopy-sysfs-"));
  const device = join(sysfs, "dev/block/8:0");
  mkdirSync(device, { recursive: true });
  for (const entry of entries) {
    mkdirSync(join(device, entry, ".."), { recursive: true });
    if (entry.endsWith("/")) mkdirSync(join(device, entry));
    else writeFileSync(join(device, entry), "");
  }
  return sysfs;
}

function judged(...entries: string[]): string | null {
  const sysfs = sysfsWith(...entries);
  try {
    return whyNotOneScsiDisk(sda, sysfs);
  } finally {
    rmSync(sysfs, { recursive: true });
  }
}

test("a SCSI disk as a whole -> nothing against it; device-mapper, md, a partition, anything else -> what it is", () => {
  assert.is(judged("device/scsi_level"), null);
  assert.match(judged("dm/") ?? "", /device-mapper/);
  assert.match(judged("md/") ?? "", /md/);
  assert.match(judged("partition") ?? "", /partition/);
  assert.match(judged("device/") ?? "", /no SCSI disk/);
  assert.match(judged() ?? "", /no SCSI disk/);
});

test("device numbers -> as sysfs has them, small and large", () => {
  assert.is(deviceName(0x0801), "8:1");
  assert.is(deviceName(0xfd03), "253:3");
  // Major 259, minor 300: (300 & 0xff) | (259 << 8) | ((300 & ~0xff) << 12).
  assert.is(deviceName(44 + 259 * 256 + 256 * 4096), "259:300");
});

test("capabilities of the process -> CAP_SYS_RAWIO or not", () => {
  assert.ok(maySendScsi("Name:\tbun\nCapEff:\t000001ffffffffff\nSeccomp:\t0\n"));
  assert.ok(maySendScsi("CapEff:\t0000000000020000\n"));
  assert.not(maySendScsi("CapEff:\t000001fffffdffff\nCapPrm:\t000001ffffffffff\n"));
  assert.not(maySendScsi("Name:\tbun\n"));
});

test.run();
