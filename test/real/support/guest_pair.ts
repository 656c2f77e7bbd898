/**
 * A pair of appliances as two processes in a guest, with a shelf whose one disk each reaches as an initiator of its own
 * (`scripts/guest_image/shelf_image.ts`). Hosts and the management come in from this machine, by forwarded ports.
 */
import { randomBytes } from "node:crypto";
import type { PairStatusJson } from "../../../firmware/manage/status_json.ts";
import { askAppliance } from "../../../firmware/shell/ask.ts";
import { shelfFolder } from "../../../scripts/guest_image/shelf_image.ts";
import { waitUntil } from "../../../scripts/lab_site/wait.ts";
import { freePorts } from "./appliance.ts";
import type { Guest } from "./guest.ts";

export const guestPartners = ["oak-a", "oak-b"] as const;
export type GuestPartner = (typeof guestPartners)[number];

/** What takes ten seconds on an idle machine; the tests beside it take their share. */
const stepLimitMs = 300_000;
const pollMs = 300;
const askLimitMs = 60_000;
const guestAddress = "10.0.2.15";
/** Of an emulated machine; the limit is their product. A main loop stands still for seconds in its start. */
const heartbeat = { everyMs: 1000, missedMax: 8, hungMs: 60_000 } as const;

interface Ports {
  readonly nbd: number;
  readonly manage: number;
}

export class GuestPair {
  readonly #guest: Guest;
  readonly #ports: Record<GuestPartner, Ports>;
  readonly #secret: string;
  readonly #pids = new Map<GuestPartner, number>();

  private constructor(guest: Guest, ports: Record<GuestPartner, Ports>, secret: string) {
    this.#guest = guest;
    this.#ports = ports;
    this.#secret = secret;
  }

  /** Of this machine, to be forwarded to the guest that the pair will be in. */
  static async ports(): Promise<Record<GuestPartner, Ports>> {
    const [nbdA, manageA, nbdB, manageB] = (await freePorts(4)) as [number, number, number, number];
    return { "oak-a": { nbd: nbdA, manage: manageA }, "oak-b": { nbd: nbdB, manage: manageB } };
  }

  /** `disks`: by which device each reaches the shelf's disk. Nothing is started yet. */
  static async make(
    guest: Guest,
    ports: Record<GuestPartner, Ports>,
    disks: Record<GuestPartner, string>,
  ): Promise<GuestPair> {
    const secret = randomBytes(16).toString("hex");
    const pair = new GuestPair(guest, ports, secret);
    for (const name of guestPartners) await pair.setDisk(name, disks[name]);
    return pair;
  }

  async setDisk(name: GuestPartner, device: string): Promise<void> {
    const script = 'printf %s "$1" > "$2"';
    await this.#guest.runOk("sh", "-c", script, "sh", this.#profile(name, device), `/run/${name}.toml`);
  }

  #profile(name: GuestPartner, device: string): string {
    const isFirst = name === guestPartners[0];
    const own = isFirst ? 0 : 10;
    const { nbd, manage } = this.#ports[name];
    return `[array]
name = "oak"
appliance = "${name}"
[manage]
socket = "/run/${name}.sock"
listen = "${guestAddress}:${manage}"
secret = "${this.#secret}"
[log]
file = "/run/${name}.log"
[cache]
path = "/run/${name}.nvram"
size = "16MiB"
persistence = "battery"
[[hba]]
name = "hba0"
listen = "${guestAddress}:${nbd}"
protocol = "nbd"
[[hba]]
name = "hba1"
listen = "127.0.0.1:${7000 + own}"
protocol = "nbd"
[[nic]]
name = "ic0"
listen = "127.0.0.1:${7500 + own}"
[[nic]]
name = "ic1"
listen = "127.0.0.1:${7501 + own}"
[pair]
partner = "${isFirst ? guestPartners[1] : guestPartners[0]}"
nics = ["ic0", "ic1"]
addresses = ["127.0.0.1:${7510 - own}", "127.0.0.1:${7511 - own}"]
preferred = ${isFirst}
heartbeat_ms = ${heartbeat.everyMs}
missed_max = ${heartbeat.missedMax}
hung_ms = ${heartbeat.hungMs}
[[shelf]]
name = "shelf0"
fencing = "atomic"
[[shelf.disk]]
slot = 0
path = "${device}"
`;
  }

  /** Returns at once; what it says is in `said`. */
  async start(name: GuestPartner): Promise<void> {
    const script = `UV_THREADPOOL_SIZE=16 setsid bun ${shelfFolder}/main.js --profile /run/${name}.toml > /run/${name}.out 2>&1 < /dev/null & echo $!`;
    this.#pids.set(name, Number(await this.#guest.runOk("sh", "-c", script)));
  }

  /** `kill -SIGNAL`. */
  async signal(name: GuestPartner, signal: "STOP" | "CONT" | "KILL" | "TERM"): Promise<void> {
    await this.#guest.runOk("kill", `-${signal}`, String(this.#pids.get(name)));
  }

  async whenEnded(name: GuestPartner): Promise<void> {
    await this.#until(`the end of ${name}`, async () => {
      const { code } = await this.#guest.run("test", "-d", `/proc/${this.#pids.get(name)}`);
      return code !== 0;
    });
  }

  /** What its last start has written to its console. */
  async said(name: GuestPartner): Promise<string> {
    return await this.#guest.runOk("cat", `/run/${name}.out`);
  }

  async eventsOf(name: GuestPartner): Promise<string> {
    return await this.#guest.runOk("cat", `/run/${name}.log`);
  }

  async whenEvent(name: GuestPartner, text: string): Promise<void> {
    await this.#until(`${name} to say: ${text}`, async () => (await this.eventsOf(name)).includes(text));
  }

  url(name: GuestPartner, volume: string): string {
    return `nbd://127.0.0.1:${this.#ports[name].nbd}/${volume}`;
  }

  async demand<T>(name: GuestPartner, method: string, path: string, body?: unknown): Promise<T> {
    const answer = await this.#ask(name, method, path, body);
    if (!answer.ok) throw new Error(`${name}: ${method} ${path}: ${answer.text} (${answer.code})`);
    return answer.value as T;
  }

  /** Until `name` says so of the pair. */
  async whenPair(name: GuestPartner, what: string, isSo: (pair: PairStatusJson) => boolean): Promise<void> {
    await this.#until(`${name}: ${what}`, async () => {
      const answer = await this.#ask(name, "GET", "/v1/pair");
      return answer.ok && isSo(answer.value as PairStatusJson);
    });
  }

  #ask(name: GuestPartner, method: string, path: string, body?: unknown) {
    const at = `http://admin:${this.#secret}@127.0.0.1:${this.#ports[name].manage}`;
    return askAppliance(at, method, path, body, askLimitMs);
  }

  async #until(what: string, condition: () => Promise<boolean>): Promise<void> {
    const found = await waitUntil(stepLimitMs, pollMs, async () => ((await condition()) ? true : null));
    if (found !== null) return;
    const said = await Promise.all(
      guestPartners.map(async (name) => (await this.#guest.run("tail", "-n", "15", `/run/${name}.log`)).out),
    );
    throw new Error(`waited ${stepLimitMs} ms in vain for ${what}\n${said.join("\n")}`);
  }
}

/** Every port of this machine that a pair needs. */
export function portsOf(ports: Record<GuestPartner, Ports>): number[] {
  return guestPartners.flatMap((name) => [ports[name].nbd, ports[name].manage]);
}
