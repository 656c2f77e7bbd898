/** Simulated connections: order, pieces, windows, ends, resets, cuts, deaths. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { ByteStream, StreamHandler } from "../../hal/api/byte_stream.ts";
import type { Hal } from "../../hal/api/hal.ts";
import type { MockAppliance } from "../../hal/mock/appliance.ts";
import { Prng } from "../../hal/mock/prng.ts";
import { World } from "../../hal/mock/world.ts";

const test = suite("mock_stream");

/** Keeps all that a stream's handler is told. */
class Recorder implements StreamHandler {
  readonly received: Uint8Array[] = [];
  calls: string[] = [];
  receivedBytes = 0;
  onDrainDo: () => void = () => {};
  onData(chunk: Uint8Array): void {
    this.received.push(chunk);
    this.receivedBytes += chunk.byteLength;
  }
  onDrain(): void {
    this.onDrainDo();
  }
  onEnd(): void {
    this.calls.push("end");
  }
  onClose(): void {
    this.calls.push("close");
  }
  bytes(): Uint8Array {
    return Uint8Array.from(Buffer.concat(this.received));
  }
}

interface Side {
  stream: ByteStream;
  readonly recorder: Recorder;
}

function twoArrays(seed: number): { world: World; oak: MockAppliance; elm: MockAppliance; oakHal: Hal; elmHal: Hal } {
  const world = new World({ seed });
  const add = (name: string) =>
    world.addAppliance({
      name,
      cache: { sizeBytes: 65536, domain: "battery" },
      shelves: [],
      hbaPorts: [{ name: "hba0", address: `${name}:10809`, protocol: "nbd" }],
      nics: [{ name: "nic0", address: `${name}:7400` }],
    });
  const oak = add("oak-a");
  const elm = add("elm-a");
  return { world, oak, elm, oakHal: oak.boot(), elmHal: elm.boot() };
}

/** A connection from oak's NIC to elm's. */
function connected(seed: number) {
  const site = twoArrays(seed);
  const near: Side = { stream: null as unknown as ByteStream, recorder: new Recorder() };
  const far: Side = { stream: null as unknown as ByteStream, recorder: new Recorder() };
  site.elmHal.nics[0]!.listen(
    (stream) => {
      far.stream = stream;
      return far.recorder;
    },
    (error) => assert.is(error, null),
  );
  site.oakHal.nics[0]!.connect(
    "elm-a:7400",
    (stream) => {
      near.stream = stream;
      return near.recorder;
    },
    (reason) => assert.unreachable(reason),
  );
  assert.ok(site.world.runUntil(() => near.stream !== null && far.stream !== null, 1000));
  return { ...site, near, far };
}

/** Writes all of `bytes`, as the stream takes it. */
function pour(side: Side, bytes: Uint8Array): void {
  let at = 0;
  const more = () => {
    while (at < bytes.byteLength) {
      const piece = bytes.subarray(at, at + 30_000);
      const taken = side.stream.write(piece);
      at += taken;
      if (taken < piece.byteLength) return;
    }
  };
  side.recorder.onDrainDo = more;
  more();
}

test("random writes through every kind of piece -> the same bytes in the same order", () => {
  let singleBytes = 0;
  for (let seed = 0; seed < 20; seed++) {
    const { world, near, far } = connected(seed);
    world.network.faults.shortWriteRate = 0.2;
    world.network.faults.tinyRate = 0.3;
    world.network.faults.delayRate = 0.05;
    const bytes = new Prng(seed, "payload").fill(new Uint8Array(1_000_000 + seed));
    pour(near, bytes);
    assert.ok(
      world.runUntil(() => far.recorder.receivedBytes === bytes.byteLength, 1e6),
      `seed ${seed}: ${far.recorder.receivedBytes} bytes arrived`,
    );
    assert.equal(Buffer.compare(far.recorder.bytes(), bytes), 0);
    singleBytes += far.recorder.received.filter((chunk) => chunk.byteLength === 1).length;
  }
  assert.ok(singleBytes > 0, "pieces of one byte");
});

test("a chunk that was delivered -> is the receiver's, whatever the writer does to its buffer", () => {
  const { world, near, far } = connected(1);
  world.network.faults.shortWriteRate = 0;
  const buffer = new Uint8Array(1000).fill(7);
  near.stream.write(buffer);
  buffer.fill(9);
  world.runUntil(() => far.recorder.receivedBytes === 1000, 1000);
  assert.ok(far.recorder.bytes().every((byte) => byte === 7));
});

test("a reader that pauses -> the writer's window fills; it drains after the reader has gone on", () => {
  const { world, near, far } = connected(2);
  world.network.faults.shortWriteRate = 0;
  far.stream.pause();
  let drained = 0;
  near.recorder.onDrainDo = () => drained++;
  let taken = 0;
  for (;;) {
    const now = near.stream.write(new Uint8Array(10_000));
    taken += now;
    if (now < 10_000) break;
  }
  assert.is(near.stream.write(new Uint8Array(1)), 0);
  world.runFor(60_000);
  assert.is(far.recorder.receivedBytes, 0);
  assert.is(drained, 0);
  far.stream.resume();
  world.runUntil(() => far.recorder.receivedBytes === taken && drained > 0, 1000);
  assert.is(far.recorder.receivedBytes, taken);
  assert.is(drained, 1);
});

test("one end ends -> the other may still send; both close, once, after both have ended", () => {
  const { world, near, far } = connected(3);
  world.network.faults.shortWriteRate = 0;
  near.stream.write(new Uint8Array(5));
  near.stream.end();
  assert.is(near.stream.write(new Uint8Array(5)), 0);
  world.runFor(100);
  assert.equal(far.recorder.calls, ["end"]);
  assert.is(far.recorder.receivedBytes, 5);
  far.stream.write(new Uint8Array(50_000).subarray(0, 9));
  far.stream.end();
  world.runFor(100);
  assert.is(near.recorder.receivedBytes, 9);
  assert.equal(near.recorder.calls, ["end", "close"]);
  assert.equal(far.recorder.calls, ["end", "close"]);
});

test("an ended stream whose other end never ends -> closes hard after the linger limit", () => {
  const { world, near, far } = connected(4);
  near.stream.end();
  world.runFor(world.network.faults.lingerMs + 100);
  assert.equal(near.recorder.calls, ["close"]);
  assert.equal(far.recorder.calls, ["end", "close"]);
});

test("an abort -> both close once; a paused reader learns it too", () => {
  const { world, near, far } = connected(5);
  near.stream.write(new Uint8Array(5000));
  far.stream.pause();
  near.stream.abort();
  near.stream.abort();
  assert.equal(near.recorder.calls, [], "never from inside a call");
  world.runFor(100);
  assert.equal(near.recorder.calls, ["close"]);
  assert.equal(far.recorder.calls, ["close"]);
  assert.is(far.stream.write(new Uint8Array(1)), 0);
});

test("a cut -> nothing is delivered, nobody is told; after the join all arrives in order", () => {
  const { world, near, far } = connected(6);
  const bytes = new Prng(6, "payload").fill(new Uint8Array(9000));
  world.cut("oak-a", "elm-a");
  pour(near, bytes);
  world.runFor(3_600_000);
  assert.is(far.recorder.receivedBytes, 0);
  assert.equal([near.recorder.calls, far.recorder.calls], [[], []]);
  world.join("oak-a", "elm-a");
  assert.ok(world.runUntil(() => far.recorder.receivedBytes === 9000, 2000));
  assert.equal(Buffer.compare(far.recorder.bytes(), bytes), 0);
});

test("a one-way cut -> the other direction still carries, until its window is full", () => {
  const { world, near, far } = connected(7);
  world.network.faults.shortWriteRate = 0;
  world.cut("oak-a", "elm-a", true);
  near.stream.write(new Uint8Array(10));
  far.stream.write(new Uint8Array(20));
  world.runFor(1000);
  assert.is(far.recorder.receivedBytes, 0);
  assert.is(near.recorder.receivedBytes, 20);
});

test("flapping under load -> the stream survives with all its bytes", () => {
  const { world, near, far } = connected(8);
  const bytes = new Prng(8, "payload").fill(new Uint8Array(3_000_000));
  pour(near, bytes);
  for (let turn = 0; turn < 30; turn++) {
    world.cut("oak-a", "elm-a", turn % 2 === 0);
    world.runFor(40);
    world.join("oak-a", "elm-a");
    world.runFor(turn * 3);
  }
  assert.ok(world.runUntil(() => far.recorder.receivedBytes === bytes.byteLength, 60_000));
  assert.equal(Buffer.compare(far.recorder.bytes(), bytes), 0);
});

test("latency and rate -> bytes take that long, and not much longer", () => {
  const { world, near, far } = connected(9);
  world.network.faults.shortWriteRate = 0;
  world.shape("oak-a", "elm-a", { latencyMs: 20, rateBytesPerSecond: 1_000_000 });
  const startMs = world.nowMs;
  near.stream.write(new Uint8Array(10_000));
  world.runUntil(() => far.recorder.receivedBytes === 10_000, 1000);
  const tookMs = world.nowMs - startMs;
  assert.ok(tookMs >= 30 && tookMs < 31, `took ${tookMs} ms, 30 expected`);
});

test("loss -> a stream feels delay only", () => {
  const { world, near, far } = connected(10);
  world.shape("oak-a", "elm-a", { loss: 0.2 });
  const bytes = new Prng(10, "payload").fill(new Uint8Array(300_000));
  const startMs = world.nowMs;
  pour(near, bytes);
  assert.ok(world.runUntil(() => far.recorder.receivedBytes === bytes.byteLength, 100_000));
  assert.ok(world.nowMs - startMs > 20);
  assert.equal(Buffer.compare(far.recorder.bytes(), bytes), 0);
});

test("the process at one end dies -> the other end sees a close and a prefix of the bytes, the dead one nothing", () => {
  const ends = new Set<string>();
  for (let seed = 100; seed < 130; seed++) {
    const { world, oak, near, far } = connected(seed);
    const bytes = new Prng(seed, "payload").fill(new Uint8Array(40_000));
    pour(near, bytes);
    world.runFor((seed % 3) * 0.03);
    oak.crash();
    const before = near.recorder.calls.length + near.recorder.received.length;
    world.runFor(2000);
    assert.is(near.recorder.calls.length + near.recorder.received.length, before, "nothing calls the dead");
    assert.is(far.recorder.calls.at(-1), "close");
    assert.is(far.recorder.calls.filter((call) => call === "close").length, 1);
    const arrived = far.recorder.bytes();
    assert.equal(Buffer.compare(arrived, bytes.subarray(0, arrived.byteLength)), 0);
    ends.add(`${far.recorder.calls.join()} ${arrived.byteLength > 0}`);
    assert.is(world.network.openCount(), 0);
  }
  assert.ok(ends.size >= 3, `deaths look different: ${[...ends].join("; ")}`);
});

test("a power loss -> the other end is told by its own timeout, or when the machine is back", () => {
  const first = connected(11);
  first.oak.powerLoss();
  first.world.runFor(1000);
  assert.equal(first.far.recorder.calls, []);
  first.world.runFor(60_000);
  assert.equal(first.far.recorder.calls, ["close"]);

  const second = connected(12);
  second.oak.powerLoss();
  second.world.runFor(1000);
  second.oak.boot();
  second.world.runFor(1500);
  assert.equal(second.far.recorder.calls, ["close"]);
});

test("connecting -> refused where nobody listens, unanswered where the machine is off or the link is cut", () => {
  const { world, elm, oakHal, elmHal } = twoArrays(13);
  const failures: string[] = [];
  const attempt = () => {
    const before = failures.length;
    const startMs = world.nowMs;
    oakHal.nics[0]!.connect(
      "elm-a:7400",
      () => {
        throw new Error("connected");
      },
      (reason) => failures.push(reason),
    );
    assert.ok(world.runUntil(() => failures.length > before, 20_000));
    return world.nowMs - startMs;
  };
  assert.ok(attempt() < 10);
  assert.match(failures[0]!, /nobody listens/);
  elmHal.nics[0]!.listen(
    () => new Recorder(),
    () => {},
  );
  world.cut("elm-a", "oak-a", true);
  assert.ok(attempt() > 1000);
  world.join("oak-a", "elm-a");
  elm.powerLoss();
  assert.ok(attempt() > 1000);
  assert.match(failures[2]!, /no answer/);
  world.runFor(60_000);
  assert.is(failures.length, 3);
  assert.is(world.network.openCount(), 0, "half-made connections are gone");
});

test("an address that is taken -> an error that names it; free again after a close or a death", () => {
  const { world, oak, oakHal } = twoArrays(14);
  const outcomes: (string | null)[] = [];
  const listen = (hal: Hal) => {
    hal.hbaPorts[0]!.listen(
      () => new Recorder(),
      (error) => outcomes.push(error),
    );
    world.runFor(1);
  };
  listen(oakHal);
  listen(oakHal);
  assert.is(outcomes[0], null);
  assert.match(String(outcomes[1]), /oak-a:10809.*in use/);
  oakHal.hbaPorts[0]!.close();
  listen(oakHal);
  oak.crash();
  listen(oak.boot());
  assert.equal(outcomes.slice(2), [null, null]);
});

test("hosts -> reach an HBA port, which sees their address; a paused process is connected to and silent", () => {
  const { world, oak, oakHal } = twoArrays(15);
  world.network.faults.shortWriteRate = 0;
  const remotes: string[] = [];
  oakHal.hbaPorts[0]!.listen(
    (stream) => {
      remotes.push(stream.remote);
      return Object.assign(new Recorder(), { onData: (chunk: Uint8Array) => stream.write(chunk) });
    },
    () => {},
  );
  world.runFor(1);
  oak.pause();
  const host = new Recorder();
  let isConnected = false;
  world.connectHost(
    "oak-a:10809",
    (stream) => {
      isConnected = true;
      stream.write(new Uint8Array(64));
      return host;
    },
    (reason) => assert.unreachable(reason),
    "198.51.100.7",
  );
  world.runFor(5000);
  assert.is(isConnected, true);
  assert.is(host.receivedBytes, 0);
  oak.resume();
  world.runFor(100);
  assert.is(host.receivedBytes, 64);
  assert.equal(remotes, ["198.51.100.7"]);
});

test("a connection that breaks -> both ends close", () => {
  const { world, near, far } = connected(16);
  assert.is(world.network.breakOne(world.prng("test")), true);
  world.runFor(1);
  assert.equal([near.recorder.calls, far.recorder.calls], [["close"], ["close"]]);
  assert.is(world.network.breakOne(world.prng("test")), false);
});

test.run();
