/** What the partner's hosts ask, from one session with the partner to the next: nothing of the former one is part of the next. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { PairMessage } from "../../firmware/pair/frame.ts";
import { HostService, type HostServiceParts } from "../../firmware/pair/host_service.ts";
import { blockCode, errorCode } from "../../firmware/pair/work_codes.ts";
import { type WorkHead, WorkReader, WorkWriter, workKinds } from "../../firmware/pair/work_wire.ts";
import type { BlockRequest, BlockTarget } from "../../firmware/volume/block_request.ts";
import { ManualClock } from "./support/manual_clock.ts";

const test = suite("pair_forwarded");
const channel = 1;
const write = blockCode({ kind: "write", keepAllocated: false, atomic: false });

/** A host service here whose partner's hosts have one volume open, which answers when it is told to. */
class Service {
  readonly clock = new ManualClock();
  readonly requests: BlockRequest[] = [];
  readonly told: WorkHead[] = [];
  readonly service: HostService;

  constructor() {
    const reader = new WorkReader((head) => this.told.push({ ...head }));
    const target = {
      name: "v",
      blockCount: () => 1 << 20,
      readOnly: () => false,
      submit: (request: BlockRequest) => this.requests.push(request),
      close: () => {},
      onEnded: () => {},
    } as unknown as BlockTarget;
    const front = { take: () => {}, leave: () => {}, settle: () => {} };
    const parts = {
      clock: this.clock,
      front,
      part: 0,
      appliance: "oak-a",
      partner: "oak-b",
      ownPorts: [],
      partnerOwns: () => false,
      sendText: () => true,
      keepAsked: () => {},
      send: (message: PairMessage, payload: readonly Uint8Array[] = []) => {
        if (message.kind === "told") assert.is(reader.feed(Buffer.concat(payload)), null);
      },
    } as unknown as HostServiceParts;
    const seat = {
      open: () => target,
      imageOf: () => "",
      onDirectory: () => {},
      directory: () => ({ hosts: [], exports: [], groups: [] }),
    };
    this.service = new HostService(parts);
    this.service.letIn(seat as never, { entries: () => [] }, () => {});
  }

  openVolume(): void {
    const host = { remote: "192.0.2.1:5000", iqn: "", tlsName: "" };
    const fault = this.service.onMessage({ kind: "openVolume", channel, name: "v", image: "", host }, new Uint8Array());
    assert.is(fault, null);
  }

  ask(message: Uint8Array): void {
    assert.is(this.service.onMessage({ kind: "ask" }, message), null);
  }
}

/** The messages in which a write of `bytes` goes. */
function writeOf(id: number, lba: number, bytes: number, fill: number): Uint8Array[] {
  const clock = new ManualClock();
  const messages: Uint8Array[] = [];
  const writer = new WorkWriter(clock, (parts) => messages.push(Buffer.concat(parts)));
  const head = { kind: workKinds.block, code: write, channel, id, first: bytes / 512, second: 0, wide: lba };
  writer.put(head, [], [new Uint8Array(bytes).fill(fill)]);
  clock.runDeferred();
  return messages;
}

test("the session is lost in the midst of a record -> the next one begins with its own records", () => {
  const bench = new Service();
  bench.openVolume();
  const [begin, ...rest] = writeOf(1, 0, 2 * 1024 * 1024, 0xaa);
  assert.ok(rest.length > 0, "it goes in several messages");
  bench.ask(begin!);
  bench.service.lost();
  bench.service.met([]);
  bench.openVolume();
  for (const message of writeOf(1, 64, 4096, 0xbb)) bench.ask(message);
  const asked = bench.requests.map(({ kind, startLba, blockCount, payload }) => ({
    kind,
    startLba,
    blockCount,
    bytes: [...new Set(Buffer.concat(payload as Uint8Array[]))],
  }));
  assert.equal(asked, [{ kind: "write", startLba: 64, blockCount: 8, bytes: [0xbb] }]);
});

test("a command ends after its session -> nobody in the next one is told", () => {
  const bench = new Service();
  bench.openVolume();
  for (const message of writeOf(7, 0, 4096, 1)) bench.ask(message);
  bench.service.lost();
  bench.service.met([]);
  bench.openVolume();
  for (const message of writeOf(7, 64, 4096, 2)) bench.ask(message);
  const [late, mine] = bench.requests;
  late!.onDone(late!);
  bench.clock.runDeferred();
  assert.equal(bench.told, []);
  mine!.onDone(mine!);
  bench.clock.runDeferred();
  assert.equal(
    bench.told.map(({ id, channel: at }) => [id, at]),
    [[7, channel]],
  );
});

test("a volume is refused, or has been closed just before -> what is asked of it is answered all the same", () => {
  const bench = new Service();
  for (const message of writeOf(3, 0, 4096, 1)) bench.ask(message);
  bench.openVolume();
  assert.is(bench.service.onMessage({ kind: "close", channel }, new Uint8Array()), null);
  for (const message of writeOf(4, 0, 2 * 1024 * 1024, 1)) bench.ask(message);
  bench.clock.runDeferred();
  assert.equal(bench.requests, []);
  const told = bench.told.map(({ id, code }) => ({ id, code }));
  assert.equal(told, [
    { id: 3, code: errorCode("closed") },
    { id: 4, code: errorCode("closed") },
  ]);
});

test.run();
