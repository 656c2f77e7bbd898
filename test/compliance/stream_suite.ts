/** hal/api/byte_stream.ts, over HBA ports and over NICs. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { dial, dialHost, type HalBench, listenForEars, type Pair, pattern, sameBytes } from "./bench.ts";

const mebibyte = 1024 * 1024;

export function streamSuite(name: string, kind: "hba" | "nic", newBench: () => Promise<HalBench>): void {
  const test = suite(`${name}: streams of ${kind}`);
  let bench: HalBench;
  test.before.each(async () => {
    bench = await newBench();
  });
  test.after.each(async () => {
    await bench.close();
  });

  const openPair = async (): Promise<Pair> => {
    const oak = await bench.open({ appliance: "oak-a", persistence: "battery" });
    if (kind === "hba") {
      const port = oak.hal.hbaPorts[0]!;
      const accepted = await listenForEars(bench, port);
      return dialHost(bench, port.address, accepted);
    }
    const elm = await bench.open({ appliance: "elm-a", persistence: "battery" });
    const nic = oak.hal.nics[0]!;
    const accepted = await listenForEars(bench, nic);
    return dial(bench, elm.hal.nics[0]!, nic, accepted);
  };
  const finish = async ({ dialer, acceptor }: Pair) => {
    dialer.stream.abort();
    acceptor.stream.abort();
    await bench.until("both ends closed", () => dialer.closeCount > 0 && acceptor.closeCount > 0);
    for (const ear of [dialer, acceptor]) {
      assert.is(ear.closeCount, 1);
      assert.equal(ear.violations, []);
    }
  };

  test("megabytes go both ways at once -> every byte arrives, in order", async () => {
    const pair = await openPair();
    const there = pattern(3 * mebibyte + 17, 1);
    const back = pattern(2 * mebibyte + 5, 2);
    await Promise.all([pair.dialer.send(bench, there), pair.acceptor.send(bench, back)]);
    await bench.until("all bytes", () => {
      return pair.acceptor.receivedBytes >= there.byteLength && pair.dialer.receivedBytes >= back.byteLength;
    });
    sameBytes(pair.acceptor.received(), there, "from the dialer");
    sameBytes(pair.dialer.received(), back, "from the acceptor");
    await finish(pair);
  });

  test("the writer reuses its buffer at once -> the bytes written arrive", async () => {
    const pair = await openPair();
    const buffer = new Uint8Array(1000);
    const expected: Uint8Array[] = [];
    for (let round = 0; round < 50; round++) {
      const piece = pattern(1000, round);
      buffer.set(piece);
      await pair.dialer.send(bench, buffer);
      expected.push(piece);
      buffer.fill(0xee);
    }
    await bench.until("all bytes", () => pair.acceptor.receivedBytes >= 50_000);
    sameBytes(pair.acceptor.received(), Buffer.concat(expected), "what was written");
    await finish(pair);
  });

  test("chunks are kept while more data comes -> they never change", async () => {
    const pair = await openPair();
    const sums: number[] = [];
    pair.acceptor.onChunk = () => sums.push(sum(pair.acceptor.chunks.at(-1)!));
    const data = pattern(4 * mebibyte, 3);
    await pair.dialer.send(bench, data);
    await bench.until("all bytes", () => pair.acceptor.receivedBytes >= data.byteLength);
    assert.equal(pair.acceptor.chunks.map(sum), sums);
    await finish(pair);
  });

  test("every other chunk is given back -> what comes is right, and what was kept never changes", async () => {
    const pair = await openPair();
    const data = pattern(6 * mebibyte, 9);
    const kept: { chunk: Uint8Array; at: number }[] = [];
    let at = 0;
    let wrong = 0;
    pair.acceptor.onChunk = () => {
      const chunk = pair.acceptor.chunks.pop()!;
      const { byteLength } = chunk;
      if (Buffer.compare(chunk, data.subarray(at, at + byteLength)) !== 0) wrong++;
      if (kept.length > 0 && kept.at(-1)!.at + kept.at(-1)!.chunk.byteLength === at)
        pair.acceptor.call((stream) => stream.giveBack(chunk));
      else kept.push({ chunk, at });
      at += byteLength;
    };
    await pair.dialer.send(bench, data);
    await bench.until("all bytes", () => at >= data.byteLength);
    assert.is(wrong, 0);
    for (const { chunk, at: from } of kept) sameBytes(chunk, data.subarray(from, from + chunk.byteLength), "kept");
    await finish(pair);
  });

  test("the reader pauses -> nothing comes, the writer is held back; it resumes -> everything comes", async () => {
    const pair = await openPair();
    const data = pattern(256 * 1024, 4);
    pair.acceptor.call((stream) => stream.pause());
    const takenBytes = pair.dialer.fill(data, 64 * mebibyte);
    // The other direction still works, and shows that time has passed.
    const back = pattern(100_000, 5);
    await pair.acceptor.send(bench, back);
    await bench.until("the other direction", () => pair.dialer.receivedBytes >= back.byteLength);
    assert.is(pair.acceptor.receivedBytes, 0);
    pair.acceptor.call((stream) => stream.resume());
    await bench.until("everything taken", () => pair.acceptor.receivedBytes >= takenBytes);
    await bench.until("room again", () => pair.dialer.drainCount > 0);
    assert.is(pair.acceptor.receivedBytes, takenBytes);
    assert.ok(pair.dialer.call((stream) => stream.write(data)) > 0);
    await finish(pair);
  });

  test("the reader pauses and resumes within each chunk -> order and completeness stay", async () => {
    const pair = await openPair();
    const data = pattern(2 * mebibyte, 6);
    let isPaused = false;
    let whilePaused = 0;
    pair.acceptor.onChunk = () => {
      if (isPaused) whilePaused++;
      isPaused = true;
      pair.acceptor.call((stream) => stream.pause());
    };
    const sent = pair.dialer.send(bench, data);
    while (pair.acceptor.receivedBytes < data.byteLength) {
      await bench.until("a chunk", () => isPaused);
      isPaused = false;
      pair.acceptor.call((stream) => stream.resume());
    }
    await sent;
    assert.is(whilePaused, 0, "chunks while paused");
    sameBytes(pair.acceptor.received(), data, "what was written");
    await finish(pair);
  });

  test("one side ends -> the other gets all bytes, then onEnd, may still write, ends -> both close once", async () => {
    const pair = await openPair();
    const there = pattern(300_000, 7);
    const back = pattern(200_000, 8);
    await pair.dialer.send(bench, there);
    pair.dialer.call((stream) => stream.end());
    assert.is(
      pair.dialer.call((stream) => stream.write(there)),
      0,
      "a write after end",
    );
    await bench.until("the end", () => pair.acceptor.endCount > 0);
    sameBytes(pair.acceptor.received(), there, "before the end");
    assert.is(pair.acceptor.closeCount, 0);
    await pair.acceptor.send(bench, back);
    pair.acceptor.call((stream) => stream.end());
    await bench.until("both closed", () => pair.dialer.closeCount > 0 && pair.acceptor.closeCount > 0);
    sameBytes(pair.dialer.received(), back, "after the other's end");
    assert.is(pair.acceptor.endCount, 1);
    await finish(pair);
  });

  test("both sides end at once -> all bytes arrive on both, both close once", async () => {
    const pair = await openPair();
    const data = pattern(100_000, 9);
    await Promise.all([pair.dialer.send(bench, data), pair.acceptor.send(bench, data)]);
    pair.dialer.call((stream) => stream.end());
    pair.acceptor.call((stream) => stream.end());
    await bench.until("both closed", () => pair.dialer.closeCount > 0 && pair.acceptor.closeCount > 0);
    sameBytes(pair.dialer.received(), data, "to the dialer");
    sameBytes(pair.acceptor.received(), data, "to the acceptor");
    await finish(pair);
  });

  test("one side aborts -> both close once, later calls do nothing", async () => {
    const pair = await openPair();
    await pair.dialer.send(bench, pattern(1000, 10));
    await bench.until("the bytes", () => pair.acceptor.receivedBytes >= 1000);
    pair.acceptor.call((stream) => stream.abort());
    await bench.until("both closed", () => pair.dialer.closeCount > 0 && pair.acceptor.closeCount > 0);
    for (const ear of [pair.dialer, pair.acceptor]) {
      assert.is(
        ear.call((stream) => stream.write(new Uint8Array(10))),
        0,
      );
      ear.call((stream) => stream.pause());
      ear.call((stream) => stream.resume());
      ear.call((stream) => stream.end());
      ear.call((stream) => stream.abort());
    }
    await finish(pair);
  });

  test("a handler aborts within onData -> no further chunk comes", async () => {
    const pair = await openPair();
    pair.acceptor.onChunk = () => pair.acceptor.call((stream) => stream.abort());
    const data = pattern(mebibyte, 11);
    pair.dialer.call((stream) => stream.write(data));
    await bench.until("both closed", () => pair.dialer.closeCount > 0 && pair.acceptor.closeCount > 0);
    assert.is(pair.acceptor.chunks.length, 1);
    await finish(pair);
  });

  test("the reader has paused when the other side ends -> the end waits until the bytes have been read", async () => {
    const pair = await openPair();
    pair.acceptor.call((stream) => stream.pause());
    const data = pattern(50_000, 12);
    await pair.dialer.send(bench, data);
    pair.dialer.call((stream) => stream.end());
    const back = pattern(1000, 13);
    await pair.acceptor.send(bench, back);
    await bench.until("the other direction", () => pair.dialer.receivedBytes >= back.byteLength);
    assert.is(pair.acceptor.endCount, 0);
    pair.acceptor.call((stream) => stream.resume());
    await bench.until("the end", () => pair.acceptor.endCount > 0);
    sameBytes(pair.acceptor.received(), data, "before the end");
    await finish(pair);
  });

  test.run();
}

function sum(bytes: Uint8Array): number {
  let total = 0;
  for (const byte of bytes) total = (total * 31 + byte) >>> 0;
  return total;
}
