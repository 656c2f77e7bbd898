/** One simulated array without peers that runs the whole firmware, and hosts that speak NBD to it. */
import { type StartOutcome, startAppliance } from "../../../firmware/appliance.ts";
import type { Result } from "../../../firmware/manage/control.ts";
import type { MockAppliance } from "../../../hal/mock/appliance.ts";
import type { MockDisk } from "../../../hal/mock/disk.ts";
import { World } from "../../../hal/mock/world.ts";
import { NbdClient } from "../../sim/nbd_client.ts";

const mebibyte = 1048576;
const array = { name: "oak", appliance: "oak-a" };
const patienceMs = 60_000;
const address = "oak-a:10809";

type Running = Extract<StartOutcome, { ok: true }>;

export class SoloArray {
  readonly #world: World;
  readonly #appliance: MockAppliance;
  readonly disk: MockDisk;
  #running: Running | null = null;
  #events: { readonly code: string; readonly text: string }[] = [];

  constructor(seed: number) {
    this.#world = new World({ seed });
    const shelf = this.#world.addShelf({ name: "shelf0", slots: [4096 * mebibyte] });
    this.disk = shelf.disk(0);
    this.#appliance = this.#world.addAppliance({
      name: "oak-a",
      cache: { sizeBytes: 8 * mebibyte, domain: "battery" },
      shelves: [shelf],
      hbaPorts: [{ name: "hba0", address, protocol: "nbd" }],
      nics: [{ name: "nic0", address: "oak-a:7400" }],
    });
  }

  get nowMs(): number {
    return this.#world.kernel.nowMs;
  }

  runFor(ms: number): void {
    this.#world.runFor(ms);
  }

  /** Runs the world until it is so; throws when it is not within `limitMs`. */
  until(what: string, condition: () => boolean, limitMs = patienceMs): void {
    this.#world.runUntil(condition, limitMs);
    if (!condition()) throw new Error(`not within ${limitMs} ms: ${what}`);
  }

  boot(): void {
    let refusal: string | null = null;
    this.#running = null;
    this.#events = [];
    this.#appliance.start((hal) => {
      const config = { array, peers: [], link: { heartbeatMs: 100, peerTimeoutMs: 1000 } };
      startAppliance({
        hal,
        config,
        events: { emit: (code, text) => this.#events.push({ code, text }) },
        version: "test",
      }).then((outcome) => {
        if (outcome.ok) this.#running = outcome;
        else refusal = outcome.text;
      });
    });
    this.until("the appliance serves", () => this.#running !== null || refusal !== null);
    if (refusal !== null) throw new Error(refusal);
  }

  /** Texts of the events of this code since the last start. */
  events(code: string): string[] {
    return this.#events.filter((event) => event.code === code).map(({ text }) => text);
  }

  crash(): void {
    this.#appliance.crash();
  }

  /** In a group of its own, open to any host. */
  addVolume(name: string, sizeBytes: number): void {
    const { volumes, hosts } = this.#running!.control;
    this.#succeed(volumes.create({ name, sizeBytes, group: null, pool: null }));
    if (!hosts.list().some((host) => host.name === "any"))
      this.#succeed(hosts.add({ name: "any", any: true, addresses: [], iqns: [], tlsNames: [] }));
    this.#succeed(hosts.map("any", { volume: name, lun: null, readOnly: false }));
  }

  /** Nothing is left to be moved from the log to the volumes' home. */
  destaged(): boolean {
    return this.#running!.control.status().groups.every((group) => group.appliedSeq === group.commitSeq);
  }

  connect(volume: string): SoloHost {
    const host = new SoloHost();
    this.#world.connectHost(
      address,
      (stream) => {
        host.client = new NbdClient(stream, volume, true, host);
        return host.client;
      },
      () => {
        throw new Error(`nobody listens at ${address}`);
      },
    );
    this.until(`a session on ${volume}`, () => host.isReady);
    return host;
  }

  #succeed<T>(promise: Promise<Result<T>>): void {
    let result: Result<T> | null = null;
    promise.then((value) => {
      result = value;
    });
    this.until("an answer", () => result !== null);
    const answer = result as Result<T> | null;
    if (answer?.ok !== true) throw new Error(answer?.error.text);
  }
}

export class SoloHost {
  client: NbdClient | null = null;
  isReady = false;
  answered = 0;
  readonly errors: number[] = [];
  readonly reads: { readonly offsetBytes: number; readonly data: Uint8Array }[] = [];
  /** Where this host's offsets begin. */
  baseBytes = 0;
  onAnswer: () => void = () => {};
  readonly #offsets = new Map<number, number>();
  #nextCookie = 1;

  get lastRead(): Uint8Array | null {
    return this.reads.at(-1)?.data ?? null;
  }

  read(offsetBytes: number, bytes: number): void {
    const cookie = this.#nextCookie++;
    this.#offsets.set(cookie, offsetBytes);
    this.client!.send("read", cookie, this.baseBytes + offsetBytes, bytes, null);
  }

  write(offsetBytes: number, payload: Uint8Array): void {
    this.client!.send("write", this.#nextCookie++, this.baseBytes + offsetBytes, payload.byteLength, payload);
  }

  ready(): void {
    this.isReady = true;
  }

  reply(cookie: number, errno: number, data: Uint8Array | null): void {
    this.answered++;
    if (errno !== 0) this.errors.push(errno);
    else if (data !== null) this.reads.push({ offsetBytes: this.#offsets.get(cookie)!, data });
    this.onAnswer();
  }

  closed(): void {
    this.isReady = false;
  }

  broken(what: string): void {
    throw new Error(what);
  }
}
