/** The front ends of an appliance: relative target port identifiers, target portal groups, SendTargets. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import { TargetDevice } from "../../firmware/frontend/scsi/target_device.ts";
import type { TargetPortGroup } from "../../firmware/frontend/scsi/target_port_groups.ts";
import { HostServers, type PortPlace } from "../../firmware/host_servers.ts";
import { portPlaceOf } from "../../firmware/pair/port_groups.ts";
import type { StreamHandler } from "../../hal/api/byte_stream.ts";
import type { Hal } from "../../hal/api/hal.ts";
import type { HbaPort, HostStream as ServedStream } from "../../hal/api/hba.ts";
import { chapHashes, initiatorName, targetName } from "./support/iscsi_bench.ts";
import { crc32c, Initiator } from "./support/iscsi_initiator.ts";
import { ManualClock } from "./support/manual_clock.ts";
import { MemoryExports, MemoryLuns, MemoryReservations, MemoryVolume } from "./support/memory_target.ts";
import { HostStream } from "./support/nbd_host.ts";

const test = suite("host_servers");

class FakePort implements HbaPort {
  readonly name: string;
  readonly address: string;
  readonly protocol: string;
  readonly movesWithOwner = false;
  accept: ((stream: ServedStream) => StreamHandler) | null = null;

  constructor(name: string, protocol: string) {
    this.name = name;
    this.address = `${name}:${protocol === "nbd" ? 10809 : 3260}`;
    this.protocol = protocol;
  }

  listen(accept: (stream: ServedStream) => StreamHandler, done: (error: string | null) => void): void {
    this.accept = accept;
    done(null);
  }

  close(): void {
    this.accept = null;
  }
}

/** One appliance; `place` as in an array of one appliance unless given. */
class Servers {
  readonly clock = new ManualClock();
  readonly ports = [new FakePort("oak-b-0", "nbd"), new FakePort("oak-b-1", "iscsi"), new FakePort("oak-b-2", "iscsi")];
  readonly servers: HostServers;
  readonly device: TargetDevice;
  groups: readonly TargetPortGroup[] = [
    { id: 1, state: "active-non-optimized", preferred: true, ports: [1, 2] },
    { id: 2, state: "active-optimized", preferred: false, ports: [17, 18] },
  ];
  #sessions = 0;

  constructor(place: PortPlace = { firstPort: 1, portalGroup: 1 }) {
    const { clock } = this;
    const luns = new MemoryLuns();
    luns.add(new MemoryVolume("demo-1", 1 << 20, null));
    const exports = new MemoryExports();
    exports.add(new MemoryVolume("demo-1", 1 << 20, null));
    const reservations = new MemoryReservations(clock);
    this.device = new TargetDevice({ clock, luns, reservations, targetName, portGroups: () => this.groups });
    this.servers = new HostServers({
      hal: {
        clock,
        entropy: { fill: (target: Uint8Array) => target.fill(7) },
        digests: { crc32c, hash: chapHashes.hash },
        hbaPorts: this.ports,
      } as unknown as Hal,
      events: { emit: () => {} },
      exports,
      deviceServer: this.device,
      authority: { required: () => "open", own: null },
      nbdTls: "off",
      targetName,
      place,
      partnerPortals: () => [{ address: "192.0.2.9:3260", portalGroup: 1 }],
    });
  }

  /** A session of a host, logged in; each of another initiator port. */
  atPort(index: number, keys: Record<string, string> = {}): Initiator {
    const stream = new HostStream(this.clock, "192.0.2.7:40000");
    stream.handler = this.ports[index]!.accept!(stream);
    const initiator = new Initiator(stream);
    initiator.isid[5] = ++this.#sessions;
    const answer = initiator.login({ InitiatorName: initiatorName, TargetName: targetName, ...keys });
    assert.is(answer.loginStatus, 0);
    return initiator;
  }
}

/** Relative target port and target port group, of VPD page 83h. */
function placeOf(initiator: Initiator): number[] {
  initiator.command({ cdb: [0x12, 1, 0x83, 1, 0, 0], read: true, expected: 256 });
  const page = initiator.answer().data;
  const values: number[] = [];
  for (let at = 4; at < page.byteLength; at += 4 + page[at + 3]!)
    if (page[at + 1] === 0x94 || page[at + 1] === 0x95) values.push(page[at + 6]! * 256 + page[at + 7]!);
  return values;
}

function testReady(initiator: Initiator): number {
  initiator.command({ cdb: [0], expected: 0 });
  const answer = initiator.answer();
  return answer.data.byteLength === 0 ? 0 : answer.sense;
}

test("the appliances of a pair → ports from 1 in the first group, from 17 in the second", async () => {
  for (const [place, expected] of [
    [
      portPlaceOf("oak-a", "oak-b"),
      [
        [1, 1],
        [2, 1],
      ],
    ],
    [
      portPlaceOf("oak-b", "oak-a"),
      [
        [17, 2],
        [18, 2],
      ],
    ],
  ] as const) {
    const bench = new Servers(place);
    assert.is(await bench.servers.listen(), null);
    assert.equal([placeOf(bench.atPort(1)), placeOf(bench.atPort(2))], expected);
  }
});

test("SendTargets → the portals of both appliances, each with the tag of its target portal group", async () => {
  const bench = new Servers(portPlaceOf("oak-b", "oak-a"));
  await bench.servers.listen();
  const discovery = bench.atPort(1, { SessionType: "Discovery" });
  for (const initiator of [discovery, bench.atPort(2)]) {
    initiator.text({ SendTargets: initiator === discovery ? "All" : "" });
    const addresses = ["oak-b-1:3260,2", "oak-b-2:3260,2", "192.0.2.9:3260,1"].map((one) => `TargetAddress=${one}\0`);
    assert.is(initiator.answer().text, `TargetName=${targetName}\0${addresses.join("")}`);
  }
});

test("a login at either appliance → the tag of that one's target portal group", async () => {
  for (const [place, tag] of [
    [portPlaceOf("oak-a", "oak-b"), "1"],
    [portPlaceOf("oak-b", "oak-a"), "2"],
  ] as const) {
    const bench = new Servers(place);
    await bench.servers.listen();
    const stream = new HostStream(bench.clock, "192.0.2.7:40000");
    stream.handler = bench.ports[1]!.accept!(stream);
    const initiator = new Initiator(stream);
    const answer = initiator.login({ InitiatorName: initiatorName, TargetName: targetName });
    assert.is(answer.keys["TargetPortalGroupTag"], tag);
  }
});

test("the states of the groups change → sessions are told", async () => {
  const bench = new Servers(portPlaceOf("oak-b", "oak-a"));
  await bench.servers.listen();
  const sessions = [bench.atPort(1), bench.atPort(2)];
  for (const initiator of sessions) {
    assert.is(testReady(initiator), 0x062900);
    assert.is(testReady(initiator), 0);
  }
  bench.device.portGroupsChanged();
  for (const initiator of sessions) assert.is(testReady(initiator), 0, "nothing has changed");
  bench.groups = bench.groups.map((group) => ({ ...group, state: "active-optimized" }));
  bench.device.portGroupsChanged();
  for (const initiator of sessions) assert.equal([testReady(initiator), testReady(initiator)], [0x062a06, 0]);
});

test("NBD ports → served; after the end nobody listens", async () => {
  const bench = new Servers();
  await bench.servers.listen();
  const stream = new HostStream(bench.clock);
  stream.handler = bench.ports[0]!.accept!(stream);
  bench.clock.runDeferred();
  assert.is(new TextDecoder().decode(stream.take(8)), "NBDMAGIC");
  bench.servers.close();
  for (const port of bench.ports) assert.is(port.accept, null);
});

test.run();
