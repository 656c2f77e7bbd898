/** hal/api/nic.ts: shaping and cuts. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { Hal } from "../../hal/api/hal.ts";
import type { Shaping } from "../../hal/api/nic.ts";
import { dial, type HalBench, listenForEars, type Pair, pattern, StreamEar, sameBytes } from "./bench.ts";

const plain: Shaping = { cut: false, latencyMs: 0, jitterMs: 0, rateBytesPerSecond: null, loss: 0 };
const cut: Shaping = { ...plain, cut: true };

export function nicSuite(name: string, newBench: () => Promise<HalBench>): void {
  const test = suite(`${name}: NICs`);
  let bench: HalBench;
  let oak: Hal;
  let elm: Hal;
  let pair: Pair;
  /** A second link, over the other NICs, which is never shaped: what it carries shows that time has passed. */
  let witness: Pair;
  let accepted: StreamEar[];

  test.before.each(async () => {
    bench = await newBench();
    oak = (await bench.open({ appliance: "oak-a", persistence: "battery" })).hal;
    elm = (await bench.open({ appliance: "elm-a", persistence: "battery" })).hal;
    accepted = await listenForEars(bench, elm.nics[0]!);
    pair = await dial(bench, oak.nics[0]!, elm.nics[0]!, accepted);
    const others = await listenForEars(bench, elm.nics[1]!);
    witness = await dial(bench, oak.nics[1]!, elm.nics[1]!, others);
  });
  test.after.each(async () => {
    oak.nics[0]!.shape("elm-a", null);
    elm.nics[0]!.shape("oak-a", null);
    const ears = [pair.dialer, pair.acceptor, witness.dialer, witness.acceptor];
    for (const ear of ears) ear.stream.abort();
    await bench.until("every end closed", () => ears.every((ear) => ear.closeCount === 1));
    for (const ear of ears) assert.equal(ear.violations, []);
    await bench.close();
  });

  /** Ten round trips on the witness. */
  const passTime = async () => {
    for (let round = 0; round < 10; round++) {
      const there = witness.acceptor.receivedBytes + 8;
      await witness.dialer.send(bench, new Uint8Array(8));
      await bench.until("the witness", () => witness.acceptor.receivedBytes >= there);
      const back = witness.dialer.receivedBytes + 8;
      await witness.acceptor.send(bench, new Uint8Array(8));
      await bench.until("the witness", () => witness.dialer.receivedBytes >= back);
    }
  };

  test("a shaping is set, replaced, removed -> shapings() tells what is in force, per NIC", () => {
    const nic = oak.nics[0]!;
    assert.is(nic.shapings().size, 0);
    nic.shape("elm-a", { ...plain, latencyMs: 5 });
    nic.shape("ash-a", cut);
    assert.equal(
      [...nic.shapings()],
      [
        ["elm-a", { ...plain, latencyMs: 5 }],
        ["ash-a", cut],
      ],
    );
    nic.shape("elm-a", { ...plain, loss: 0.1 });
    nic.shape("ash-a", null);
    assert.equal([...nic.shapings()], [["elm-a", { ...plain, loss: 0.1 }]]);
    assert.is(oak.nics[1]!.shapings().size, 0);
  });

  test("a latency is set -> bytes come no earlier, all of them, in that direction alone", async () => {
    const { clock } = oak;
    oak.nics[0]!.shape("elm-a", { ...plain, latencyMs: 80 });
    const data = pattern(10_000, 1);
    const startMs = clock.nowMs();
    let firstMs = 0;
    pair.acceptor.onChunk = () => {
      firstMs ||= clock.nowMs();
    };
    const buffer = Uint8Array.from(data);
    await pair.dialer.send(bench, buffer);
    // What was taken is the link's own copy.
    buffer.fill(0);
    await pair.acceptor.send(bench, data);
    await bench.until("the plain direction", () => pair.dialer.receivedBytes >= data.byteLength);
    await bench.until("the shaped direction", () => pair.acceptor.receivedBytes >= data.byteLength);
    assert.ok(firstMs - startMs >= 79, `came after ${firstMs - startMs} ms`);
    sameBytes(pair.acceptor.received(), data, "shaped");
    sameBytes(pair.dialer.received(), data, "plain");
  });

  test("a rate is set -> a transfer takes at least the time that the rate allows", async () => {
    const { clock } = oak;
    oak.nics[0]!.shape("elm-a", { ...plain, rateBytesPerSecond: 2_000_000 });
    const data = pattern(400_000, 2);
    const startMs = clock.nowMs();
    await pair.dialer.send(bench, data);
    await bench.until("all bytes", () => pair.acceptor.receivedBytes >= data.byteLength);
    assert.ok(clock.nowMs() - startMs >= 190, `took ${clock.nowMs() - startMs} ms`);
    sameBytes(pair.acceptor.received(), data, "what was written");
  });

  test("jitter and loss are set, then changed and removed on the way -> nothing is lost or reordered", async () => {
    const nic = oak.nics[0]!;
    const data = pattern(900_000, 3);
    nic.shape("elm-a", { cut: false, latencyMs: 10, jitterMs: 10, rateBytesPerSecond: null, loss: 0.05 });
    await pair.dialer.send(bench, data.subarray(0, 300_000));
    nic.shape("elm-a", { cut: false, latencyMs: 1, jitterMs: 1, rateBytesPerSecond: 50_000_000, loss: 0 });
    await pair.dialer.send(bench, data.subarray(300_000, 600_000));
    nic.shape("elm-a", null);
    await pair.dialer.send(bench, data.subarray(600_000));
    await bench.until("all bytes", () => pair.acceptor.receivedBytes >= data.byteLength);
    sameBytes(pair.acceptor.received(), data, "what was written");
  });

  test("a link is cut one way -> nothing passes that way, nobody is told, the other way works; joined -> all arrives", async () => {
    oak.nics[0]!.shape("elm-a", cut);
    const data = pattern(5000, 4);
    await pair.dialer.send(bench, data);
    await pair.acceptor.send(bench, data);
    await bench.until("the other direction", () => pair.dialer.receivedBytes >= data.byteLength);
    await passTime();
    assert.is(pair.acceptor.receivedBytes, 0);
    assert.is(pair.acceptor.endCount + pair.acceptor.closeCount + pair.dialer.closeCount, 0);
    oak.nics[0]!.shape("elm-a", null);
    await bench.until("the held bytes", () => pair.acceptor.receivedBytes >= data.byteLength);
    sameBytes(pair.acceptor.received(), data, "held");
  });

  test("a link is cut by the acceptor's NIC -> what the acceptor sends is held", async () => {
    elm.nics[0]!.shape("oak-a", cut);
    const data = pattern(5000, 5);
    await pair.acceptor.send(bench, data);
    await passTime();
    assert.is(pair.dialer.receivedBytes, 0);
    elm.nics[0]!.shape("oak-a", null);
    await bench.until("the held bytes", () => pair.dialer.receivedBytes >= data.byteLength);
    sameBytes(pair.dialer.received(), data, "held");
  });

  test("a cut towards another appliance, or on another NIC -> this link is as before", async () => {
    oak.nics[0]!.shape("ash-a", cut);
    oak.nics[1]!.shape("ash-a", cut);
    elm.nics[1]!.shape("ash-a", cut);
    const data = pattern(5000, 6);
    await pair.dialer.send(bench, data);
    await bench.until("the bytes", () => pair.acceptor.receivedBytes >= data.byteLength);
    oak.nics[0]!.shape("ash-a", null);
  });

  test("much is written into a cut link -> the writer is held back at a bound; joined -> room, and all arrives", async () => {
    oak.nics[0]!.shape("elm-a", { ...plain, cut: true, latencyMs: 1 });
    const takenBytes = pair.dialer.fill(pattern(100_000, 7), 64 * 1024 * 1024);
    await passTime();
    assert.is(pair.acceptor.receivedBytes, 0);
    oak.nics[0]!.shape("elm-a", { ...plain, latencyMs: 1 });
    await bench.until("all that was taken", () => pair.acceptor.receivedBytes >= takenBytes);
    await bench.until("room", () => pair.dialer.drainCount > 0);
    assert.is(pair.acceptor.receivedBytes, takenBytes);
  });

  test("one end aborts in a link that is cut both ways -> it closes, the other is told only after the join", async () => {
    oak.nics[0]!.shape("elm-a", cut);
    elm.nics[0]!.shape("oak-a", cut);
    pair.dialer.call((stream) => stream.abort());
    await bench.until("its own close", () => pair.dialer.closeCount > 0);
    await passTime();
    assert.is(pair.acceptor.closeCount + pair.acceptor.endCount, 0);
    oak.nics[0]!.shape("elm-a", null);
    elm.nics[0]!.shape("oak-a", null);
    await bench.until("the other's close", () => pair.acceptor.closeCount > 0);
  });

  test("one end ends in a cut link -> the other sees bytes and end after the join", async () => {
    oak.nics[0]!.shape("elm-a", cut);
    const data = pattern(3000, 8);
    await pair.dialer.send(bench, data);
    pair.dialer.call((stream) => stream.end());
    await passTime();
    assert.is(pair.acceptor.endCount, 0);
    oak.nics[0]!.shape("elm-a", null);
    await bench.until("the end", () => pair.acceptor.endCount > 0);
    sameBytes(pair.acceptor.received(), data, "before the end");
  });

  for (const direction of ["the dialer's", "the acceptor's"] as const) {
    test(`a new link is dialed while ${direction} direction is cut -> it comes about only after the join`, async () => {
      const near =
        direction === "the dialer's" ? { nic: oak.nics[0]!, remote: "elm-a" } : { nic: elm.nics[0]!, remote: "oak-a" };
      near.nic.shape(near.remote, cut);
      const before = accepted.length;
      const dialers: StreamEar[] = [];
      const reasons: string[] = [];
      oak.nics[0]!.connect(
        elm.nics[0]!.address,
        (stream) => {
          const ear = new StreamEar(stream);
          dialers.push(ear);
          return ear;
        },
        (reason) => reasons.push(reason),
      );
      await passTime();
      assert.is(dialers.length, 0);
      assert.is(accepted.length, before);
      near.nic.shape(near.remote, null);
      await bench.until("an outcome", () => dialers.length + reasons.length > 0);
      if (dialers.length > 0) {
        await bench.until("the other end", () => accepted.length > before);
        await dialers[0]!.send(bench, pattern(100, 9));
        await bench.until("the bytes", () => accepted[before]!.receivedBytes >= 100);
        dialers[0]!.stream.abort();
        await bench.until("its close", () => accepted[before]!.closeCount + dialers[0]!.closeCount === 2);
      }
    });
  }

  test.run();
}
