/** What hal/linux promises beyond hal/api: hostile strangers, files in every wrong state, locks, the death of a real process. */
import {
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Hal } from "../../hal/api/hal.ts";
import { parseAddress } from "../../hal/linux/address.ts";
import { LinuxClock } from "../../hal/linux/clock.ts";
import { encodeHeartbeat } from "../../hal/linux/heartbeat_frame.ts";
import { encodePreamble, preambleBytes, preambleStep } from "../../hal/linux/nic_preamble.ts";
import { openLinuxHal } from "../../hal/linux/open.ts";
import { dialTcp } from "../../hal/linux/tcp_port.ts";
import { cacheBytes, dial, dialHost, diskBytes, listenForEars, pattern, StreamEar, sameBytes } from "./bench.ts";
import { boardIn, makeDirectory, newLinuxBench, openBoard, until } from "./linux_bench.ts";

const test = suite("linux: beyond hal/api");
const options = { appliance: "oak-a", persistence: "battery" } as const;
let directory: string;

test.before.each(() => {
  directory = makeDirectory();
});
test.after.each(() => {
  rmSync(directory, { recursive: true });
});

async function stranger(address: string): Promise<StreamEar> {
  const ears: StreamEar[] = [];
  dialTcp(
    new LinuxClock(),
    address,
    (stream) => {
      stream.handler = new StreamEar(stream);
      ears.push(stream.handler as StreamEar);
    },
    (reason) => {
      throw new Error(reason);
    },
  );
  await until("the stranger's connection", () => ears.length > 0);
  return ears[0]!;
}

test("a stranger sends anything but the preambles in order -> closed, nothing is accepted, links go on", async () => {
  const bench = await newLinuxBench();
  const oak = (await bench.open(options)).hal;
  const elm = (await bench.open({ ...options, appliance: "elm-a" })).hal;
  const accepted = await listenForEars(bench, elm.nics[0]!);
  const pair = await dial(bench, oak.nics[0]!, elm.nics[0]!, accepted);
  const hello = encodePreamble(preambleStep.hello, "oak-a", "nic0");
  const confirm = encodePreamble(preambleStep.confirm, "oak-a", "nic0");
  const wrong: Uint8Array[] = [
    pattern(preambleBytes, 1),
    new Uint8Array(preambleBytes),
    new TextEncoder().encode(`GET / HTTP/1.1\r\nHost: elm\r\n${"x".repeat(64)}\r\n\r\n`),
    confirm,
    Buffer.concat([hello, confirm]),
    Buffer.concat([hello, hello]),
    encodePreamble(preambleStep.answer, "oak-a", "nic0"),
  ];
  for (let at = 0; at < preambleBytes; at += 3) {
    const flipped = Uint8Array.from(hello);
    flipped[at]! ^= 0x40;
    wrong.push(flipped);
  }
  for (const bytes of wrong) {
    const ear = await stranger(elm.nics[0]!.address);
    ear.stream.write(bytes);
    await until("the stranger's close", () => ear.closeCount > 0);
  }
  // A hello that comes byte by byte is answered; what follows in the wrong order is not.
  const slow = await stranger(elm.nics[0]!.address);
  for (const byte of hello) slow.stream.write(Uint8Array.of(byte));
  await until("the answer", () => slow.receivedBytes >= preambleBytes);
  slow.stream.write(encodePreamble(preambleStep.confirm, "ash-a", "nic0"));
  await until("the close for another name", () => slow.closeCount > 0);
  assert.is(accepted.length, 1);
  await pair.dialer.send(bench, pattern(1000, 2));
  await until("the link's bytes", () => pair.acceptor.receivedBytes >= 1000);
  pair.dialer.stream.abort();
  await until("the link's close", () => pair.acceptor.closeCount > 0);
  await bench.close();
});

test("a beat that was heard is sent again, or an older one -> not heard; a newer one -> heard", async () => {
  const bench = await newLinuxBench();
  const { hal } = await bench.open(options);
  await listenForEars(bench, hal.nics[0]!);
  const [sendKey, hearKey] = [pattern(32, 1), pattern(32, 2)];
  // Before the NIC listens it is told so.
  const sender = await Bun.udpSocket({ hostname: "127.0.0.1", socket: { error: () => {} } });
  const path = { nic: "nic0", address: `127.0.0.1:${sender.port}`, remote: "oak-b", intervalMs: 10, sendKey, hearKey };
  const channel = hal.heartbeats!.open(path);
  const { port } = parseAddress(hal.nics[0]!.address)!;
  const send = (number: number, turns: number, key: Uint8Array) =>
    sender.send(encodeHeartbeat({ number, turns, stillMs: 0 }, key), port, "127.0.0.1");
  await until("the first", () => {
    send(5, 50, hearKey);
    return channel.heard().turns === 50;
  });
  // Before an old one, so that its coming would show first.
  send(4, 40, hearKey);
  send(5, 51, hearKey);
  send(6, 60, sendKey);
  sender.send(new Uint8Array(0), port, "127.0.0.1");
  sender.send(pattern(2000, 3), port, "127.0.0.1");
  const seen = new Set<number>();
  let number = 6;
  await until("silence, though the old ones come", () => {
    send(5, 52, hearKey);
    seen.add(channel.heard().turns);
    return channel.heard().silentMs >= 200;
  });
  assert.equal([...seen], [50]);
  await until("a new one", () => {
    send(number++, 70, hearKey);
    return channel.heard().turns === 70;
  });
  channel.close();
  sender.close();
  await bench.close();
});

test("the UDP port of a NIC is another's -> said so; free again -> heard by itself", async () => {
  const bench = await newLinuxBench();
  const [oak, elm] = [(await bench.open(options)).hal, (await bench.open({ ...options, appliance: "elm-a" })).hal];
  for (const hal of [oak, elm]) await listenForEars(bench, hal.nics[0]!);
  const { port } = parseAddress(oak.nics[0]!.address)!;
  const squatter = await Bun.udpSocket({ hostname: "127.0.0.1", port });
  const open = (from: Hal, to: Hal, sendKey: Uint8Array, hearKey: Uint8Array) =>
    from.heartbeats!.open({ nic: "nic0", address: to.nics[0]!.address, remote: "x", intervalMs: 10, sendKey, hearKey });
  const here = open(oak, elm, pattern(32, 1), pattern(32, 2));
  const there = open(elm, oak, pattern(32, 2), pattern(32, 1));
  await until("it is told", () => here.heard().trouble !== null);
  assert.match(here.heard().trouble!, new RegExp(`cannot open UDP 127.0.0.1:${port}: the address is in use`));
  squatter.close();
  await until("heard", () => {
    oak.heartbeats!.turned();
    elm.heartbeats!.turned();
    return here.heard().turns > 0 && there.heard().turns > 0;
  });
  assert.is(here.heard().trouble, null);
  here.close();
  there.close();
  await bench.close();
});

test("a main loop that stands still -> its heartbeats go on and say so; its process stopped (SIGSTOP) -> silence; SIGCONT -> heard; killed -> silence", async () => {
  const bench = await newLinuxBench();
  const { hal } = await bench.open(options);
  await listenForEars(bench, hal.nics[0]!);
  const victim = Bun.spawn([process.execPath, join(import.meta.dir, "heartbeat_process.ts"), hal.nics[0]!.address], {
    stdout: "pipe",
    stdin: "pipe",
  });
  try {
    const lines = victim.stdout.getReader();
    const address = new TextDecoder().decode((await lines.read()).value).trim();
    const [sendKey, hearKey] = [pattern(32, 2), pattern(32, 1)];
    const channel = hal.heartbeats!.open({ nic: "nic0", address, remote: "oak-b", intervalMs: 20, sendKey, hearKey });
    await until("heard", () => channel.heard().turns > 2);
    // It answers nothing any more: its loop is in an endless one.
    victim.stdin.write("hang\n");
    victim.stdin.flush();
    await until("it stands", () => channel.heard().stillMs >= 400);
    assert.ok(channel.heard().silentMs < 400, "and beats");
    victim.kill("SIGSTOP");
    await until("silence", () => channel.heard().silentMs >= 400);
    victim.kill("SIGCONT");
    await until("heard again", () => channel.heard().silentMs < 100);
    victim.kill("SIGKILL");
    await until("silence", () => channel.heard().silentMs >= 400);
    channel.close();
  } finally {
    victim.kill("SIGKILL");
    await victim.exited;
    await bench.close();
  }
});

test("the worker that sends heartbeats dies -> an error in the main thread, which ends the process", async () => {
  const victim = Bun.spawn([process.execPath, join(import.meta.dir, "heartbeat_process.ts"), "127.0.0.1:9", "break"], {
    stdout: "ignore",
    stderr: "pipe",
  });
  const text = await new Response(victim.stderr).text();
  assert.is(await victim.exited, 3);
  assert.match(text, "the worker that sends heartbeats is lost");
});

test("an acceptor answers with anything but its preamble -> the dialer fails with a reason", async () => {
  const bench = await newLinuxBench();
  const { hal } = await bench.open(options);
  const answers = [
    pattern(preambleBytes, 1),
    encodePreamble(preambleStep.hello, "elm-a", "nic0"),
    Buffer.concat([encodePreamble(preambleStep.answer, "elm-a", "nic0"), new Uint8Array(1)]),
    new Uint8Array(0),
  ];
  for (const answer of answers) {
    const server = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        data(socket) {
          socket.end(answer);
        },
      },
    });
    const reasons: string[] = [];
    hal.nics[0]!.connect(
      `127.0.0.1:${server.port}`,
      () => {
        throw new Error("connected");
      },
      (reason) => reasons.push(reason),
    );
    await until("the failure", () => reasons.length > 0);
    assert.ok(reasons[0]!.includes(`127.0.0.1:${server.port}`), reasons[0]);
    server.stop(true);
  }
  await bench.close();
});

for (const how of ["dies", "ends"] as const) {
  test(`the other process ${how} while this side is cut towards it -> this side is told only after the join`, async () => {
    const bench = await newLinuxBench();
    const { hal } = await bench.open(options);
    const nic = hal.nics[0]!;
    const accepted = await listenForEars(bench, nic);
    const other = await stranger(nic.address);
    other.stream.write(encodePreamble(preambleStep.hello, "elm-a", "nic0"));
    await until("the answer", () => other.receivedBytes >= preambleBytes);
    other.stream.write(encodePreamble(preambleStep.confirm, "elm-a", "nic0"));
    await until("the link", () => accepted.length === 1);
    nic.shape("elm-a", { cut: true, latencyMs: 0, jitterMs: 0, rateBytesPerSecond: null, loss: 0 });
    if (how === "dies") other.stream.abort();
    else other.stream.end();
    // A connection made later has been served when the earlier event has been handled.
    for (let round = 0; round < 5; round++) {
      const later = await stranger(nic.address);
      later.stream.write(encodePreamble(preambleStep.hello, "ash-a", "nic0"));
      await until("the later answer", () => later.receivedBytes >= preambleBytes);
      later.stream.abort();
      await until("the later close", () => later.closeCount === 1);
    }
    const ear = accepted[0]!;
    assert.is(ear.endCount + ear.closeCount, 0);
    nic.shape("elm-a", null);
    await until("the news", () => (how === "dies" ? ear.closeCount : ear.endCount) === 1);
    ear.stream.abort();
    await until("the close", () => ear.closeCount === 1);
    assert.equal(ear.violations, []);
    await bench.close();
  });
}

test("more silent strangers than a NIC has places for -> the surplus is closed, and links still come about after them", async () => {
  const bench = await newLinuxBench();
  const oak = (await bench.open(options)).hal;
  const elm = (await bench.open({ ...options, appliance: "elm-a" })).hal;
  const accepted = await listenForEars(bench, elm.nics[0]!);
  const ears: StreamEar[] = [];
  for (let count = 0; count < 300; count++) ears.push(await stranger(elm.nics[0]!.address));
  await until("the surplus closed", () => ears.filter((ear) => ear.closeCount > 0).length >= 300 - 256);
  for (const ear of ears) ear.stream.abort();
  await until("all closed", () => ears.every((ear) => ear.closeCount > 0));
  const pair = await dial(bench, oak.nics[0]!, elm.nics[0]!, accepted);
  pair.dialer.stream.abort();
  await until("the link's close", () => pair.acceptor.closeCount > 0);
  await bench.close();
});

test("a thousand hosts -> each has a session that carries its bytes", async () => {
  const bench = await newLinuxBench();
  const { hal } = await bench.open(options);
  const port = hal.hbaPorts[0]!;
  const accepted = await listenForEars(bench, port);
  const dialers: StreamEar[] = [];
  for (let count = 0; count < 1000; count++) dialers.push((await dialHost(bench, port.address, accepted)).dialer);
  for (const [index, dialer] of dialers.entries()) dialer.stream.write(pattern(600, index + 1));
  await until("all bytes", () => accepted.every((ear) => ear.receivedBytes >= 600));
  assert.is(accepted.length, 1000);
  for (const ear of accepted) ear.stream.write(ear.received());
  await until("all echoes", () => dialers.every((ear) => ear.receivedBytes >= 600));
  for (const [index, dialer] of dialers.entries()) sameBytes(dialer.received(), pattern(600, index + 1), `${index}`);
  for (const ear of dialers) ear.stream.abort();
  await until("all closed", () => accepted.every((ear) => ear.closeCount === 1));
  await bench.close();
});

test("shapings are in force, the appliance starts again -> they are still, before any link", async () => {
  const board = boardIn(directory, options);
  const shaping = { cut: true, latencyMs: 5, jitterMs: 1, rateBytesPerSecond: 1000, loss: 0.5 };
  const first = await openBoard(board);
  first.hal.nics[1]!.shape("elm-a", shaping);
  first.hal.nics[0]!.shape("ash-a", shaping);
  first.hal.nics[0]!.shape("ash-a", null);
  await first.close();
  const second = await openBoard(board);
  assert.equal(
    second.problems.filter((problem) => problem.includes("shapings")),
    [],
  );
  assert.equal([...second.hal.nics[1]!.shapings()], [["elm-a", shaping]]);
  assert.is(second.hal.nics[0]!.shapings().size, 0);
  await second.close();
});

test("the shaping file is damaged -> a problem that names it, plain links, the file as it was", async () => {
  const board = boardIn(directory, options);
  for (const text of [
    "",
    "{",
    "[]7",
    '{"nic0":{"elm-a":{"loss":2}}}',
    '{"nic0":[7]}',
    '{"nic0":{"elm-a":{"cut":"yes"}}}',
  ]) {
    writeFileSync(board.nicShapingFile!, text);
    const opened = await openBoard(board);
    assert.ok(
      opened.problems.some((problem) => problem.startsWith(board.nicShapingFile!)),
      text,
    );
    assert.is(opened.hal.nics[0]!.shapings().size, 0);
    await opened.close();
    assert.is(readFileSync(board.nicShapingFile!, "utf8"), text);
  }
});

test("a cache that another opening uses -> refused; after that one's close -> opened", async () => {
  for (const persistence of ["battery", "flush"] as const) {
    const board = boardIn(directory, { appliance: `oak-${persistence}`, persistence });
    const first = await openBoard(board);
    const second = await openLinuxHal(board);
    assert.ok("error" in second && second.error.includes(board.cache.path));
    await first.close();
    await (await openBoard(board)).close();
  }
});

test("a cache file of another size, or no file at all -> refused with its path, and left as it was", async () => {
  const board = boardIn(directory, options);
  writeFileSync(board.cache.path, pattern(4096, 1));
  const refused = await openLinuxHal(board);
  assert.ok("error" in refused && refused.error.includes(board.cache.path) && refused.error.includes("4096"));
  sameBytes(readFileSync(board.cache.path), pattern(4096, 1), "the file");
  rmSync(board.cache.path);
  mkdirSync(board.cache.path);
  assert.ok("error" in (await openLinuxHal(board)));
});

test("a cache larger than its file system -> refused with the reason, and no space taken", async () => {
  const board = boardIn(directory, options);
  const sizeBytes = 2 ** 52;
  const refused = await openLinuxHal({ ...board, cache: { ...board.cache, sizeBytes } });
  assert.ok("error" in refused && refused.error.includes(board.cache.path), JSON.stringify(refused));
  assert.is(statSync(board.cache.path).size, 0);
  await (await openBoard(board)).close();
});

test("a sparse cache file is opened -> every byte has its place", async () => {
  const board = boardIn(directory, options);
  writeFileSync(board.cache.path, "");
  truncateSync(board.cache.path, cacheBytes);
  await (await openBoard(board)).close();
  assert.ok(statSync(board.cache.path).blocks * 512 >= cacheBytes);
});

for (const persistence of ["battery", "flush"] as const) {
  test(`a real process is killed while it stores, ${persistence} -> every store that it reported is there`, async () => {
    const board = boardIn(directory, { appliance: "oak-a", persistence });
    const child = Bun.spawn([process.execPath, join(import.meta.dirname, "cache_writer.ts"), JSON.stringify(board)], {
      stdout: "pipe",
      stderr: "inherit",
    });
    const reader = child.stdout.getReader();
    let reported = 0;
    for (let text = ""; reported < 50; ) {
      const { value, done } = await reader.read();
      assert.not(done, "the writer ended by itself");
      text += new TextDecoder().decode(value);
      reported = text.split("\n").length - 1;
    }
    child.kill("SIGKILL");
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      reported += new TextDecoder().decode(value).split("\n").length - 1;
    }
    await child.exited;
    const opened = await openBoard(board);
    const { memory } = opened.hal.cache;
    for (let index = Math.max(0, reported - 200); index < reported; index++) {
      const offset = (index % 200) * 5000;
      const found = new DataView(memory.buffer, memory.byteOffset + offset).getUint32(0, true);
      assert.ok(found >= index, `place ${index % 200} holds ${found}, ${index} was reported`);
      if (found === index) sameBytes(memory.subarray(offset + 4, offset + 5000), pattern(4996, index + 1), `${index}`);
    }
    await opened.close();
  });
}

test("disks are missing, of another size, no file, in a missing directory -> null slots, one problem each, nothing changed", async () => {
  const board = boardIn(directory, options);
  const disk = (slot: number, path: string, more: object = {}) => ({
    slot,
    path,
    sizeBytes: 1 << 20,
    create: true,
    ...more,
  });
  const path = (name: string) => join(directory, name);
  writeFileSync(path("small"), new Uint8Array(4096));
  mkdirSync(path("folder"));
  const opened = await openBoard({
    ...board,
    shelves: [
      {
        name: "shelf7",
        fencing: "none",
        disks: [
          disk(1, path("good")),
          disk(2, path("absent"), { create: false }),
          disk(3, path("small")),
          disk(4, path("folder")),
          disk(5, join(directory, "nowhere", "x")),
          disk(6, "/dev/null"),
          disk(7, path("small"), { sizeBytes: null }),
        ],
      },
    ],
  });
  const { disks } = opened.hal.shelves[0]!;
  assert.equal(
    disks.map((one) => one?.sizeBytes ?? null),
    [null, 1 << 20, null, null, null, null, null, 4096],
  );
  assert.is(opened.diskProblems.length, 5);
  for (const slot of [2, 3, 4, 5, 6]) {
    assert.ok(
      opened.diskProblems.some((problem) => problem.startsWith(`shelf7/${slot}: `)),
      `slot ${slot}`,
    );
  }
  assert.not(existsSync(path("absent")));
  assert.is(statSync(path("small")).size, 4096);
  assert.is(statSync(path("good")).size, 1 << 20);
  await opened.close();
});

test("disks that cannot evict on a shelf whose disks evict -> null slots, one problem each, nothing made or changed", async () => {
  const board = boardIn(directory, options);
  const path = (name: string) => join(directory, name);
  writeFileSync(path("there"), new Uint8Array(1 << 20));
  const disk = (slot: number, at: string) => ({ slot, path: at, sizeBytes: 1 << 20, create: true });
  const disks = [disk(0, path("there")), disk(1, path("missing")), disk(2, "/dev/null")];
  const opened = await openBoard({ ...board, shelves: [{ name: "shelf7", fencing: "atomic", disks }] });
  assert.equal(opened.hal.shelves[0]!.disks, [null, null, null]);
  assert.is(opened.diskProblems.length, 3);
  assert.match(opened.diskProblems[0]!, /^shelf7\/0: .*there: it is a file, and no disk that could evict anybody/);
  assert.not(existsSync(path("missing")));
  await opened.close();
});

test("a shelf lies in memory -> tryRead always gives the bytes", async () => {
  // Every Linux has this tmpfs; the directory for temporary files may be anything.
  const inMemory = mkdtempSync("/dev/shm/goldcopy-hal-");
  const opened = await openBoard(boardIn(inMemory, options));
  const disk = opened.hal.shelves[0]!.disks[0]!;
  const outcomes: unknown[] = [];
  disk.write(8192, [pattern(12_288, 1)], (error) => outcomes.push(error));
  await until("the write", () => outcomes.length > 0);
  const pool = new Uint8Array(65_536);
  assert.ok(disk.tryRead(8192, pool.subarray(4096, 16_384)));
  sameBytes(pool.subarray(4096, 16_384), pattern(12_288, 1), "what was written");
  assert.ok(disk.tryRead(diskBytes - 4096, pool.subarray(0, 4096)), "a hole");
  sameBytes(pool.subarray(0, 4096), new Uint8Array(4096), "a hole");
  await opened.close();
  rmSync(inMemory, { recursive: true });
});

test("a written range is discarded -> the file gives its space back", async () => {
  const board = boardIn(directory, options);
  const opened = await openBoard(board);
  const disk = opened.hal.shelves[0]!.disks[0]!;
  const outcomes: unknown[] = [];
  disk.write(0, [pattern(1024 * 1024, 1)], (error) => outcomes.push(error));
  await until("the write", () => outcomes.length === 1);
  disk.flush((error) => outcomes.push(error));
  await until("the flush", () => outcomes.length === 2);
  const { path } = board.shelves[0]!.disks[0]!;
  const blocksBefore = statSync(path).blocks;
  disk.discard(0, 1024 * 1024, (error) => outcomes.push(error));
  await until("the discard", () => outcomes.length === 3);
  assert.equal(outcomes, [null, null, null]);
  assert.ok(statSync(path).blocks <= blocksBefore - 1024, `${blocksBefore} blocks, then ${statSync(path).blocks}`);
  await opened.close();
});

test("a whole shelf is pulled and put back -> its disks answer absent, then again", async () => {
  const opened = await openBoard(boardIn(directory, options));
  const disk = opened.hal.shelves[0]!.disks[1]!;
  assert.not(opened.setShelfFault("shelf9", true));
  assert.not(opened.setDiskFault("shelf0/9", true));
  assert.ok(opened.setShelfFault("shelf0", true));
  const codes: (string | null)[] = [];
  const read = () => disk.read(0, new Uint8Array(4096), (error) => codes.push(error?.code ?? null));
  read();
  await until("the failure", () => codes.length === 1);
  opened.setShelfFault("shelf0", false);
  read();
  await until("the read", () => codes.length === 2);
  assert.equal(codes, ["absent", null]);
  await opened.close();
});

test("disks past the page cache -> open with O_DIRECT, and what was written is on the medium before any flush", async () => {
  const opened = await openBoard(boardIn(directory, options, true));
  const disk = opened.hal.shelves[0]!.disks[0]!;
  const path = join(directory, "oak-a-disk0");
  const flags = readdirSync("/proc/self/fd")
    .filter((fd) => existsSync(`/proc/self/fd/${fd}`) && readlinkSync(`/proc/self/fd/${fd}`) === path)
    .map((fd) => /^flags:\s+(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1] ?? "0");
  assert.is(flags.length, 1);
  assert.ok((Number.parseInt(flags[0]!, 8) & constants.O_DIRECT) !== 0, flags[0]);
  // Off every boundary that the kernel could want.
  const odd = pattern(8192 + 3, 9).subarray(3);
  const sources = [odd.subarray(0, 100), odd.subarray(100)];
  let outcome: unknown = "none";
  disk.write(4096, sources, (error) => {
    outcome = error;
  });
  await until("the write", () => outcome !== "none");
  assert.is(outcome, null);
  assert.not(disk.tryRead(4096, new Uint8Array(4096)));
  const target = new Uint8Array(8192 + 5).subarray(5);
  outcome = "none";
  disk.read(4096, target, (error) => {
    outcome = error;
  });
  await until("the read", () => outcome !== "none");
  assert.is(outcome, null);
  sameBytes(target, odd, "read back");
  sameBytes(new Uint8Array(readFileSync(path).subarray(4096, 4096 + 8192)), odd, "by another reader");
  await opened.close();
});

test("a broken invariant is thrown in a stream's callback -> the process ends with an error, it is no network error", async () => {
  const child = Bun.spawn([process.execPath, join(import.meta.dirname, "throwing_handler.ts")], {
    stdout: "pipe",
    stderr: "pipe",
  });
  const text = await new Response(child.stderr).text();
  assert.is.not(await child.exited, 0);
  assert.match(text, /an invariant is broken/);
});

test.run();
