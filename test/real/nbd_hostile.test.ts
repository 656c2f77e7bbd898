/** The NBD server as a process of its own against hosts that misbehave on real TCP. */

import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { bytesOf, command, goData, option } from "../unit/support/nbd_host.ts";
import { pattern } from "../unit/support/nbd_session.ts";
import { type RunningServer, startServer } from "./support/nbd_server.ts";

const test = suite("nbd_hostile");
const mebibyte = 1048576;

let server: RunningServer;

test.before(async () => {
  server = await startServer([`demo-1=${64 * mebibyte}`]);
});

test.after(async () => {
  await server.stop();
});

/** A raw connection; `read` waits for so many bytes, or for the end. */
class Raw {
  readonly socket: Socket;
  private received: Buffer[] = [];
  private receivedBytes = 0;
  closed = false;
  private wake: () => void = () => {};

  constructor() {
    const at = server.address.lastIndexOf(":");
    this.socket = connect({
      host: server.address.slice(0, at),
      port: Number(server.address.slice(at + 1)),
      allowHalfOpen: true,
    });
    this.socket.on("data", (chunk: Buffer) => {
      this.received.push(chunk);
      this.receivedBytes += chunk.byteLength;
      this.wake();
    });
    const end = () => {
      this.closed = true;
      this.wake();
    };
    this.socket.on("end", end);
    this.socket.on("close", end);
    this.socket.on("error", end);
  }

  send(...pieces: Uint8Array[]): void {
    for (const piece of pieces) this.socket.write(piece);
  }

  /** Fewer bytes only when the server has ended the stream. */
  async read(bytes: number): Promise<Buffer> {
    while (this.receivedBytes < bytes && !this.closed) {
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    }
    const all = Buffer.concat(this.received);
    this.received = [all.subarray(bytes)];
    this.receivedBytes = Math.max(0, all.byteLength - bytes);
    return all.subarray(0, bytes);
  }

  async ended(): Promise<Buffer> {
    return await this.read(Number.POSITIVE_INFINITY);
  }
}

const handshake = [bytesOf({ u32: 3 }), option(7, goData("demo-1"))];
/** Greeting 18, INFO_EXPORT 32, INFO_BLOCK_SIZE 34, ACK 20. */
const handshakeReplyBytes = 18 + 32 + 34 + 20;

async function opened(): Promise<Raw> {
  const raw = new Raw();
  raw.send(...handshake);
  assert.is((await raw.read(handshakeReplyBytes)).byteLength, handshakeReplyBytes);
  return raw;
}

async function answers(raw: Raw): Promise<void> {
  raw.send(command({ command: 0, cookie: 77n, length: 4096 }));
  const reply = await raw.read(16 + 4096);
  assert.is(reply.byteLength, 16 + 4096);
  assert.is(reply.readBigUInt64BE(8), 77n);
}

function residentBytes(): number {
  const match = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${server.pid}/status`, "utf8"));
  return Number(match![1]) * 1024;
}

test("1,000 connections at once -> all open and answered; the limit refuses the rest and says so once", async () => {
  const raws = await Promise.all(Array.from({ length: 1000 }, () => opened()));
  await Promise.all(raws.map((raw) => answers(raw)));
  const silent = Array.from({ length: 100 }, () => new Raw());
  const greeted = await Promise.all(silent.map(async (raw) => (await raw.read(18)).byteLength === 18));
  assert.is(greeted.filter((each) => each).length, 24, "1,024 in all");
  assert.is(server.reports().match(/nbd-too-many-sessions/g)?.length, 1);
  for (const raw of [...raws, ...silent]) raw.socket.destroy();
  const next = await opened();
  await answers(next);
  next.socket.destroy();
});

test("1,000 half-finished handshakes, slow writers all -> another host comes in and is served, memory stays bounded", async () => {
  const before = residentBytes();
  const halves = [
    bytesOf("IHAVE"),
    option(7, goData("demo-1")).subarray(0, 20),
    option(7, new Uint8Array(100), 60_000),
  ];
  const raws = Array.from({ length: 1000 }, () => new Raw());
  await Promise.all(raws.map((raw) => raw.read(18)));
  for (const [index, raw] of raws.entries()) raw.send(bytesOf({ u32: 3 }), halves[index % 3]!);
  const good = await opened();
  for (let index = 0; index < 100; index++) await answers(good);
  const grown = residentBytes() - before;
  assert.ok(grown < 200 * mebibyte, `${Math.round(grown / mebibyte)} MiB more`);
  for (const raw of [...raws, good]) raw.socket.destroy();
  await answers(await opened());
});

test("garbage, a port scan, resets in the middle -> closed; others undisturbed", async () => {
  const good = await opened();
  for (const bytes of [bytesOf("GET / HTTP/1.1\r\n\r\n"), pattern(5000), option(7, bytesOf(""), 0xffffffff)]) {
    const raw = new Raw();
    raw.send(bytesOf({ u32: 3 }), bytes);
    await raw.ended();
    raw.socket.destroy();
  }
  for (let index = 0; index < 50; index++) {
    const raw = new Raw();
    if (index % 2 === 0)
      raw.send(
        bytesOf({ u32: 3 }),
        option(7, goData("demo-1")),
        command({ command: 1, length: mebibyte }),
        pattern(999),
      );
    await raw.read(18);
    raw.socket.resetAndDestroy();
  }
  await answers(good);
  good.socket.destroy();
  assert.ok(server.alive());
});

test("a host that sends and closes its half -> gets every reply before the end", async () => {
  const raw = await opened();
  const count = 200;
  raw.send(
    ...Array.from({ length: count }, (_, index) => command({ command: 0, cookie: BigInt(index), length: 65536 })),
  );
  raw.socket.end();
  assert.is((await raw.ended()).byteLength, count * (16 + 65536));
});

test("a host that asks for gigabytes and reads nothing -> memory stays bounded, others are served", async () => {
  const before = residentBytes();
  const raws = await Promise.all(Array.from({ length: 20 }, () => opened()));
  for (const raw of raws) {
    raw.socket.pause();
    for (let index = 0; index < 100; index++)
      raw.send(command({ command: 0, cookie: BigInt(index), length: 32 * mebibyte }));
  }
  const good = await opened();
  for (let index = 0; index < 100; index++) await answers(good);
  const grown = residentBytes() - before;
  assert.ok(grown < 400 * mebibyte, `${Math.round(grown / mebibyte)} MiB more`);
  for (const raw of [...raws, good]) raw.socket.destroy();
});

test("a host that sends one byte at a time -> understood", async () => {
  const raw = new Raw();
  raw.socket.setNoDelay(true);
  const script = Buffer.concat([
    ...handshake,
    command({ command: 1, cookie: 1n, offset: 512, payload: pattern(600).subarray(0, 512) }),
    command({ command: 2 }),
  ]);
  for (const byte of script) {
    raw.send(new Uint8Array([byte]));
    await new Promise((resolve) => setImmediate(resolve));
  }
  const replies = await raw.ended();
  assert.is(replies.byteLength, handshakeReplyBytes + 16);
  assert.is(replies.readUInt32BE(handshakeReplyBytes + 4), 0);
});

test.run();
