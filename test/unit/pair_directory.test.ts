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
import { WorkReader, workKinds } from "../../firmware/pair/work_wire.ts";
import type { BlockTarget } from "../../firmware/volume/block_request.ts";
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

test.run();
