/** The front ends of one appliance of a pair: sessions of the partner's ports, relative target port identifiers, SendTargets. */
import { suite } from "uvu";
import * as assert from "uvu/assert";
import type { TargetPortGroup } from "../../firmware/frontend/scsi/target_port_groups.ts";
import { HostServers, type PairPortGroups } from "../../firmware/host_servers.ts";
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

/** One appliance of the pair; `first` null: an array of one appliance. */
class Servers {
  readonly clock = new ManualClock();
  readonly ports = [new FakePort("oak-b-0", "nbd"), new FakePort("oak-b-1", "iscsi"), new FakePort("oak-b-2", "iscsi")];
  readonly servers: HostServers;
  groups: readonly TargetPortGroup[] = [
    { id: 1, state: "active-non-optimized", preferred: true, ports: [1, 2] },
    { id: 2, state: "active-optimized", preferred: false, ports: [17, 18] },
  ];
  #sessions = 0;

  constructor(first: number | null, ports?: FakePort[]) {
    if (ports !== undefined) this.ports = ports;
    const { clock } = this;
    const luns = new MemoryLuns();
    luns.add(new MemoryVolume("demo-1", 1 << 20, null));
    const exports = new MemoryExports();
    exports.add(new MemoryVolume("demo-1", 1 << 20, null));
    const pair: PairPortGroups | null = first === null ? null : { first, groups: () => this.groups };
    this.servers = new HostServers({
      hal: {
        clock,
        entropy: { fill: (target: Uint8Array) => target.fill(7) },
        digests: { crc32c, hash: chapHashes.hash },
        hbaPorts: this.ports,
      } as unknown as Hal,
      events: { emit: () => {} },
      exports,
      luns,
      authority: { required: () => "open", own: null },
      reservations: new MemoryReservations(clock),
      nbdTls: "off",
      targetName,
      ...(pair === null ? {} : { portGroups: pair, partnerPortals: () => ["192.0.2.9:3260"] }),
    });
  }

  /** A session of a host, logged in; each of another initiator port. */
  session(accept: (stream: HostStream) => StreamHandler | null, keys: Record<string, string> = {}): Initiator {
    const stream = new HostStream(this.clock, "192.0.2.7:40000");
    const handler = accept(stream);
    assert.ok(handler !== null);
    stream.handler = handler;
    const initiator = new Initiator(stream);
    initiator.isid[5] = ++this.#sessions;
    const answer = initiator.login({ InitiatorName: initiatorName, TargetName: targetName, ...keys });
    assert.is(answer.loginStatus, 0);
    return initiator;
  }

  fromPartner(portIndex: number): Initiator {
    return this.session((stream) => this.servers.acceptForPartner("iscsi", portIndex, stream));
  }

  atPort(index: number, keys?: Record<string, string>): Initiator {
    return this.session((stream) => this.ports[index]!.accept!(stream), keys);
  }

  tunnel(protocol: "nbd" | "iscsi", portIndex: number): { stream: HostStream; handler: StreamHandler | null } {
    const stream = new HostStream(this.clock);
    return { stream, handler: this.servers.acceptForPartner(protocol, portIndex, stream) };
  }
}

/** Relative target port and target port group, of VPD page 83h. */
function place(initiator: Initiator): number[] {
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

test("an array of one appliance → ports from 1 in one group, and no partner's sessions", async () => {
  const bench = new Servers(null);
  assert.is(await bench.servers.listen(), null);
  assert.equal(
    [place(bench.atPort(1)), place(bench.atPort(2))],
    [
      [1, 1],
      [2, 1],
    ],
  );
  assert.is(bench.tunnel("iscsi", 0).handler, null);
  assert.is(bench.tunnel("nbd", 0).handler, null);
});

test("the appliances of a pair → each session at the port where it came in, the second one's from 17", async () => {
  for (const [first, own, partners] of [
    [
      1,
      [
        [1, 1],
        [2, 1],
      ],
      [
        [17, 2],
        [18, 2],
      ],
    ],
    [
      17,
      [
        [17, 2],
        [18, 2],
      ],
      [
        [1, 1],
        [2, 1],
      ],
    ],
  ] as const) {
    const bench = new Servers(first);
    assert.is(await bench.servers.listen(), null);
    assert.equal([place(bench.atPort(1)), place(bench.atPort(2))], own);
    assert.equal([place(bench.fromPartner(0)), place(bench.fromPartner(1))], partners);
  }
});

test("SendTargets at either appliance → the portals of both", async () => {
  const bench = new Servers(1);
  await bench.servers.listen();
  const discovery = bench.atPort(1, { SessionType: "Discovery" });
  for (const initiator of [discovery, bench.fromPartner(1)]) {
    initiator.text({ SendTargets: initiator === discovery ? "All" : "" });
    const addresses = ["oak-b-1:3260", "oak-b-2:3260", "192.0.2.9:3260"].map((one) => `TargetAddress=${one},1\0`);
    assert.is(initiator.answer().text, `TargetName=${targetName}\0${addresses.join("")}`);
  }
});

test("the states of the groups change → sessions of both appliances are told", async () => {
  const bench = new Servers(17);
  await bench.servers.listen();
  const sessions = [bench.atPort(1), bench.fromPartner(0)];
  for (const initiator of sessions) {
    assert.is(testReady(initiator), 0x062900);
    assert.is(testReady(initiator), 0);
  }
  bench.servers.portGroupsChanged();
  for (const initiator of sessions) assert.is(testReady(initiator), 0, "nothing has changed");
  bench.groups = bench.groups.map((group) => ({ ...group, state: "active-optimized" }));
  bench.servers.portGroupsChanged();
  for (const initiator of sessions) assert.equal([testReady(initiator), testReady(initiator)], [0x062a06, 0]);
});

test("sessions of the partner's NBD ports → served, also where there are none of its own", async () => {
  const bench = new Servers(1, [new FakePort("oak-a-0", "iscsi")]);
  await bench.servers.listen();
  for (const portIndex of [0, 1, 1]) {
    const { stream, handler } = bench.tunnel("nbd", portIndex);
    stream.handler = handler!;
    bench.clock.runDeferred();
    assert.is(new TextDecoder().decode(stream.take(8)), "NBDMAGIC");
  }
});

test("an appliance without iSCSI ports → serves those of its partner", async () => {
  const bench = new Servers(1, []);
  await bench.servers.listen();
  assert.equal(place(bench.fromPartner(1)), [18, 2]);
});

test("before the start, after the end, and for a port that can not be → null, the stream untouched", async () => {
  const bench = new Servers(1);
  const nobody = (portIndex = 0) => {
    for (const protocol of ["nbd", "iscsi"] as const) {
      const { stream, handler } = bench.tunnel(protocol, portIndex);
      assert.is(handler, null);
      bench.clock.runDeferred();
      assert.equal([stream.state, stream.writes], ["open", 0]);
    }
  };
  nobody();
  await bench.servers.listen();
  for (const portIndex of [-1, 16, 0.5, Number.NaN]) nobody(portIndex);
  assert.ok(bench.tunnel("iscsi", 15).handler !== null);
  bench.servers.close();
  nobody();
});

test("ports of a pair that are numbered otherwise, or too many → the appliance does not start", () => {
  assert.throws(() => new Servers(2));
  const ports = Array.from({ length: 17 }, (_, index) => new FakePort(`oak-a-${index}`, "iscsi"));
  assert.throws(() => new Servers(17, ports));
  assert.not.throws(() => new Servers(null, ports));
});

test.run();
