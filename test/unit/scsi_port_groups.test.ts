/** Target port groups of a pair of appliances: what hosts are told of them, and what the states allow (SPC-4 5.16.2, 6.37). */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { allCommands } from "../../firmware/frontend/scsi/command_table.ts";
import type { AccessState, TargetPortGroup } from "../../firmware/frontend/scsi/target_port_groups.ts";
import { ScsiStatus } from "../../firmware/frontend/scsi/task.ts";
import { type BenchNexus, be, cdb, portOf, reserveList, ScsiBench, transportId } from "./support/scsi_bench.ts";

const test = suite("scsi_port_groups");
const { good, checkCondition, reservationConflict } = ScsiStatus;
const stateChanged = 0x062a06;

function groups(first: AccessState, second: AccessState, preferred = 1): readonly TargetPortGroup[] {
  return [
    { id: 1, state: first, preferred: preferred === 1, ports: [1, 2] },
    { id: 2, state: second, preferred: preferred === 2, ports: [17, 18] },
  ];
}

/** A host with a session at each appliance: port 1, and port 18. */
function pair(volumes = 1) {
  const bench = new ScsiBench(volumes);
  bench.portGroups = groups("active-optimized", "active-non-optimized");
  return { bench, near: bench.nexus("a", 1).ready(), far: bench.nexus("b", 18).ready() };
}

function turn(bench: ScsiBench, first: AccessState, second: AccessState, preferred = 1): void {
  bench.portGroups = groups(first, second, preferred);
  bench.device.portGroupsChanged();
}

const reportGroups = (format = 0, allocationBytes = 4096) => [
  0xa3,
  (format << 5) | 0x0a,
  ...be(0, 4),
  ...be(allocationBytes, 4),
  0,
  0,
];

/** AAS with PREF, and STATUS CODE, of each group. */
function statesOf(nexus: BenchNexus): number[][] {
  const data = nexus.run(reportGroups()).dataIn;
  const states: number[][] = [];
  for (let at = 4; at < data.byteLength; at += 8 + 4 * data[at + 7]!) states.push([data[at]!, data[at + 5]!]);
  return states;
}

/** Designators of VPD page 83h by association and type. */
function designators(nexus: BenchNexus): Map<number, number[]> {
  const page = [...nexus.run(cdb.inquiry(0x83, 4096)).dataIn];
  const found = new Map<number, number[]>();
  for (let at = 4; at < page.length; at += 4 + page[at + 3]!)
    found.set(page[at + 1]!, page.slice(at + 4, at + 4 + page[at + 3]!));
  return found;
}

// -------------------------------------------------------------------- what hosts are told

test("REPORT TARGET PORT GROUPS of a pair → byte by byte, in both formats, through either port", () => {
  const { near, far } = pair();
  const descriptors = [
    ...[0x80, 0x0f, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2],
    ...[0x01, 0x0f, 0, 2, 0, 0, 0, 2, 0, 0, 0, 17, 0, 0, 0, 18],
  ];
  for (const nexus of [near, far]) {
    assert.equal([...nexus.run(reportGroups()).dataIn], [...be(32, 4), ...descriptors]);
    assert.equal([...nexus.run(reportGroups(1)).dataIn], [...be(36, 4), 0x10, 0, 0, 0, ...descriptors]);
  }
});

test("every state → its code", () => {
  const { bench, near } = pair();
  for (const [state, code] of [
    ["active-optimized", 0],
    ["active-non-optimized", 1],
    ["standby", 2],
    ["unavailable", 3],
  ] as const) {
    turn(bench, "active-optimized", state);
    near.run([0]);
    assert.is(statesOf(near)[1]![0], code, state);
  }
});

test("an allocation length of every size → that much of the answer, its RETURN DATA LENGTH as it was", () => {
  const { near } = pair();
  for (const format of [0, 1]) {
    const whole = near.run(reportGroups(format)).dataIn;
    for (let length = 0; length <= whole.byteLength + 1; length++) {
      const { status, dataIn } = near.run(reportGroups(format, length));
      assert.is(status, good);
      assert.equal(dataIn, whole.subarray(0, length));
    }
  }
});

test("a group that has no ports → is not reported", () => {
  const bench = new ScsiBench();
  const [own, partner] = groups("active-optimized", "unavailable");
  bench.portGroups = [own!, { ...partner!, ports: [] }];
  assert.equal(statesOf(bench.nexus("a").ready()), [[0x80, 0]]);
});

test("INQUIRY → TPGS 01b; the designators of the port that it came in by beside those of the unit and the device", () => {
  const { near, far } = pair();
  for (const nexus of [near, far]) assert.is(nexus.run(cdb.inquiry(null)).dataIn[5]! & 0x30, 0x10);
  const [here, there] = [designators(near), designators(far)];
  assert.equal([here.get(0x94), there.get(0x94)], [be(1, 4), be(18, 4)], "relative target port");
  assert.equal([here.get(0x95), there.get(0x95)], [be(1, 4), be(2, 4)], "target port group");
  for (const same of [0x03, 0x01, 0xa8]) assert.equal(here.get(same), there.get(same));
  assert.equal([...here.keys()], [0x03, 0x01, 0x94, 0x95, 0x98, 0xa8]);
});

test("control extension mode page → IALUAE where there is more than one group", () => {
  const page = (nexus: BenchNexus) => [...nexus.run([0x1a, 0x08, 0x0a, 0x01, 255, 0]).dataIn].slice(4, 11);
  assert.equal(page(pair().near), [0x4a, 1, 0, 28, 0x01, 0, 252]);
  assert.equal(page(new ScsiBench().nexus("a").ready()), [0x4a, 1, 0, 28, 0x00, 0, 252]);
  const changed = [0, 0, 0, 0, 0x4a, 1, 0, 28, 0, 0, 252, ...new Array<number>(25).fill(0)];
  const task = pair().near.run(cdb.modeSelect6(changed.length), { data: changed });
  assert.is(task.senseCode, 0x052600, "hosts do not turn it off");
});

test("REPORT SUPPORTED OPERATION CODES → REPORT TARGET PORT GROUPS is there, SET TARGET PORT GROUPS is not", () => {
  const { near, far } = pair();
  const one = (opcode: number) => [...near.run([0xa3, 0x0c, 3, opcode, 0, 0x0a, ...be(255, 4), 0, 0]).dataIn];
  assert.equal(one(0xa3), [0, 3, 0, 12, 0xa3, 0xea, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]);
  assert.equal(one(0xa4), [0, 1, 0, 0]);
  const list = [0, 0, 0, 0, 0, 0, 0, 1];
  const set = [0xa4, 0x0a, ...be(0, 4), ...be(list.length, 4), 0, 0];
  for (const nexus of [near, far]) assert.is(nexus.run(set, { data: list }).senseCode, 0x052000);
});

// -------------------------------------------------------------------- states that change

test("a state changes → every nexus is told at every unit, once, and STATUS CODE tells what changed it", () => {
  const { bench, near, far } = pair(2);
  assert.equal(statesOf(near), [
    [0x80, 0],
    [0x01, 0],
  ]);
  turn(bench, "active-non-optimized", "active-optimized");
  for (const nexus of [near, far])
    for (const lun of [0, 1]) {
      assert.is(nexus.run([0], { lun }).senseCode, stateChanged);
      assert.is(nexus.run([0], { lun }).status, good);
    }
  assert.equal(statesOf(far), [
    [0x81, 2],
    [0x00, 2],
  ]);
});

test("nothing has changed, or the preference alone → nobody is told; the preference is reported", () => {
  const { bench, near } = pair();
  turn(bench, "active-optimized", "active-non-optimized");
  assert.is(near.run([0]).status, good);
  turn(bench, "active-optimized", "active-non-optimized", 2);
  assert.is(near.run([0]).status, good);
  assert.equal(statesOf(near), [
    [0x00, 0],
    [0x81, 0],
  ]);
});

test("a group comes or goes → every nexus is told", () => {
  const { bench, near } = pair();
  const both = bench.portGroups;
  for (const present of [both.slice(0, 1), both]) {
    bench.portGroups = present;
    bench.device.portGroupsChanged();
    assert.is(near.run([0]).senseCode, stateChanged);
    assert.is(statesOf(near).length, present.length);
  }
});

test("the groups are others, and the device has not been told → hosts are told and judged by what they were", () => {
  const { bench, near, far } = pair();
  bench.portGroups = groups("active-optimized", "unavailable");
  assert.equal(statesOf(near)[1], [0x01, 0]);
  assert.is(far.run([0]).status, good);
});

test("the source changes its own groups in place → seen with the next change that the device is told of, and not before", () => {
  const bench = new ScsiBench();
  const ports = [1];
  const group = { id: 1, state: "active-optimized" as AccessState, preferred: false, ports };
  bench.portGroups = [group];
  const nexus = bench.nexus("a").ready();
  const before = [...nexus.run(reportGroups()).dataIn];
  group.state = "active-non-optimized";
  ports.push(2);
  assert.equal([...nexus.run(reportGroups()).dataIn], before);
  bench.device.portGroupsChanged();
  assert.is(nexus.run([0]).senseCode, stateChanged);
  const descriptor = [0x01, 0x0f, 0, 1, 0, 2, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2];
  assert.equal([...nexus.run(reportGroups()).dataIn], [...be(16, 4), ...descriptor]);
});

test("a nexus that comes after the change → its power on alone", () => {
  const { bench } = pair();
  turn(bench, "active-non-optimized", "active-optimized");
  const late = bench.nexus("c", 17);
  assert.is(late.run([0]).senseCode, 0x062900);
  assert.is(late.run([0]).status, good);
});

// -------------------------------------------------------------------- what a state allows

const anywhere = ["INQUIRY", "REPORT LUNS", "REPORT TARGET PORT GROUPS", "REQUEST SENSE"];
const inStandby = [
  ...anywhere,
  ...["MODE SENSE(6)", "MODE SENSE(10)", "MODE SELECT(6)", "MODE SELECT(10)"],
  ...["SEND DIAGNOSTIC", "RECEIVE DIAGNOSTIC RESULTS"],
];

for (const [state, allowed, sense] of [
  ["unavailable", anywhere, 0x02040c],
  ["standby", inStandby, 0x02040b],
] as const) {
  test(`every command through a port that is ${state} → what SPC-4 5.16.2.4 lists, the others NOT READY`, () => {
    const { bench, near, far } = pair();
    turn(bench, "active-optimized", state);
    near.run([0]);
    far.run([0]);
    for (const { name, opcode, serviceAction, cdbBytes } of allCommands) {
      const bytes = new Array<number>(cdbBytes).fill(0);
      bytes[0] = opcode;
      bytes[1] = serviceAction ?? 0;
      const isAllowed = allowed.includes(name) || (state === "standby" && name.startsWith("PERSISTENT RESERVE"));
      const task = far.run(bytes);
      if (isAllowed) assert.not.equal(task.senseCode >> 8, sense >> 8, name);
      else assert.is(task.senseCode, sense, name);
    }
    assert.is(far.run([0xee]).senseCode, 0x052000, "an operation code that is none");
    assert.is(far.run([0], { lun: 9 }).senseCode, 0x052500, "a unit that is none");
    assert.is(near.run(cdb.read10(0, 1)).status, good, "the other port");
  });
}

test("an unavailable port → the unit attention comes first, and all is well when it is available again", () => {
  const { bench, far } = pair();
  turn(bench, "active-optimized", "unavailable");
  assert.is(far.run(cdb.read10(0, 1)).senseCode, stateChanged);
  assert.is(far.run(cdb.read10(0, 1)).senseCode, 0x02040c);
  turn(bench, "active-optimized", "active-non-optimized");
  assert.is(far.run(cdb.read10(0, 1)).senseCode, stateChanged);
  assert.is(far.run(cdb.read10(0, 1)).status, good);
});

test("an unavailable port → peripheral qualifier 001b, and REQUEST SENSE says as much", () => {
  const { bench, near, far } = pair();
  turn(bench, "active-optimized", "unavailable");
  for (const page of [null, 0x00, 0x83]) {
    assert.is(far.run(cdb.inquiry(page)).dataIn[0], 0x20);
    assert.is(near.run(cdb.inquiry(page)).dataIn[0], 0x00);
  }
  const { dataIn } = far.run([0x03, 0, 0, 0, 252, 0]);
  assert.equal([dataIn[2], dataIn[12], dataIn[13]], [5, 0x25, 0]);
});

test("an unavailable port under another's reservation → NOT READY, not RESERVATION CONFLICT", () => {
  const { bench, near, far } = pair();
  near.run(cdb.reserveOut(0, 0), { data: reserveList(0, 1) });
  near.run(cdb.reserveOut(1, 3), { data: reserveList(1, 0) });
  assert.is(far.run(cdb.read10(0, 1)).status, reservationConflict);
  turn(bench, "active-optimized", "unavailable");
  far.run([0]);
  const task = far.run(cdb.read10(0, 1));
  assert.equal([task.status, task.senseCode], [checkCondition, 0x02040c]);
});

// -------------------------------------------------------------------- reservations through the ports of both appliances

interface FullStatus {
  readonly key: number;
  readonly flags: number;
  readonly relativePort: number;
  readonly initiatorPort: string;
}

function fullStatus(nexus: BenchNexus): FullStatus[] {
  const { dataIn } = nexus.run(cdb.reserveIn(3));
  const view = new DataView(dataIn.buffer, dataIn.byteOffset, dataIn.byteLength);
  const found: FullStatus[] = [];
  for (let at = 8; at < dataIn.byteLength; at += 24 + view.getUint32(at + 20)) {
    const text = dataIn.subarray(at + 28, at + 24 + view.getUint32(at + 20));
    found.push({
      key: dataIn[at + 7]!,
      flags: dataIn[at + 12]!,
      relativePort: view.getUint16(at + 18),
      initiatorPort: new TextDecoder().decode(text.subarray(0, text.indexOf(0))),
    });
  }
  return found;
}

test("one initiator port registers through both appliances → two registrations, told apart by their ports", () => {
  const { bench, near } = pair();
  const far = bench.nexus("a", 17).ready();
  near.run(cdb.reserveOut(0, 0), { data: reserveList(0, 1) });
  far.run(cdb.reserveOut(0, 0), { data: reserveList(0, 2) });
  assert.is(near.run(cdb.reserveOut(1, 3), { data: reserveList(1, 0) }).status, good);
  assert.equal(fullStatus(far), [
    { key: 1, flags: 1, relativePort: 1, initiatorPort: portOf("a") },
    { key: 2, flags: 0, relativePort: 17, initiatorPort: portOf("a") },
  ]);
  assert.is(near.run(cdb.read10(0, 1)).status, good);
  assert.is(far.run(cdb.read10(0, 1)).status, reservationConflict);
});

test("SPEC_I_PT through the partner's port → the others are registered at that port, and at no other", () => {
  const { bench, far } = pair();
  const id = transportId("c");
  const data = [...reserveList(0, 6, 0x08), ...be(id.length, 4), ...id];
  assert.is(far.run(cdb.reserveOut(0, 0, data.length), { data }).status, good);
  assert.equal(
    fullStatus(far).map(({ relativePort, initiatorPort }) => [relativePort, initiatorPort]),
    [
      [18, portOf("b")],
      [18, portOf("c")],
    ],
  );
  assert.is(far.run(cdb.reserveOut(1, 6), { data: reserveList(6, 0) }).status, good);
  assert.is(bench.nexus("c", 18).ready().run(cdb.read10(0, 1)).status, good);
  assert.is(bench.nexus("c", 2).ready().run(cdb.read10(0, 1)).status, reservationConflict);
});

test("ALL_TG_PT through one appliance, with SPEC_I_PT → registered through every port of both", () => {
  const { bench, far } = pair();
  const id = transportId("c");
  const data = [...reserveList(0, 6, 0x0c), ...be(id.length, 4), ...id];
  assert.is(far.run(cdb.reserveOut(0, 0, data.length), { data }).status, good);
  assert.is(far.run(cdb.reserveOut(1, 6), { data: reserveList(6, 0) }).status, good);
  assert.ok(fullStatus(far).every(({ flags }) => (flags & 2) !== 0));
  for (const name of ["b", "c"])
    for (const port of [1, 2, 17, 18])
      assert.is(bench.nexus(name, port).ready().run(cdb.read10(0, 1)).status, good, `${name} ${port}`);
});

test("REGISTER AND MOVE to a port of the partner, with APTPL → kept over a restart of the device server", () => {
  const { bench, near } = pair();
  near.run(cdb.reserveOut(0, 0), { data: reserveList(0, 1, 1) });
  near.run(cdb.reserveOut(1, 3), { data: reserveList(1, 0) });
  const id = transportId("a");
  const data = [...be(1, 8), ...be(5, 8), 0, 0x03, ...be(17, 2), ...be(id.length, 4), ...id];
  assert.is(near.run(cdb.reserveOut(7, 0, data.length), { data }).status, good);
  bench.start();
  const [here, there] = [bench.nexus("a", 1).ready(), bench.nexus("a", 17).ready()];
  assert.equal(fullStatus(there), [{ key: 5, flags: 1, relativePort: 17, initiatorPort: portOf("a") }]);
  assert.is(there.run(cdb.read10(0, 1)).status, good);
  assert.is(here.run(cdb.read10(0, 1)).status, reservationConflict);
});

test.run();
