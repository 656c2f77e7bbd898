/** Array oak as a pair on one shelf, running the whole firmware on the mock hardware, and a host with a path to each appliance. */
import type { Api, ApiAnswer } from "../../../firmware/manage/api.ts";
import type { Result } from "../../../firmware/manage/control.ts";
import { EventLog } from "../../../firmware/manage/events.ts";
import type { Partnership } from "../../../firmware/pair/partnership.ts";
import { createPairApi } from "../../../firmware/pair_api.ts";
import { PairAppliance } from "../../../firmware/pair_appliance.ts";
import type { Hal } from "../../../hal/api/hal.ts";
import type { MockAppliance } from "../../../hal/mock/appliance.ts";
import type { MockShelf } from "../../../hal/mock/shelf.ts";
import { World } from "../../../hal/mock/world.ts";
import { NbdClient } from "../../sim/nbd_client.ts";
import { asBuffer, stampAt, stampSectors } from "../../sim/stamp.ts";

const mebibyte = 1048576;
const patienceMs = 60_000;
export const blockBytes = 4096;

export interface PairBenchTimes {
  readonly heartbeatMs?: number;
  readonly limitMs?: number;
  /** Twice the limit unless given. */
  readonly hungMs?: number;
}

export interface PairBenchOptions extends PairBenchTimes {
  readonly cacheBytes?: number;
  readonly domain?: "battery" | "flush";
  readonly returnAfterMs?: number;
  readonly writesBackAlone?: boolean;
  /** Of each of the shelf's two disks. */
  readonly diskBytes?: number;
  /** `power` unless said. */
  readonly fencing?: "atomic" | "power";
  /** The pool's geometry. */
  readonly store?: { readonly slabBytes: number; readonly logSlotBytes: number; readonly mapCacheBytes: number };
  /** Of the appliance of that name; none unless given. */
  readonly rehearse?: (name: string) => Promise<unknown>;
  /** The pair has `serviceAddress`, with a port. */
  readonly hasService?: boolean;
}

export const serviceAddress = { ip: "192.0.2.100", port: "192.0.2.100:10809", iscsi: "192.0.2.100:3260" } as const;

export class PairMachine {
  readonly name: string;
  readonly machine: MockAppliance;
  appliance: PairAppliance | null = null;
  /** Of this boot. */
  hal: Hal | null = null;
  api: Api | null = null;
  /** What its version, which is on trial, waits for. */
  trial: string | null = null;
  /** Why the process ended by itself. */
  ended: string | null = null;
  readonly events: { readonly code: string; readonly text: string; readonly atMs: number }[] = [];

  constructor(name: string, machine: MockAppliance) {
    this.name = name;
    this.machine = machine;
  }

  /** Of the half that the bench's volumes are in. */
  get partnership(): Partnership | null {
    return this.appliance?.halves[0] ?? null;
  }

  get address(): string {
    return `${this.name}:10809`;
  }

  get role(): string {
    return this.machine.isUp ? (this.partnership?.role ?? "down") : "down";
  }

  get state(): string {
    return this.machine.isUp ? (this.partnership?.status().state ?? "down") : "down";
  }

  saw(code: string): boolean {
    return this.events.some((event) => event.code === code);
  }
}

export class PairBench {
  readonly world: World;
  readonly shelf: MockShelf;
  readonly a: PairMachine;
  readonly b: PairMachine;
  readonly #options: PairBenchOptions;

  constructor(seed: number, options: PairBenchOptions = {}) {
    this.#options = options;
    this.world = new World({ seed });
    this.shelf = this.world.addShelf({
      name: "shelf0",
      slots: [options.diskBytes ?? 4096 * mebibyte, options.diskBytes ?? 4096 * mebibyte],
      fencing: options.fencing ?? "power",
    });
    this.a = this.#machine("oak-a", "oak-b");
    this.b = this.#machine("oak-b", "oak-a");
  }

  #machine(name: string, partner: string): PairMachine {
    const { cacheBytes = 8 * mebibyte, domain = "battery", hasService = false } = this.#options;
    const own = [
      { name: "hba0", address: `${name}:10809`, protocol: "nbd" },
      { name: "hba1", address: `${name}:3260`, protocol: "iscsi" },
    ];
    const moving = [
      { name: "hba2", address: serviceAddress.port, protocol: "nbd" },
      { name: "hba3", address: serviceAddress.iscsi, protocol: "iscsi" },
    ];
    const machine = this.world.addAppliance({
      name,
      cache: { sizeBytes: cacheBytes, domain },
      shelves: [this.shelf],
      hbaPorts: hasService ? [...own, ...moving] : own,
      serviceAddresses: hasService ? [serviceAddress.ip] : [],
      nics: [
        { name: "nic0", address: `${name}:7400` },
        { name: "ic0", address: `${name}:7500` },
        { name: "ic1", address: `${name}:7501` },
      ],
      ...(this.#options.fencing === "atomic" ? {} : { power: { target: partner, how: "process" as const } }),
    });
    return new PairMachine(name, machine);
  }

  get machines(): readonly PairMachine[] {
    return [this.a, this.b];
  }

  get owner(): PairMachine {
    const owner = this.machines.find(({ role }) => role === "owner");
    if (owner === undefined) throw new Error(`nobody owns: ${this.describe()}`);
    return owner;
  }

  other(machine: PairMachine): PairMachine {
    return machine === this.a ? this.b : this.a;
  }

  describe(): string {
    const machines = this.machines.map(({ name, role, state, ended, events }) => {
      const tail = events.slice(-8).map(({ code, text, atMs }) => `    ${atMs.toFixed(1)} ${code}: ${text}`);
      return `  ${name}: ${role}, ${state}, ${ended ?? "runs"}\n${tail.join("\n")}`;
    });
    return `${this.world.nowMs.toFixed(1)} ms\n${machines.join("\n")}`;
  }

  /** `times`: where its profile says something else than the bench's. */
  start(which: PairMachine, words: { readonly acceptCacheLoss?: boolean } = {}, times: PairBenchTimes = {}): void {
    const { rehearse } = this.#options;
    const { heartbeatMs = 100, limitMs = 1000, hungMs = 2 * limitMs } = { ...this.#options, ...times };
    which.appliance = null;
    which.ended = null;
    const partner = this.other(which).name;
    which.machine.start((hal) => {
      which.hal = hal;
      const appliance = new PairAppliance({
        hal,
        config: {
          array: { name: "oak", appliance: which.name },
          peers: [],
          link: { heartbeatMs: 100, peerTimeoutMs: 1000 },
          ...(this.#options.store === undefined ? {} : { store: this.#options.store }),
          ...words,
        },
        pair: {
          partner,
          nics: ["ic0", "ic1"],
          addresses: [`${partner}:7500`, `${partner}:7501`],
          preferred: which === this.a,
          returnAfterMs: this.#options.returnAfterMs ?? null,
          writesBackAlone: this.#options.writesBackAlone ?? false,
          heartbeatMs,
          limitMs,
          hungMs,
        },
        events: { emit: (code, text) => which.events.push({ code, text, atMs: this.world.nowMs }) },
        version: "test",
        ...(rehearse === undefined ? {} : { rehearse: () => rehearse(which.name) }),
        end: (text) => {
          which.ended = text;
          which.machine.crash();
        },
      });
      which.appliance = appliance;
      which.api = createPairApi({
        pair: appliance,
        array: "oak",
        appliance: which.name,
        version: "test",
        events: new EventLog(hal.clock, () => {}),
        clock: hal.clock,
        lab: null,
        trial: () => which.trial,
      });
      void appliance.start().then((trouble) => {
        if (trouble !== null) throw new Error(trouble);
      });
    });
  }

  /** Runs the world until it is so; throws when it is not within `limitMs`. */
  until(what: string, condition: () => boolean, limitMs = patienceMs): void {
    this.world.runUntil(condition, limitMs);
    if (!condition()) throw new Error(`not within ${limitMs} ms: ${what}\n${this.describe()}`);
  }

  runFor(ms: number): void {
    this.world.runFor(ms);
  }

  /** Both run, one owns, and the copy is complete. */
  startBoth(): void {
    this.start(this.a);
    this.start(this.b);
    this.untilMirrored();
  }

  untilMirrored(): void {
    this.until("the pair is mirrored", () =>
      this.machines.some(({ role, state }) => role === "owner" && state === "mirrored"),
    );
  }

  /** The owners of both halves, in order. */
  untilHalves(first: "a" | "b", second: "a" | "b"): void {
    const isOwner = (which: "a" | "b", half: number): boolean =>
      this[which].machine.isUp && this[which].appliance?.halves[half]?.role === "owner";
    const running = () =>
      this.machines.flatMap(({ machine, appliance }) => (machine.isUp ? (appliance?.halves ?? []) : []));
    const isKnown = () => running().every(({ role, theirGroups }) => role !== "standby" || theirGroups !== null);
    this.until(`${first} and ${second} own the halves`, () => isOwner(first, 0) && isOwner(second, 1) && isKnown());
  }

  /** Both run, and the copies of both halves are complete. */
  untilAllMirrored(): void {
    const owners = () =>
      this.machines.flatMap(({ machine, appliance }) => (machine.isUp ? (appliance?.halves ?? []) : []));
    this.until(
      "both halves are mirrored",
      () => owners().filter((half) => half.role === "owner" && half.status().state === "mirrored").length === 2,
    );
  }

  /** The interconnect. */
  cut(isCut: boolean): void {
    if (isCut) this.world.cut("oak-a", "oak-b");
    else this.world.join("oak-a", "oak-b");
  }

  /** A request of the management API at an appliance. */
  call<T>(at: PairMachine, method: string, path: string, body: object = {}): T {
    const answer = this.#ask(at, method, path, body);
    if (answer.status !== 200) throw new Error(`${method} ${path}: ${JSON.stringify(answer.body)}`);
    return answer.body as T;
  }

  /** The code with which it is refused. */
  refusal(at: PairMachine, method: string, path: string, body: object): string | null {
    const answer = this.#ask(at, method, path, body);
    return answer.status === 200 ? null : (answer.body as { error: { code: string } }).error.code;
  }

  #ask(at: PairMachine, method: string, path: string, body: object): ApiAnswer {
    const text = Object.keys(body).length === 0 ? "" : JSON.stringify(body);
    return this.answer(at.api!(method, path, text));
  }

  answer<T>(promise: Promise<T>): T {
    let result: { value: T } | null = null;
    promise.then((value) => {
      result = { value };
    });
    this.until("an answer", () => result !== null);
    return (result as unknown as { value: T }).value;
  }

  succeed<T>(promise: Promise<Result<T>>): T {
    const answer = this.answer(promise);
    if (!answer.ok) throw new Error(answer.error.text);
    return answer.value;
  }

  addVolume(name: string, sizeBytes: number): void {
    const { volumes, hosts } = this.owner.partnership!.engine!.control;
    this.succeed(volumes.create({ name, sizeBytes, group: null, pool: null }));
    if (!hosts.list().some((host) => host.name === "any"))
      this.succeed(hosts.add({ name: "any", any: true, addresses: [], iqns: [], tlsNames: [] }));
    this.succeed(hosts.map("any", { volume: name, lun: null, readOnly: false }));
  }

  /** What has been stored and needs no persist of its own goes along with the next. */
  settleStores(): void {
    for (const { appliance } of this.machines)
      for (const { role, mirror } of appliance!.halves)
        if (role === "owner") this.answer(new Promise<string>((resolve) => mirror.persist(resolve)));
  }

  /** Both caches hold the same, byte for byte. */
  cachesAreAlike(): boolean {
    return Buffer.compare(this.a.machine.nvram.image().bytes, this.b.machine.nvram.image().bytes) === 0;
  }

  /** `paths`: the addresses that it knows. */
  host(
    volume: string,
    blocks: number,
    paths: readonly string[] = this.machines.map(({ address }) => address),
  ): PathHost {
    return new PathHost(this, volume, blocks, paths);
  }
}

/**
 * A host that writes without pause to one block after the other, each block's writes numbered, over whichever path answers; what was
 * not answered when a path broke is written again.
 */
const depth = 6;
/** Between an answer and the next write: enough writes for every test, and not more. */
const thinkMs = 2;

export class PathHost {
  readonly #bench: PairBench;
  readonly #volume: string;
  readonly #blocks: number;
  #client: NbdClient | null = null;
  #ready = false;
  #connecting = false;
  #paths: readonly string[];
  #next = 1;
  #cookie = 1;
  /** By block: the newest number that was acknowledged, and the newest that was sent. */
  readonly acked: number[];
  readonly sent: number[];
  readonly #underWay = new Map<number, { block: number; number: number }>();
  #running = false;
  acks = 0;
  lastAckMs = 0;
  longestGapMs = 0;
  #reading: ((data: Uint8Array | null) => void) | null = null;
  #filled: ((errno: number) => void) | null = null;

  constructor(bench: PairBench, volume: string, blocks: number, paths: readonly string[]) {
    this.#bench = bench;
    this.#volume = volume;
    this.#blocks = blocks;
    this.#paths = paths;
    this.acked = new Array<number>(blocks).fill(0);
    this.sent = new Array<number>(blocks).fill(0);
  }

  run(): void {
    this.#running = true;
    this.lastAckMs = this.#bench.world.nowMs;
    this.#connect();
    this.#issue();
  }

  /** Stops writing, and waits for what is under way. */
  rest(): void {
    this.#running = false;
    this.#bench.until("the host's writes are answered", () => this.#underWay.size === 0);
  }

  /** Writes so many bytes of the volume from its start on, each once. */
  fill(byteCount: number): void {
    this.#connect();
    this.#bench.until("a path", () => this.#ready);
    const chunkBytes = 1048576;
    let underWay = 0;
    let at = 0;
    let failed = 0;
    const data = new Uint8Array(chunkBytes).fill(0x5a);
    this.#filled = (errno) => {
      underWay--;
      if (errno !== 0) failed = errno;
    };
    while (at < byteCount) {
      this.#client!.send("write", this.#cookie++, at, chunkBytes, data);
      at += chunkBytes;
      underWay++;
      this.#bench.until("room for another write", () => underWay < 8);
    }
    this.#bench.until("all is written", () => underWay === 0);
    this.#filled = null;
    if (failed !== 0) throw new Error(`a write failed: ${failed}`);
  }

  /** Every block holds what was acknowledged last, or something newer that was sent. */
  verify(): string | null {
    for (let block = 0; block < this.#blocks; block++) {
      const data = this.#read(block);
      const stamp = stampAt(asBuffer(data), 0, 0, block * 8);
      if (stamp < this.acked[block]! || stamp > this.sent[block]!)
        return `block ${block} holds ${stamp}, acknowledged was ${this.acked[block]}, sent ${this.sent[block]}`;
    }
    return null;
  }

  #read(block: number): Uint8Array {
    for (let tries = 0; tries < 20; tries++) {
      this.#connect();
      this.#bench.until("a path", () => this.#ready);
      let result: Uint8Array | null = null;
      let isOver = false;
      this.#reading = (data) => {
        result = data;
        isOver = true;
      };
      this.#client!.send("read", this.#cookie++, block * blockBytes, blockBytes, null);
      this.#bench.until("an answer to a read", () => isOver);
      if (result !== null) return result;
    }
    throw new Error(`block ${block} cannot be read\n${this.#bench.describe()}`);
  }

  #connect(): void {
    if (this.#client !== null || this.#connecting) return;
    this.#connecting = true;
    const path = this.#paths[0]!;
    const failed = () => {
      this.#connecting = false;
      this.#client = null;
      this.#ready = false;
      this.#reading?.(null);
      this.#reading = null;
      this.#paths = [...this.#paths.slice(1), path];
      this.#bench.world.hostClock.after(20, () => this.#connect());
    };
    this.#bench.world.connectHost(
      path,
      (stream) => {
        this.#connecting = false;
        this.#client = new NbdClient(stream, this.#volume, true, {
          ready: () => {
            this.#ready = true;
            for (const [cookie, { block, number }] of [...this.#underWay]) {
              this.#underWay.delete(cookie);
              this.#send(block, number);
            }
            this.#issue();
          },
          reply: (cookie, errno, data) => this.#answered(cookie, errno, data),
          closed: failed,
          broken: (what) => {
            throw new Error(what);
          },
        });
        return this.#client;
      },
      failed,
    );
  }

  #issue(): void {
    while (this.#running && this.#ready && this.#underWay.size < depth) {
      const number = this.#next++;
      const busy = new Set([...this.#underWay.values()].map(({ block }) => block));
      let block = number % this.#blocks;
      while (busy.has(block)) block = (block + 1) % this.#blocks;
      this.sent[block] = number;
      this.#send(block, number);
    }
  }

  #send(block: number, number: number): void {
    const payload = new Uint8Array(blockBytes);
    stampSectors(payload, number, 0, block * 8);
    const cookie = this.#cookie++;
    this.#underWay.set(cookie, { block, number });
    this.#client!.send("write", cookie, block * blockBytes, blockBytes, payload);
  }

  #answered(cookie: number, errno: number, data: Uint8Array | null): void {
    const write = this.#underWay.get(cookie);
    if (write === undefined && this.#filled !== null) return this.#filled(errno);
    if (write === undefined) {
      const reading = this.#reading;
      this.#reading = null;
      reading?.(errno === 0 ? data : null);
      return;
    }
    this.#underWay.delete(cookie);
    if (errno !== 0) {
      this.#send(write.block, write.number);
      return;
    }
    this.acked[write.block] = write.number;
    this.acks++;
    const { nowMs } = this.#bench.world;
    this.longestGapMs = Math.max(this.longestGapMs, nowMs - this.lastAckMs);
    this.lastAckMs = nowMs;
    this.#bench.world.hostClock.after(thinkMs, () => this.#issue());
  }
}

/** A mirrored pair with a volume `v1`, and a host that writes to 500 blocks of it all the time. */
export function benchWithHost(
  seed: number,
  options: PairBenchOptions = {},
  paths?: readonly string[],
): { bench: PairBench; host: PathHost } {
  const bench = new PairBench(seed, options);
  bench.startBoth();
  bench.addVolume("v1", 64 * mebibyte);
  const host = bench.host("v1", 500, paths);
  host.run();
  bench.until("some writes", () => host.acks > 300);
  return { bench, host };
}
