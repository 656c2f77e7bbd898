/** The demo's own instruments, tried on a server that is not ours: they must find losses where there are some. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, mkdtempSync, openSync, rmSync, statSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { clientEnvironment } from "../../scripts/clients.ts";
import { findAcks } from "../../scripts/lab_demo/acks.ts";
import { canWrite, isReadOnly, loadBlockBytes, readAcks, startLoad } from "../../scripts/lab_demo/hosts.ts";
import { waitUntil } from "../../scripts/lab_site/wait.ts";

interface Context {
  dir: string;
  disk: string;
  servers: ChildProcess[];
}
const test = suite<Context>("demo_hosts");
const mib = 1024 * 1024;

test.before.each((context) => {
  context.dir = mkdtempSync(join(tmpdir(), "goldcopy-hosts-"));
  context.disk = join(context.dir, "disk");
  context.servers = [];
  writeFileSync(context.disk, "");
  truncateSync(context.disk, 1024 * mib);
});
test.after.each(({ dir, servers }) => {
  for (const server of servers) server.kill("SIGKILL");
  rmSync(dir, { recursive: true, force: true });
});

async function serve(
  { dir, disk, servers }: Context,
  ...options: string[]
): Promise<{ uri: string; server: ChildProcess }> {
  const socket = join(dir, `nbd-${servers.length}.sock`);
  const server = spawn("nbdkit", ["-f", "-U", socket, ...options, "file", disk], {
    env: clientEnvironment,
    stdio: "ignore",
  });
  servers.push(server);
  const uri = `nbd+unix:///?socket=${socket}`;
  assert.ok(await waitUntil(10_000, 20, async () => ((await isReadOnly(uri)) === null ? null : true)), "nbdkit serves");
  return { uri, server };
}

test("server killed under load -> every acknowledged write found, and a lost or changed one missed", async (context) => {
  const { uri, server } = await serve(context);
  const load = startLoad({ uri, dir: context.dir, round: 7, depth: 8, offsetBytes: 64 * mib, sizeBytes: 512 * mib });
  const isRunning = () => (statSync(context.disk).blocks * 512 > mib ? true : null);
  assert.ok(await waitUntil(10_000, 5, isRunning), "the load runs");
  server.kill("SIGKILL");
  await load.ended;
  const acks = readAcks(load);
  assert.ok(acks.length > 0);
  assert.ok(acks.every((offset) => offset >= 64 * mib && offset < 576 * mib && offset % loadBlockBytes === 0));
  const found = findAcks(context.disk, 7, acks);
  assert.equal(found, { acknowledged: acks.length, present: acks.length, isPrefix: true, missing: [] });

  assert.is(findAcks(context.disk, 8, acks).present, 0, "another round's data is not this one's");
  const fd = openSync(context.disk, "r+");
  writeSync(fd, Buffer.from([1]), 0, 1, acks[0]! + 4095);
  closeSync(fd);
  const damaged = findAcks(context.disk, 7, acks);
  assert.equal(damaged.missing, [acks[0]]);
  assert.is(damaged.isPrefix, acks.length === 1);
});

test("image that holds the first writes only -> a prefix; with a gap -> none", ({ dir, disk }) => {
  const load = {
    ended: Promise.resolve({ code: 0, out: "", err: "" }),
    acksPath: join(dir, "log"),
    round: 1,
    stop: () => {},
  };
  writeFileSync(load.acksPath, "1, 2, 1, 4096, 8192, 0\n2, 2, 1, 4096, 0, 0\n3, 2, 1, 4096, 4096, 0\n");
  const acks = readAcks(load);
  assert.equal(acks, [8192, 0, 4096]);
  assert.equal(findAcks(disk, 1, acks).isPrefix, true, "nothing is a prefix");
  const put = (offset: number) => {
    const fd = openSync(disk, "r+");
    const unit = Buffer.from("01c0ffee0000000000000000", "hex");
    unit.writeUInt32LE(offset, 4);
    writeSync(fd, Buffer.alloc(4096, unit), 0, 4096, offset);
    closeSync(fd);
  };
  put(8192);
  assert.is(findAcks(disk, 1, acks).isPrefix, true);
  put(4096);
  assert.is(findAcks(disk, 1, acks).isPrefix, false);
  put(0);
  assert.equal(findAcks(disk, 1, acks), { acknowledged: 3, present: 3, isPrefix: true, missing: [] });
});

test("read-only server -> seen as such, and no write goes through", async (context) => {
  const writable = await serve(context);
  assert.is(await isReadOnly(writable.uri), false);
  assert.ok(await canWrite(writable.uri));
  const readOnly = await serve(context, "-r");
  assert.is(await isReadOnly(readOnly.uri), true);
  assert.not(await canWrite(readOnly.uri));
  assert.not(await canWrite(`nbd+unix:///?socket=${context.dir}/nothing`));
  assert.is(await isReadOnly(`nbd+unix:///?socket=${context.dir}/nothing`), null);
});

test.run();
