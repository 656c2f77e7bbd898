/**
 * Arrays that replicate one group in a simulated world: real replication, real groups, plain stores and caches, mock NICs and
 * clocks. A site crashes and starts again with what was durable.
 */
import * as assert from "uvu/assert";
import { Nvram } from "../../../firmware/cache/nvram.ts";
import { cacheSlotsOf } from "../../../firmware/log/recovery.ts";
import type { Result } from "../../../firmware/manage/control.ts";
import type { PeerJson, PeerMode } from "../../../firmware/manage/status_json.ts";
import { GroupReplication } from "../../../firmware/mirror/group_replication.ts";
import type { ReplicationSettings } from "../../../firmware/peer/limits.ts";
import { ReplicationHost } from "../../../firmware/peer/replication_host.ts";
import type { BlockError, BlockRequest } from "../../../firmware/volume/block_request.ts";
import { Group } from "../../../firmware/volume/group.ts";
import { newGroupDocument } from "../../../firmware/volume/group_document.ts";
import { replicationPort } from "../../../firmware/volume/replication_port.ts";
import { VolumeTarget } from "../../../firmware/volume/volume_target.ts";
import type { Hal } from "../../../hal/api/hal.ts";
import type { MockAppliance } from "../../../hal/mock/appliance.ts";
import { mockDigests } from "../../../hal/mock/runtime.ts";
import { World } from "../../../hal/mock/world.ts";
import { PlainCache } from "./plain_cache.ts";
import { PlainStore } from "./plain_store.ts";

export const groupId = "0123456789abcdef0123456789abcdef";
export const volumeBytes = 4 * 1024 * 1024;

export class Lab {
  readonly world: World;
  readonly sites = new Map<string, Site>();
  readonly settings: Partial<ReplicationSettings>;

  constructor(seed: number, arrays: readonly string[], settings: Partial<ReplicationSettings> = {}) {
    this.world = new World({ seed });
    this.settings = settings;
    for (const [index, name] of arrays.entries()) this.sites.set(name, new Site(this, name, arrays, index + 1));
  }

  site(name: string): Site {
    const site = this.sites.get(name);
    assert.ok(site, `there is a site ${name}`);
    return site!;
  }

  until(what: string, condition: () => boolean, limitMs = 30_000): void {
    if (this.world.runUntil(condition, limitMs)) return;
    const events = [...this.sites.values()].map((site) => site.events.slice(-30).join("\n")).join("\n---\n");
    const stands = [...this.sites.values()].map((site) => site.describe()).join("\n");
    assert.unreachable(`${what} (within ${limitMs} ms)\n${stands}\n${events}`);
  }

  /** The value of a command that succeeds. */
  done<T>(what: string, command: Promise<Result<T>>, limitMs = 60_000): T {
    const result = this.result(what, command, limitMs);
    if (!result.ok) assert.unreachable(`${what}: ${result.error.code}: ${result.error.text}`);
    return (result as { value: T }).value;
  }

  /** The code of a command that is refused. */
  refused<T>(what: string, command: Promise<Result<T>>, limitMs = 60_000): string {
    const result = this.result(what, command, limitMs);
    if (result.ok) assert.unreachable(`${what} is refused`);
    return result.ok ? "" : result.error.code;
  }

  result<T>(what: string, command: Promise<Result<T>>, limitMs: number): Result<T> {
    const found: { result: Result<T> | null } = { result: null };
    command.then((result) => {
      found.result = result;
    });
    this.until(what, () => found.result !== null, limitMs);
    return found.result!;
  }

  cut(a: string, b: string): void {
    this.world.cut(`${a}-a`, `${b}-a`);
  }

  join(a: string, b: string): void {
    this.world.join(`${a}-a`, `${b}-a`);
  }

  /** Two arrays with `demo` on oak, in sync with elm. */
  static pair(seed: number, mode: PeerMode = "async", settings: Partial<ReplicationSettings> = {}): Lab {
    const lab = new Lab(seed, ["oak", "elm"], settings);
    lab.site("oak").create();
    lab.site("oak").start();
    lab.site("elm").start();
    lab.until("oak serves", () => lab.site("oak").replication?.role.is("serving") === true);
    lab.site("oak").addVolume();
    lab.done("elm is added", lab.site("oak").commands.addPeer("elm", mode));
    lab.until("elm is in sync", () => lab.site("oak").peer("elm").state === "in-sync");
    return lab;
  }
}

export class Site {
  readonly lab: Lab;
  readonly name: string;
  readonly machine: MockAppliance;
  readonly events: string[] = [];
  readonly #arrays: readonly string[];
  readonly #arrayId: string;
  #cache: PlainCache | null = null;
  #store: PlainStore | null = null;
  hal!: Hal;
  host!: ReplicationHost;
  group: Group | null = null;
  replication: GroupReplication | null = null;
  shelfLogBytes = 1 << 20;
  cacheTrusted = true;
  /** Its next start is no stop of the array, and its log takes so long to be opened for writing. */
  inherits = false;
  openingMs = 0;
  cacheBytes = 4 << 20;

  constructor(lab: Lab, name: string, arrays: readonly string[], index: number) {
    this.lab = lab;
    this.name = name;
    this.#arrays = arrays;
    this.#arrayId = String(index).repeat(32).slice(0, 32);
    this.machine = lab.world.addAppliance({
      name: `${name}-a`,
      cache: { sizeBytes: 1 << 20, domain: "battery" },
      shelves: [],
      hbaPorts: [],
      nics: [
        { name: "nic0", address: `${name}-a:7400` },
        { name: "nic1", address: `${name}-a:7401` },
      ],
    });
  }

  get commands() {
    assert.ok(this.replication, `${this.name} has the group`);
    return this.replication!.commands;
  }

  get status() {
    return this.replication!.status();
  }

  get log() {
    return this.group!.log;
  }

  peer(array: string): PeerJson {
    const peer = this.replication!.status().peers.find((candidate) => candidate.array === array);
    assert.ok(peer, `${this.name} has a peer ${array}`);
    return peer!;
  }

  describe(): string {
    if (this.replication === null || this.group === null) return `${this.name}: down`;
    const { headSeq, persistedSeq, commitSeq, destagedSeq } = this.group.log;
    const { role, state, why, peers } = this.replication.status();
    const seqs = `${destagedSeq} <= ${commitSeq} <= ${persistedSeq} <= ${headSeq}`;
    return `${this.name}: ${role} ${this.replication.role.state} ${state} ${seqs} why=${why} ${JSON.stringify(peers)}`;
  }

  saw(code: string): boolean {
    return this.events.some((event) => event.startsWith(`${code}:`));
  }

  /** Makes the group here, empty and without peers. */
  create(replication: unknown = null): void {
    const document = { ...newGroupDocument("demo"), replication };
    const clock = this.hal?.clock ?? this.lab.world.hostClock;
    this.#store = new PlainStore(clock, document, { id: groupId, logSlotBytes: 262144 });
  }

  start(): void {
    this.machine.start((hal) => {
      this.hal = hal;
      this.#cache = new PlainCache(hal.clock, this.cacheBytes, "battery", this.#cache?.content());
      this.#store = this.#store?.afterCrash(hal.clock) ?? null;
      this.host = new ReplicationHost({
        hal,
        array: { name: this.name, id: this.#arrayId },
        appliance: `${this.name}-a`,
        peers: this.#arrays
          .filter((array) => array !== this.name)
          .map((array) => ({
            array,
            appliances: [{ name: `${array}-a`, addresses: [`${array}-a:7400`, `${array}-a:7401`] }],
          })),
        events: this.#sink(),
        settings: this.lab.settings,
        groups: {
          find: (id) => {
            if (id !== groupId) return null;
            return this.replication ?? (this.#store === null ? null : "starting");
          },
          createGolden: (info, done) => {
            this.create(info.document);
            this.#open(() => done(this.replication, null));
          },
        },
      });
      this.host.start((errors) => assert.equal(errors, []));
      if (this.#store !== null) this.#open(() => {});
    });
    if (this.#store !== null) this.lab.until(`${this.name} has started`, () => this.replication !== null);
  }

  #sink() {
    return {
      emit: (code: string, text: string) => {
        this.events.push(`${code}: ${text} [${this.name} ${this.lab.world.nowMs.toFixed(0)}]`);
      },
    };
  }

  #open(done: () => void): void {
    const { hal } = this;
    const nvram = new Nvram(this.#cache!, hal.clock, mockDigests);
    const slots = this.cacheTrusted ? cacheSlotsOf(nvram, mockDigests) : new Map<string, number[]>();
    nvram.setUsed(new Map([[groupId, slots.get(groupId) ?? []]]));
    Group.open(
      {
        id: groupId,
        store: this.#store!,
        nvram,
        cacheTrusted: this.cacheTrusted,
        clock: hal.clock,
        digests: mockDigests,
        entropy: hal.entropy,
        events: this.#sink(),
        shelfLogBytes: this.shelfLogBytes,
        moreSpace: (done: (hasCome: boolean) => void) => done(false),
      },
      (error, group) => {
        assert.is(error, null);
        nvram.persistAll(() =>
          group!.settle(() => {
            this.group = group;
            const port = replicationPort(group!, { array: this.name, appliance: `${this.name}-a` });
            this.replication = new GroupReplication(port, this.host);
            const { openForWriting } = group!;
            group!.openForWriting = (opened) =>
              void hal.clock.after(this.openingMs, () => openForWriting.call(group, opened));
            this.replication.start(this.inherits);
            group!.room.thaw();
            done();
          }),
        );
      },
    );
  }

  crash(): void {
    this.machine.crash();
    this.group = null;
    this.replication = null;
  }

  restart(): void {
    this.crash();
    this.start();
  }

  addVolume(number = 1): void {
    let created = false;
    const volume = { number, uuid: "f".repeat(31) + String(number), name: `demo-${number}`, sizeBytes: volumeBytes };
    this.group!.changeVolumes({ op: "create", volume }, () => {
      created = true;
    });
    this.lab.until("the volume is there", () => created);
  }

  /** Starts a write of one block (4 KiB) filled with `value`. */
  submit(block: number, value: number, volume = 1): Written {
    const written: Written = { done: false, error: null };
    const target = new VolumeTarget(this.group!, volume, `demo-${volume}`, false);
    const request: BlockRequest = {
      kind: "write",
      startLba: block * 8,
      blockCount: 8,
      payload: [new Uint8Array(4096).fill(value)],
      target: new Uint8Array(0),
      keepAllocated: false,
      atomic: false,
      miscompareOffset: 0,
      extents: [],
      error: null,
      onDone: (finished) => {
        written.done = true;
        written.error = finished.error;
      },
    };
    target.submit(request);
    return written;
  }

  /** A write that succeeds. */
  write(block: number, value: number, volume = 1): void {
    const written = this.submit(block, value, volume);
    this.lab.until(`the write of ${value} to block ${block}`, () => written.done);
    assert.is(written.error, null);
  }

  /** The first byte of a block, as hosts see it here. */
  read(block: number, volume = 1): number {
    const target = new Uint8Array(4096);
    let answered = false;
    this.group!.read(volume, block, target, (error) => {
      assert.is(error, null, `${this.name} reads block ${block}`);
      answered = true;
    });
    this.lab.until("the read", () => answered);
    assert.ok(
      target.every((byte) => byte === target[0]),
      "a block is never a mixture",
    );
    return target[0]!;
  }

  /** All blocks of a volume, one byte each. */
  image(volume = 1): number[] {
    const target = new Uint8Array(volumeBytes);
    let answered = false;
    this.group!.read(volume, 0, target, (error) => {
      assert.is(error, null, `${this.name} reads volume ${volume}`);
      answered = true;
    });
    this.lab.until("the read", () => answered);
    return Array.from({ length: volumeBytes / 4096 }, (_, block) => target[block * 4096]!);
  }
}

export interface Written {
  done: boolean;
  error: BlockError | null;
}
