/** A real appliance, log and shelf included, under every NBD client that hosts use; and what they were promised after a kill. */
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { waitUntil } from "../../scripts/lab_site/wait.ts";
import { pattern } from "../unit/support/nbd_session.ts";
import { mebibyte, scratch, TestAppliance, wipe } from "./support/appliance.ts";
import { runOk, testWith } from "./support/clients.ts";
import { commandOf, NbdHost } from "./support/raw_socket.ts";

const test = suite("nbd_appliance");
const volumeBytes = 64 * mebibyte;

let dir = "";
let oak: TestAppliance;

test.before(async () => {
  dir = scratch();
  oak = await TestAppliance.make(join(dir, "oak"), {
    cacheBytes: 128 * mebibyte,
    diskBytes: [2048 * mebibyte],
  });
  await oak.start();
  for (const name of ["copied", "converted", "checked", "flushed"]) await oak.addVolume(name, volumeBytes);
});
test.after(async () => {
  await oak.kill();
  wipe(dir);
});

function uri(volume: string, port = 0): string {
  return `nbd://${oak.hba(port)}/${volume}`;
}

function sha256(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}

/** Extents as [offset, length, type]; type 0 is data, 3 a hole of zeroes. */
async function mapOf(volume: string): Promise<[number, number, number][]> {
  const { stdout } = await runOk("nbdinfo", ["--map", "--json", uri(volume)]);
  const extents = JSON.parse(stdout) as { offset: number; length: number; type: number }[];
  return extents.map(({ offset, length, type }) => [offset, length, type]);
}

async function destaged(): Promise<void> {
  const done = await waitUntil(30_000, 20, async () => {
    const { groups } = await oak.demand<{ groups: { appliedSeq: number; commitSeq: number }[] }>("GET", "/v1/status");
    return groups.every(({ appliedSeq, commitSeq }) => appliedSeq === commitSeq) ? true : null;
  });
  assert.ok(done, "everything goes home");
}

testWith(
  test,
  ["nbdcopy", "nbdinfo"],
  "nbdcopy over four connections -> the same bytes; nbdinfo --map finds data and holes",
  async () => {
    const source = join(dir, "source.img");
    const back = join(dir, "back.img");
    const bytes = new Uint8Array(volumeBytes);
    bytes.set(pattern(20 * mebibyte, 3), 4 * mebibyte);
    writeFileSync(source, bytes);
    await runOk("nbdcopy", ["--connections=4", "--requests=32", "--flush", source, uri("copied")]);
    await runOk("nbdcopy", ["--connections=4", "--requests=32", uri("copied", 1), back]);
    assert.is(sha256(back), sha256(source));
    for (const settle of [async () => {}, destaged]) {
      await settle();
      assert.equal(await mapOf("copied"), [
        [0, 4 * mebibyte, 3],
        [4 * mebibyte, 20 * mebibyte, 0],
        [24 * mebibyte, 40 * mebibyte, 3],
      ]);
    }
  },
);

testWith(test, ["qemu-img"], "qemu-img convert, compare, map through a qcow2 -> identical", async () => {
  const source = join(dir, "source.img");
  const qcow = join(dir, "copy.qcow2");
  await runOk("qemu-img", ["convert", "-n", "-f", "raw", "-O", "raw", source, uri("converted")]);
  await runOk("qemu-img", ["compare", "-f", "raw", "-F", "raw", source, uri("converted")]);
  await runOk("qemu-img", ["convert", "-f", "raw", "-O", "qcow2", uri("converted"), qcow]);
  await runOk("qemu-img", ["compare", "-f", "qcow2", "-F", "raw", qcow, uri("converted")]);
  const map = JSON.parse((await runOk("qemu-img", ["map", "--output=json", "-f", "raw", uri("converted")])).stdout);
  assert.ok((map as { data: boolean }[]).some(({ data }) => !data));
});

testWith(
  test,
  ["qemu-io", "nbdinfo"],
  "qemu-io: overlapping asynchronous I/O, discard, zeroes with and without holes, flush -> its checks pass",
  async () => {
    const commands = [
      ...["aio_write -P 1 0 8M", "aio_write -P 2 8M 8M", "aio_write -P 3 16M 8M", "aio_flush"],
      ...["aio_read -P 1 0 8M", "aio_read -P 2 8M 8M", "aio_read -P 3 16M 8M", "aio_flush"],
      ...["write -z 0 4M", "read -P 0 0 4M", "write -z -u 8M 4M", "read -P 0 8M 4M", "discard 16M 4M"],
      ...["read -P 1 4M 4M", "read -P 2 12M 4M", "read -P 3 20M 4M", "flush"],
    ];
    const ran = await runOk("qemu-io", ["-f", "raw", uri("checked"), ...commands.flatMap((each) => ["-c", each])]);
    assert.not.match(ran.stdout, /Pattern verification failed|error|failed/i);
    await destaged();
    assert.equal(
      await mapOf("checked"),
      [
        [0, 8 * mebibyte, 0],
        [8 * mebibyte, 4 * mebibyte, 3],
        [12 * mebibyte, 4 * mebibyte, 0],
        [16 * mebibyte, 4 * mebibyte, 3],
        [20 * mebibyte, 4 * mebibyte, 0],
        [24 * mebibyte, 40 * mebibyte, 3],
      ],
      "zeroes that may be no hole keep their space (NBD_CMD_FLAG_NO_HOLE)",
    );
  },
);

testWith(
  test,
  ["fio"],
  "fio with verify, random and overlapping sizes at depth 32 -> every block as written",
  async () => {
    const ran = await runOk("fio", [
      ...["--name=verify", "--ioengine=nbd", `--uri=${uri("checked")}`, "--rw=randrw", "--bsrange=512-128k"],
      ...["--blockalign=512", "--iodepth=32", "--size=32m", "--verify=crc32c", "--verify_fatal=1"],
      ...["--verify_state_save=0", "--randrepeat=0", "--serialize_overlap=1"],
    ]);
    assert.match(ran.stdout, /err= 0/);
  },
);

test("writes on two connections, a flush on the third, a kill -> what was answered is there (multi-conn)", async () => {
  const hosts = await Promise.all([0, 1, 0].map((port) => NbdHost.open(oak.hba(port), "flushed")));
  const [first, second, third] = hosts as [NbdHost, NbdHost, NbdHost];
  for (let index = 0; index < 50; index++) {
    const [left, right] = [pattern(4096, index), pattern(4096, 1000 + index)];
    const errors = await Promise.all([first.write(index * 8192, left), second.write(index * 8192 + 4096, right)]);
    assert.equal(errors, [0, 0]);
  }
  assert.is(await third.ask(commandOf.flush, 0, 0), 0);
  await oak.kill();
  await oak.start();
  const again = (await NbdHost.open(oak.hba(1), "flushed"))!;
  for (let index = 0; index < 50; index++) {
    const found = await again.read(index * 8192, 8192);
    assert.equal(found, Buffer.concat([pattern(4096, index), pattern(4096, 1000 + index)]));
  }
  again.close();
});

test.run();
