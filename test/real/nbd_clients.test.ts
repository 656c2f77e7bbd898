/** The NBD front end over real TCP ports, with the clients that hosts really use. */
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { pattern } from "../unit/support/nbd_session.ts";
import { run, runOk, testWith } from "./support/clients.ts";
import { type RunningServer, startServer } from "./support/nbd_server.ts";

const test = suite("nbd_clients");
const mebibyte = 1048576;
const volumeBytes = 64 * mebibyte;

let server: RunningServer;
let cold: RunningServer;
let folder: string;

test.before(async () => {
  folder = mkdtempSync(join(tmpdir(), "goldcopy-nbd-"));
  const volumes = [`demo-1=${volumeBytes}`, `demo-2=${volumeBytes}`, `golden=${mebibyte}:ro`];
  server = await startServer(volumes);
  cold = await startServer([...volumes, "--cold"]);
});

test.after(async () => {
  await server.stop();
  await cold.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** Every client is run against reads served at once and against reads served later. */
function servers(): [string, RunningServer][] {
  return [
    ["warm", server],
    ["cold", cold],
  ];
}

function sha256(path: string): string {
  return createHash("sha256").update(readFileSync(path)).digest("hex");
}

testWith(test, ["nbdinfo"], "nbdinfo lists and describes -> names, sizes, block sizes, flags", async () => {
  const list = JSON.parse((await runOk("nbdinfo", ["--list", "--json", server.uri])).stdout);
  assert.equal(
    list.exports.map((each: { "export-name": string }) => each["export-name"]),
    ["demo-1", "demo-2", "golden"],
  );
  const info = JSON.parse((await runOk("nbdinfo", ["--json", "--no-content", `${server.uri}/demo-1`])).stdout);
  assert.is(info.protocol, "newstyle-fixed");
  assert.is(info.structured, true);
  const demo = info.exports[0];
  assert.is(demo["export-size"], volumeBytes);
  assert.equal(
    [demo.block_size_minimum, demo.block_size_preferred, demo.block_size_maximum],
    [512, 4096, 32 * mebibyte],
  );
  for (const flag of [
    "can_cache",
    "can_df",
    "can_fast_zero",
    "can_flush",
    "can_fua",
    "can_multi_conn",
    "can_trim",
    "can_zero",
  ]) {
    assert.is(demo[flag], true, flag);
  }
  assert.is(demo.is_read_only, false);
  const golden = JSON.parse((await runOk("nbdinfo", ["--json", "--no-content", `${server.uri}/golden`])).stdout);
  assert.is(golden.exports[0].is_read_only, true);
  assert.is.not((await run("nbdinfo", [`${server.uri}/nowhere`])).code, 0);
});

testWith(
  test,
  ["nbdcopy", "nbdinfo"],
  "nbdcopy there and back, sparse -> the same bytes, holes stay holes",
  async () => {
    for (const [name, each] of servers()) {
      const source = join(folder, `source-${name}`);
      const back = join(folder, `back-${name}`);
      const bytes = new Uint8Array(volumeBytes);
      bytes.set(pattern(3 * mebibyte, 11), mebibyte);
      bytes.set(pattern(12_345, 12), 40 * mebibyte + 512);
      writeFileSync(source, bytes);
      await runOk("nbdcopy", ["--synchronous", source, `${each.uri}/demo-1`]);
      await runOk("nbdcopy", ["--flush", source, `${each.uri}/demo-2`]);
      await runOk("nbdcopy", [`${each.uri}/demo-1`, back]);
      assert.is(sha256(back), sha256(source), name);
      await runOk("nbdcopy", [`${each.uri}/demo-2`, back]);
      assert.is(sha256(back), sha256(source), name);
      const map = JSON.parse((await runOk("nbdinfo", ["--map", "--json", `${each.uri}/demo-2`])).stdout) as {
        offset: number;
        length: number;
        type: number;
      }[];
      const data = map.filter((extent) => extent.type === 0);
      assert.ok(
        map.some((extent) => extent.type === 3 && extent.length >= 30 * mebibyte),
        JSON.stringify(map),
      );
      assert.ok(
        data.some((extent) => extent.offset === mebibyte && extent.length === 3 * mebibyte),
        JSON.stringify(map),
      );
    }
  },
);

testWith(test, ["qemu-img"], "qemu-img convert, compare, map -> identical, holes found", async () => {
  for (const [name, each] of servers()) {
    const source = join(folder, `qemu-${name}.raw`);
    const bytes = new Uint8Array(volumeBytes);
    bytes.set(pattern(5 * mebibyte, 21), 7 * mebibyte);
    writeFileSync(source, bytes);
    await runOk("qemu-img", ["convert", "-n", "-f", "raw", "-O", "raw", source, `${each.uri}/demo-1`]);
    const compared = await runOk("qemu-img", ["compare", "-f", "raw", "-F", "raw", source, `${each.uri}/demo-1`]);
    assert.match(compared.stdout, /identical/);
    const map = JSON.parse(
      (await runOk("qemu-img", ["map", "--output=json", "-f", "raw", `${each.uri}/demo-1`])).stdout,
    ) as {
      start: number;
      length: number;
      data: boolean;
    }[];
    assert.ok(
      map.some((extent) => !extent.data && extent.start >= 12 * mebibyte),
      JSON.stringify(map),
    );
    const info = JSON.parse(
      (await runOk("qemu-img", ["info", "--output=json", "-f", "raw", `${each.uri}/demo-1`])).stdout,
    );
    assert.is(info["virtual-size"], volumeBytes);
  }
});

testWith(test, ["qemu-io"], "qemu-io: unaligned, zeroes, discard, FUA, flush -> its own checks pass", async () => {
  for (const [, each] of servers()) {
    const commands = [
      "write -P 5 0 1M",
      "write -f -P 6 512 512",
      "read -P 6 512 512",
      "read -P 5 1024 1M".replace("1M", "1047552"),
      "write -z 64k 64k",
      "read -P 0 64k 64k",
      "write -z -u 128k 64k",
      "read -P 0 128k 64k",
      "discard 256k 128k",
      "read -P 0 256k 128k",
      "aio_write -P 9 2M 4M",
      "aio_read -P 9 3M 64k",
      "aio_flush",
      "read -P 9 2M 4M",
      // Not aligned to 512: QEMU reads, changes and writes whole blocks.
      "write -P 3 1000001 77",
      "read -P 3 1000001 77",
      "flush",
    ];
    const args = ["-f", "raw", `${each.uri}/demo-1`, ...commands.flatMap((command) => ["-c", command])];
    const ran = await runOk("qemu-io", args);
    assert.not.match(ran.stdout, /Pattern verification failed|error|failed/i);
  }
});

testWith(test, ["qemu-io"], "qemu-io writes to a read-only export -> refused", async () => {
  const ran = await run("qemu-io", ["-f", "raw", `${server.uri}/golden`, "-c", "write 0 4k"]);
  assert.is.not(ran.code, 0);
  const read = await runOk("qemu-io", ["-r", "-f", "raw", `${server.uri}/golden`, "-c", "read -P 0 0 4k"]);
  assert.match(read.stdout, /read 4096\/4096/);
});

testWith(test, ["fio"], "fio with verify, mixed sizes at depth -> every block as written", async () => {
  for (const [, each] of servers()) {
    const ran = await runOk("fio", [
      "--name=verify",
      "--ioengine=nbd",
      `--uri=${each.uri}/demo-1`,
      "--rw=randwrite",
      "--bsrange=512-128k",
      "--blockalign=512",
      "--iodepth=32",
      "--size=32m",
      "--verify=crc32c",
      "--verify_fatal=1",
      "--verify_state_save=0",
      "--randrepeat=0",
      "--serialize_overlap=1",
    ]);
    assert.match(ran.stdout, /err= 0/);
  }
});

testWith(
  test,
  ["fio", "nbdinfo"],
  "two clients at once, one of them killed -> the other undisturbed, the server goes on",
  async () => {
    const killed = run(
      "fio",
      [
        "--name=killed",
        // Threads, so that the kill reaches what does the work.
        "--thread",
        "--ioengine=nbd",
        `--uri=${server.uri}/demo-2`,
        "--rw=randrw",
        "--bs=64k",
        "--iodepth=32",
        "--size=64m",
        "--time_based",
        "--runtime=30",
      ],
      { limitMs: 500 },
    );
    const other = await runOk("fio", [
      "--name=other",
      "--ioengine=nbd",
      `--uri=${server.uri}/demo-1`,
      "--rw=write",
      "--bs=256k",
      "--iodepth=8",
      "--size=64m",
      "--verify=crc32c",
      "--verify_fatal=1",
      "--verify_state_save=0",
    ]);
    assert.match(other.stdout, /err= 0/);
    assert.is((await killed).code, null);
    await runOk("nbdinfo", ["--size", `${server.uri}/demo-2`]);
  },
);

test.run();
