/** The partner's volumes as an appliance shows them to its hosts (`directory.ts`): what they were told is what is. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { type Directory, decodeDirectory, encodeDirectory, PartnerSeat } from "../../firmware/pair/directory.ts";
import { Forwarded } from "../../firmware/pair/forwarded.ts";
import type { PairMessage } from "../../firmware/pair/frame.ts";
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
  const directory = decodeDirectory(encodeDirectory(directoryWith(true)));
  assert.equal(directory, directoryWith(true));
  for (const text of ["", "{", "[]", '{"groups":[],"hosts":[]}', '{"groups":[],"hosts":[],"exports":[{"name":7}]}'])
    assert.is(decodeDirectory(new TextEncoder().encode(text)), null, text);
});

test.run();
