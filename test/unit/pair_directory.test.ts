/** The partner's volumes as an appliance shows them to its hosts (`directory.ts`): what they were told is what is. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { ArraySeat } from "../../firmware/appliance.ts";
import { type Directory, PartnerSeat, parseDirectory } from "../../firmware/pair/directory.ts";
import { Forwarded } from "../../firmware/pair/forwarded.ts";
import { longTextVersion, type PairMessage, pairVersion } from "../../firmware/pair/frame.ts";
import { HostService, type HostServiceParts } from "../../firmware/pair/host_service.ts";
import { pairLimits } from "../../firmware/pair/limits.ts";
import { type LongMessage, partsFor } from "../../firmware/pair/long_text.ts";
import type { Seat } from "../../firmware/pair/seat.ts";
import { blockCode, encodeExtents, errorCode } from "../../firmware/pair/work_codes.ts";
import { WorkReader, WorkWriter, workKinds } from "../../firmware/pair/work_wire.ts";
import type { BlockError, BlockExtent, BlockTarget } from "../../firmware/volume/block_request.ts";
import { PlainRequest } from "../../firmware/volume/plain_request.ts";
import { ManualClock } from "./support/manual_clock.ts";

const test = suite("pair_directory");
const host = { remote: "192.0.2.7:40000", iqn: null, tlsName: null };

function directoryWith(writable: boolean, image = "head"): Directory {
  const name = "db-1";
  const volume = { name, volume: name, uuid: "5f0c", description: "", blockCount: 2048, atomicBlocksMax: 0 };
  const anybody = { name: "any", any: true, addresses: [], iqns: [], tlsNames: [], chap: null };
  const mappings = [{ volume: name, lun: 0, readOnly: false }];
  return {
    groups: ["0a"],
    hosts: [{ ...anybody, mappings }],
    exports: [{ ...volume, writable, image, shown: true }],
  };
}

function seatWith(directory: Directory): { seat: PartnerSeat; sent: PairMessage[] } {
  const sent: PairMessage[] = [];
  return { seat: new PartnerSeat(new ManualClock(), (message) => sent.push(message), directory), sent };
}

function opened(seat: PartnerSeat): { target: BlockTarget; ends: string[] } {
  const target = seat.open("db-1", host);
  if (typeof target === "string") throw new Error(`not opened: ${target}`);
  const ends: string[] = [];
  target.onEnded((reason) => ends.push(reason));
  return { target, ends };
}

test("a volume may be written to from now on → a session that was told otherwise ends, the next one may write", () => {
  const { seat } = seatWith(directoryWith(false));
  const before = opened(seat);
  assert.is(before.target.readOnly(), true);
  seat.directory = directoryWith(true);
  assert.is(before.ends.length, 1);
  before.target.close();
  const after = opened(seat);
  assert.is(after.target.readOnly(), false);
  seat.directory = directoryWith(true);
  assert.is(after.ends.length, 0, "nothing has changed for it");
  assert.is(before.ends.length, 1, "closed is closed");
  seat.directory = directoryWith(false);
  assert.is(after.ends.length, 1, "and no more");
});

test("a golden copy shows its kept fork from now on → a session of its head ends, and one that comes too late is refused", () => {
  const { seat, sent } = seatWith(directoryWith(false));
  const { ends } = opened(seat);
  seat.directory = directoryWith(false, "kept-1");
  assert.is(ends.length, 1);
  const clock = new ManualClock();
  const refused: number[] = [];
  const told = new WorkReader((head) => {
    if (head.kind === workKinds.ended) refused.push(head.channel);
  });
  const forwarded = new Forwarded(clock, (_, payload) => {
    for (const part of payload ?? []) assert.is(told.feed(part), null);
  });
  const names: string[] = [];
  forwarded.seat = {
    imageOf: () => "kept-1",
    open: (name: string) => {
      names.push(name);
      return opened(seat).target;
    },
  } as unknown as Seat;
  opened(seat);
  const asked = sent.flatMap((message) => (message.kind === "openVolume" ? [message] : []));
  assert.equal(
    asked.map(({ image }) => image),
    ["head", "kept-1"],
  );
  for (const message of asked) forwarded.openVolume(message);
  clock.runDeferred();
  assert.equal(refused, [asked[0]!.channel]);
  assert.equal(names, ["db-1"], "the one that knows what it opens");
});

test("a directory → the same after its way over the interconnect; what is none is not taken", () => {
  const directory = parseDirectory(JSON.stringify(directoryWith(true)));
  assert.equal(directory, directoryWith(true));
  for (const text of ["", "{", "[]", '{"groups":[],"hosts":[]}', '{"groups":[],"hosts":[],"exports":[{"name":7}]}'])
    assert.is(parseDirectory(text), null, text);
});

/** A half with so many volumes, and the partner's idea of it. `version`: of the partner. */
function halfWith(volumes: number, version: number) {
  const [any, one] = [directoryWith(true).hosts[0]!, directoryWith(true).exports[0]!];
  const exports = Array.from({ length: volumes }, (_, index) => ({
    ...one,
    name: `${"x".repeat(50)}${index}`,
    description: "läuft ".repeat(10),
  }));
  const events: string[] = [];
  const seats: Seat[] = [];
  const front = { take: (_: number, seat: Seat) => seats.push(seat), leave: () => {}, settle: () => {} };
  const common = { clock: new ManualClock(), front, part: 0, appliance: "oak-a", partner: "oak-b", ownPorts: [] };
  const partner = new HostService({ ...common, partnerOwns: () => true } as unknown as HostServiceParts);
  const owner = new HostService({
    ...common,
    partnerOwns: () => false,
    events: { emit: (code: string) => events.push(code) },
    sendText: (message: LongMessage, text: Uint8Array, bytesMax: number) => {
      const parts = partsFor(version, text, bytesMax);
      for (const { part, more } of parts ?? []) {
        assert.ok(part.byteLength <= pairLimits.payloadBytesMax);
        assert.is(partner.onMessage({ ...message, more }, part), null);
      }
      return parts !== null;
    },
  } as unknown as HostServiceParts);
  const seat = { onDirectory: () => {}, directory: () => ({ groups: [], hosts: [any], exports }) };
  owner.letIn(seat as unknown as ArraySeat, { entries: () => [] }, () => {});
  const told = seats.flatMap((one) => (one instanceof PartnerSeat ? one.directory.exports : []));
  return {
    events,
    isTold: told.length === exports.length && told.every((found, index) => found.name === exports[index]!.name),
  };
}

test("a half has all the volumes that it may have -> its partner is told of each", () => {
  assert.equal(halfWith(64 * 256, pairVersion), { events: [], isTold: true });
});

test("a partner of the former version -> it is told what fits one frame, and of more nothing that it could take for all", () => {
  assert.equal(halfWith(1000, longTextVersion - 1), { events: [], isTold: true });
  assert.equal(halfWith(8000, longTextVersion - 1), { events: ["directory-too-large"], isTold: false });
});

test("a host of a volume of 5 TiB asks for all of it at once → all of it is asked of the partner, in parts that a record can name", () => {
  const tebiblocks = 2 ** 31;
  const clock = new ManualClock();
  const asked: { code: number; startLba: number; blockCount: number }[] = [];
  const ids: { channel: number; id: number }[] = [];
  const reader = new WorkReader(({ code, channel, id, wide, first }) => {
    asked.push({ code, startLba: wide, blockCount: first });
    ids.push({ channel, id });
  });
  const directory = directoryWith(true);
  const [found] = directory.exports;
  const large = { ...directory, exports: [{ ...found!, blockCount: 5 * tebiblocks }] };
  const send = (message: PairMessage, payload: readonly Uint8Array[] = []) => {
    if (message.kind === "ask") assert.is(reader.feed(Buffer.concat(payload)), null);
  };
  const seat = new PartnerSeat(clock, send, large);
  const { target } = opened(seat);
  const answer = (error: BlockError | null, extents: readonly BlockExtent[] = []): void => {
    const writer = new WorkWriter(clock, (payload) => assert.is(seat.device.onTold(Buffer.concat(payload)), null));
    const head = { kind: workKinds.block, code: errorCode(error), ...ids.at(-1)!, first: 0, second: 0, wide: 0 };
    writer.put(head, [], [encodeExtents(extents)]);
    clock.runDeferred();
  };
  for (const kind of ["zero", "unmap"] as const) {
    for (const fails of [false, true]) {
      let ends = 0;
      const request = new PlainRequest(() => ends++);
      request.kind = kind;
      request.keepAllocated = kind === "zero";
      request.blockCount = 5 * tebiblocks - 8;
      target.submit(request);
      clock.runDeferred();
      for (let part = 0; part < (fails ? 1 : 4); part++) answer(null);
      assert.is(ends, 0);
      answer(fails ? "no-space" : null);
      assert.equal([ends, request.error], [1, fails ? "no-space" : null]);
      const code = blockCode({ kind, keepAllocated: kind === "zero", atomic: false });
      const parts = [0, 1, 2, 3, 4].map((at) => ({ code, startLba: at * tebiblocks, blockCount: tebiblocks }));
      parts[4]!.blockCount -= 8;
      assert.equal(asked.splice(0), parts.slice(0, fails ? 2 : 5));
    }
  }
  let isDone = false;
  const status = new PlainRequest(() => {
    isDone = true;
  });
  status.kind = "status";
  status.blockCount = 2 * tebiblocks;
  target.submit(status);
  clock.runDeferred();
  assert.equal(
    asked.map(({ blockCount }) => blockCount),
    [tebiblocks],
  );
  answer(null, [{ blockCount: 8, hole: true }]);
  assert.ok(isDone && status.error === null);
});

test.run();
